"""Where a calibration comes from: images that were held out, other good images, or folds; and how it is shown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from blemish.calibration.thresholds import (
    FALSE_ALARM_RATE,
    Calibration,
    Method,
    calibrate,
    changed,
    conformal_threshold,
    false_alarm_bound,
    miss_rate,
    pixel_levels,
    smallest_rate,
)
from blemish.data.category import Category, file_digests, find_category, num_held_out
from blemish.data.layouts.folder import read_folder
from blemish.data.source import ImageSource, load
from blemish.errors import BlemishError
from blemish.imaging.roi import Roi, counted
from blemish.inference.inspector import Inspector, backend_of
from blemish.model.changes import changing, write_model
from blemish.model.folder import ModelFolder, read_model
from blemish.model.locking import REFUSES, WAITS
from blemish.progress import Phases, no_progress, told
from blemish.types import Prediction, Sample

if TYPE_CHECKING:
    from blemish.detectors.base import Detector

RATES = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
"""False-alarm rates that are shown side by side, as far as there are images enough."""
DIGEST_LENGTH = 16
"""Digits kept of the SHA-256 of each training image, enough to know one again."""


def calibrate_on(
    predictions: Iterable[Prediction], roi: Roi | None, rate: float | None = None, method: Method = "split"
) -> tuple[Calibration | None, list[Prediction]]:
    """The calibration from predictions of good images that were not learned from, and these without their maps.

    Without a rate it is FALSE_ALARM_RATE, or the smallest that the images support. None where there is no image.
    Raises BlemishError where there are too few images for the rate that is given.
    """
    seen: list[Prediction] = []

    def maps() -> Iterator[NDArray[np.float32]]:
        for prediction in predictions:
            seen.append(replace(prediction, map=np.zeros((0, 0), np.float32)))
            yield counted(prediction.map, roi)

    remaining = maps()
    first = next(remaining, None)
    if first is None:
        return None, []
    levels = pixel_levels(chain([first], remaining))
    scores = [prediction.score for prediction in seen]
    return calibrate(scores, levels, rate or max(FALSE_ALARM_RATE, smallest_rate(len(seen))), method=method), seen


def calibrate_model(
    path: Path,
    *,
    false_alarm_rate: float | None = None,
    images: Path | None = None,
    folds: int | None = None,
    data_path: Path | None = None,
    threshold: float | None = None,
    pixel_rate: float | None = None,
    pixel_threshold: float | None = None,
    min_area: int | None = None,
    phases: Phases = lambda _: no_progress,
) -> ModelFolder:
    """The model in the folder `path` with its calibration changed, written if anything was asked for.

    Other images change the scores and levels that are chosen by, not the choice of pixels and areas. Raises
    BlemishError where the images do not support what is asked for; the folder is then as it was.
    """
    _refuse_both("images", images, "folds", folds)
    _refuse_both("false-alarm-rate", false_alarm_rate, "threshold", threshold)
    _refuse_both("pixel-rate", pixel_rate, "pixel-threshold", pixel_threshold)
    if data_path is not None and folds is None:
        raise BlemishError("data_path: only --folds reads it. Add --folds, or give other good images by --images.")
    chosen: dict[str, Any] = {"threshold": threshold, "pixel_rate": pixel_rate, "pixel_threshold": pixel_threshold}
    given = {name: value for name, value in (chosen | {"min_area": min_area}).items() if value is not None}
    if not given and false_alarm_rate is None and images is None and folds is None:
        return read_model(path)
    patience = WAITS if images is None and folds is None else REFUSES
    with changing(path, "calibrate", patience) as model:
        calibration = _chosen(model, given, false_alarm_rate, images, folds, data_path, phases)
        return write_model(replace(model, calibration=calibration))


def _chosen(
    model: ModelFolder,
    given: dict[str, Any],
    false_alarm_rate: float | None,
    images: Path | None,
    folds: int | None,
    data_path: Path | None,
    phases: Phases,
) -> Calibration:
    """The calibration that was asked for; BlemishError where there is nothing that it could be chosen by."""
    calibration = model.calibration
    if images is not None:
        calibration = _from_images(model, images, false_alarm_rate, phases)
    elif folds is not None:
        calibration = _from_folds(model, folds, data_path, false_alarm_rate, phases)
    elif false_alarm_rate is not None:
        given = given | {"false_alarm_rate": false_alarm_rate}
    if calibration is None and "threshold" in given:
        level = given.get("pixel_threshold", given["threshold"])
        calibration = Calibration(given["threshold"], level, None, None, (), ())
    if calibration is None:
        raise BlemishError(
            f"{model.folder}: no good images were held out. Give --images FOLDER, --folds, or --threshold."
        )
    return changed(calibration, **_kept(model.calibration, given) | given)


def _refuse_both(first: str, one: object, second: str, other: object) -> None:
    if one is not None and other is not None:
        raise BlemishError(f"{first}, {second}: one says what the other does. Leave one out.")


def _kept(before: Calibration | None, given: Collection[str]) -> dict[str, Any]:
    """What was chosen of pixels and areas, as far as nothing else is now."""
    if before is None:
        return {}
    kept: dict[str, Any] = {"min_area": before.min_area}
    is_implied = not before.num_images and before.pixel_threshold == before.threshold
    if "pixel_rate" in given or "pixel_threshold" in given or is_implied:
        return kept
    by_hand = before.pixel_rate is None
    return kept | ({"pixel_threshold": before.pixel_threshold} if by_hand else {"pixel_rate": before.pixel_rate})


def _from_images(model: ModelFolder, folder: Path, rate: float | None, phases: Phases) -> Calibration:
    """From a folder of good images, or of such a folder `good` and others of labelled defects."""
    samples = [sample for found in read_folder(folder).values() for sample in found] if folder.is_dir() else []
    if not samples:
        raise BlemishError(f"images {folder}: no good images found. Expected a folder of them, or one named 'good'.")
    samples = _unknown(model, samples)
    inspector = Inspector(backend_of(model), model.preprocess)
    good, bad = ([sample for sample in samples if bool(sample.label) is label] for label in (False, True))
    _check_rate(rate, len(good))
    predictions = told(inspector.predict(good), len(good), phases("good images"))
    calibration, _ = calibrate_on(predictions, model.preprocess.roi, rate)
    assert calibration is not None
    scores = [found.score for found in told(inspector.predict(bad), len(bad), phases("defects"))] if bad else []
    return replace(calibration, defect_scores=tuple(sorted(scores)) or _defect_scores(model))


def _from_folds(
    model: ModelFolder, folds: int, data_path: Path | None, rate: float | None, phases: Phases
) -> Calibration:
    """Each good image is scored by a detector that was fitted to the others, a fold of them left out at a time.

    Of those others as many are held out as for the detector in use: by them scores are brought to the same scale. Files
    of the same content are left out together, and scored once.
    """
    source = _training_images(model, data_path, phases)
    if not 2 <= folds <= (number := len(set(digests(source)))):
        raise BlemishError(f"folds: {folds} was given; allowed are 2 to {number}, the number of pictures.")
    _check_rate(rate, number)
    predictions = told(_left_out(model, source, folds), number, phases("folds"))
    calibration, _ = calibrate_on(predictions, model.preprocess.roi, rate, "folds")
    assert calibration is not None
    return replace(calibration, defect_scores=_defect_scores(model))


def _check_rate(rate: float | None, number: int) -> None:
    """Raises BlemishError before any work is done where so many images do not support the rate."""
    if rate is not None:
        conformal_threshold(range(number), rate)


def _left_out(model: ModelFolder, source: ImageSource, folds: int) -> Iterator[Prediction]:
    from blemish.inference.torch_backend import TorchBackend

    config = model.provenance.get("config", {})
    seed, fraction = int(config.get("seed", 0)), float(config.get("validation", 0.1))
    copies: dict[str, list[Sample]] = defaultdict(list)
    for sample, digest in zip(source.samples, digests(source), strict=True):
        copies[digest].append(sample)
    pictures = list(copies.values())
    order = np.random.default_rng(seed).permutation(len(pictures)).tolist()
    for start in range(folds):
        fold = order[start::folds]
        others = [row for row in order if row not in fold]
        count = num_held_out(len(others), fraction)
        held_out, learned = (
            source.where({sample for row in rows for sample in pictures[row]}.__contains__)
            for rows in (others[:count], others[count:])
        )
        left = source.where({pictures[row][0] for row in fold}.__contains__)
        detector = _closed_form_detector(model).fit(learned, validation=held_out if count else None, seed=seed)
        yield from Inspector(TorchBackend(detector), model.preprocess).predict(left)


def _closed_form_detector(model: ModelFolder) -> Detector:
    from blemish.detectors import detector_class

    detector = detector_class(model.model).create(**model.options)
    if hasattr(detector, "losses"):  # it learns by gradient
        raise BlemishError(f"folds: {model.model} is trained for epochs, each fold anew. Give --images FOLDER instead.")
    return detector


def data_of(model: ModelFolder, data_path: Path | None) -> Category:
    """The category that the model was fitted to, under `data_path` or else where it was then."""
    known = data_path or model.provenance.get("data_path")
    if known is None or not Path(known).is_dir():
        raise BlemishError(
            f"data_path {known or ''}: no such folder. Give --data_path, the images that the detector was fitted to."
        )
    return find_category(Path(known), model.category)


def _training_images(model: ModelFolder, data_path: Path | None, phases: Phases) -> ImageSource:
    """The good training images, those that were held out among them; refused where they are not the model's."""
    _closed_form_detector(model)
    category = data_of(model, data_path)
    source = load(category.of("train"), model.preprocess, progress=phases("reading"))
    for info in source.files:
        if info.error:
            raise BlemishError(info.error)
    learned = set(model.provenance.get("learned_from", []))
    if not learned <= set(digests(source)):
        raise BlemishError(f"data_path {category.root}: not the images that {model.folder} was fitted to. Give those.")
    return source


def digests(source: ImageSource) -> list[str]:
    """By what each file is known again, in order of the files."""
    return [info.sha256[:DIGEST_LENGTH] for info in source.files]


def without_copies(source: ImageSource) -> ImageSource:
    """The source with one of all files of the same content: a picture that counted twice would prove what one does."""
    firsts = set(dict(zip(reversed(digests(source)), reversed(source.samples), strict=True)).values())
    return source.where(firsts.__contains__)


def _unknown(model: ModelFolder, samples: Sequence[Sample]) -> list[Sample]:
    """The samples, one of each content; a threshold from images that were learned from would be far too low."""
    learned = set(model.provenance.get("learned_from", []))
    found: dict[str, Sample] = {}
    known = file_digests([sample.image for sample in samples])
    for sample in samples:
        digest = known[sample.image][:DIGEST_LENGTH]
        if digest in learned:
            raise BlemishError(f"{sample.image}: was learned from. Give good images that the detector has not seen.")
        found.setdefault(digest, sample)
    return list(found.values())


def _defect_scores(model: ModelFolder) -> tuple[float, ...]:
    return model.calibration.defect_scores if model.calibration else ()


def describe(model: ModelFolder) -> tuple[list[str], Table | None]:
    """What the calibration says, in sentences, and what other rates would mean, as a table."""
    calibration = model.calibration
    if calibration is None:
        return [f"{model.folder}: not calibrated. Give --images FOLDER of good images, --folds, or --threshold."], None
    lines = [f"{model.folder}: a picture is a defect where its score is above {calibration.threshold:.6g}"]
    lines += _guarantee(calibration) + _pixels(calibration)
    if not calibration.num_images:
        return lines, None
    return lines, _table(calibration)


def _guarantee(calibration: Calibration) -> list[str]:
    number, rate = calibration.num_images, calibration.false_alarm_rate
    if not number:
        return ["set by hand; no good images say how often it alarms falsely"]
    bound = false_alarm_bound(calibration.threshold, calibration.good_scores)
    if rate is None:
        return [f"set by hand; {number} good images say: about {bound:.2%} of good pictures, 1 / (n + 1) at the least"]
    if calibration.method == "folds":
        return [
            f"chosen for {rate:.4g} false alarms by {number} good images, each scored by a detector fitted without it "
            "(an estimate: the detector in use has seen more images)"
        ]
    return [f"good pictures are above it with a chance of at most {rate:.4g}, by {number} held-out good images"]


def _pixels(calibration: Calibration) -> list[str]:
    rate = "set by hand" if calibration.pixel_rate is None else f"{calibration.pixel_rate:.2%} of the good area"
    lines = [f"a pixel belongs to the defect where the map is above {calibration.pixel_threshold:.6g} ({rate})"]
    if calibration.min_area:
        lines.append(
            f"regions of {calibration.min_area} pixels and more count: a picture without one passes as good "
            "(what follows is by the score alone)"
        )
    return lines


def _table(calibration: Calibration) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("false alarms at most", "threshold", "defects missed (95 %)"):
        table.add_column(title, justify="right")
    smallest = smallest_rate(calibration.num_images)
    rates = sorted({*(rate for rate in RATES if rate >= smallest), smallest}, reverse=True)
    rows: list[tuple[str, float]] = [
        (f"{rate:.4g}", conformal_threshold(calibration.good_scores, rate)) for rate in rates if rate < 1
    ]
    if calibration.false_alarm_rate not in rates:
        chosen = "by hand" if calibration.false_alarm_rate is None else f"{calibration.false_alarm_rate:.4g}"
        rows.append((chosen, calibration.threshold))
    for rate, threshold in rows:
        is_current = threshold == calibration.threshold
        table.add_row(rate, f"{threshold:.6g}", _missed(calibration, threshold), style="bold" if is_current else "")
    return table


def _missed(calibration: Calibration, threshold: float) -> str:
    if not calibration.defect_scores:
        return "no labelled defects"
    missed, low, high = miss_rate(calibration.defect_scores, threshold)
    return f"{missed:.3f} ({low:.3f}-{high:.3f} of {len(calibration.defect_scores)})"


def with_defects(calibration: Calibration | None, rows: Sequence[dict[str, Any]]) -> Calibration | None:
    """The calibration with the scores of the rows (of an `Evaluation`) that are labelled anomalous."""
    scores = tuple(sorted(float(row["score"]) for row in rows if row["label"]))
    return calibration and replace(calibration, defect_scores=scores)
