"""Computes a calibration from held-out images, other good images, or folds, and changes that of a model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.calibration.thresholds import (
    FALSE_ALARM_RATE,
    Calibration,
    Method,
    calibrate,
    conformal_rank,
    pixel_levels,
    smallest_rate,
    with_history,
    with_thresholds,
)
from blemish.data.category import Category, content_digests, find_learned, log_left_out, units_of
from blemish.data.layouts.folder import read_folder
from blemish.data.source import ImageSource, load
from blemish.errors import BlemishError
from blemish.imaging.roi import Roi, masked_by_roi
from blemish.inference.inspector import Inspector, backend_of
from blemish.model.changes import updating_model, write_model
from blemish.model.folder import ModelFolder, read_model
from blemish.model.locking import LONG_WAIT, SHORT_WAIT
from blemish.progress import Phases, no_progress, with_progress
from blemish.runs.folds import closed_form_detector, digests, fold_predictions, former_digests, learned_among
from blemish.types import Prediction, Sample


def calibrate_on(
    predictions: Iterable[Prediction], roi: Roi | None, rate: float | None = None, method: Method = "split"
) -> tuple[Calibration | None, list[Prediction]]:
    """The calibration from predictions of held-out good images, and these predictions without their anomaly maps.

    The default rate is FALSE_ALARM_RATE, or the smallest that the images support. The calibration is None where there
    is no image. Raises BlemishError where there are too few images for the given rate.
    """
    seen: list[Prediction] = []

    def maps() -> Iterator[NDArray[np.float32]]:
        for prediction in predictions:
            seen.append(replace(prediction, map=np.zeros((0, 0), np.float32)))
            yield masked_by_roi(prediction.map, roi)

    remaining = maps()
    first = next(remaining, None)
    if first is None:
        return None, []
    levels = pixel_levels(chain([first], remaining))
    scores = [prediction.score for prediction in seen]
    rate = rate or max(FALSE_ALARM_RATE, smallest_rate(len(seen)))
    return calibrate(scores, levels, rate, method=method, images=[file_of(found.sample) for found in seen]), seen


def file_of(sample: Sample) -> str:
    """The name of an image in a calibration: its absolute path, valid in any working directory."""
    if sample.content is not None:
        return str(sample.image)
    return sample.image.resolve().as_posix()


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """The result of `calibrate_model`."""

    model: ModelFolder
    """The model with its new calibration."""
    former: Calibration | None
    """The calibration before."""
    is_written: bool
    """Whether the calibration was written: not where no option was given, or where `apply` is needed first."""


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
    leave_out: Sequence[Path] = (),
    apply: bool = False,
    undo: bool = False,
    phases: Phases = lambda _: no_progress,
) -> Recalibrated:
    """Changes the calibration of the model in the folder `path`; without options, reads it alone.

    `images` or `folds` replace the good scores; the pixel rate and the minimum area stay. A calibration by `images` is
    written only with `apply`, or with a rate or a threshold, so that the user can look at it first. Good images in
    `leave_out` are ignored; without `images` or `folds` the others of the present calibration are scored again. The
    model keeps the former calibration, and `undo` restores it. Raises BlemishError where the options contradict each
    other or there are too few images; the folder then stays unchanged.
    """
    _refuse_both("images", images, "folds", folds)
    _refuse_both("false-alarm-rate", false_alarm_rate, "threshold", threshold)
    _refuse_both("pixel-rate", pixel_rate, "pixel-threshold", pixel_threshold)
    if data_path is not None and folds is None:
        raise BlemishError("data_path: only --folds reads it. Add --folds, or give other good images by --images.")
    if apply and images is None:
        raise BlemishError("apply: only --images needs it. Leave it out, or give good images.")
    chosen = {
        "false_alarm_rate": false_alarm_rate,
        "threshold": threshold,
        "pixel_rate": pixel_rate,
        "pixel_threshold": pixel_threshold,
        "min_area": min_area,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    if undo:
        if given or images or folds or leave_out:
            raise BlemishError("undo: it restores the calibration before, and takes no other options. Leave them out.")
        with updating_model(path, "calibrate", LONG_WAIT) as model:
            return _undone(model)
    if not given and images is None and folds is None and not leave_out:
        model = read_model(path)
        return Recalibrated(model, model.calibration, False)
    timeout = SHORT_WAIT if images or folds or leave_out else LONG_WAIT
    with updating_model(path, "calibrate", timeout) as model:
        found = _chosen_by(model, images, folds, data_path, false_alarm_rate, leave_out, phases)
        calibration = with_history(with_chosen(found, given, model.calibration, str(model.folder)), model.calibration)
        changed_model = replace(model, calibration=calibration)
        if images is not None and not apply and false_alarm_rate is None and threshold is None:
            return Recalibrated(changed_model, model.calibration, False)
        return Recalibrated(write_model(changed_model), model.calibration, True)


def _undone(model: ModelFolder) -> Recalibrated:
    """Restores and writes the calibration before the present one."""
    present = model.calibration
    if present is None or not present.previous:
        raise BlemishError(f"{model.folder}: has no earlier calibration to restore.")
    former, *others = present.previous
    calibration = replace(former, previous=tuple(others))
    return Recalibrated(write_model(replace(model, calibration=calibration)), present, True)


def _chosen_by(
    model: ModelFolder,
    images: Path | None,
    folds: int | None,
    data_path: Path | None,
    rate: float | None,
    leave_out: Sequence[Path],
    phases: Phases,
) -> Calibration | None:
    """The calibration by the given images or folds, or else the present one, without the images in `leave_out`."""
    if images is not None:
        return _from_images(model, images, rate, leave_out, phases)
    if folds is not None:
        return _from_folds(model, folds, data_path, rate, leave_out, phases)
    return _from_held_out(model, leave_out, phases) if leave_out else model.calibration


def with_chosen(
    calibration: Calibration | None, given: dict[str, Any], former: Calibration | None, where: str
) -> Calibration:
    """The calibration with the `given` settings, and otherwise the pixel settings and minimum area of the former one.

    Raises BlemishError that begins with `where` if there is neither a calibration nor a threshold.
    """
    threshold = given.get("threshold")
    if calibration is None and threshold is not None:
        level = given.get("pixel_threshold", threshold)
        calibration = Calibration(threshold, level, None, None, (), ())
    if calibration is None:
        raise BlemishError(f"{where}: no good images were held out. Give --images FOLDER, --folds, or --threshold.")
    return with_thresholds(calibration, **_kept(former, given) | given)


def named(paths: Sequence[Path], images: Sequence[str]) -> list[str]:
    """The images that the paths name; a path may be the end of an image's path.

    Raises BlemishError for a path that names no image, or several.
    """
    found = []
    for path in paths:
        whole, end = path.resolve().as_posix(), f"/{path.as_posix()}"
        meant = [image for image in images if image == whole] or [image for image in images if image.endswith(end)]
        if not meant:
            raise BlemishError(f"leave-out {path}: none of the {len(images)} good images. Give a path that is listed.")
        if len(meant) > 1:
            raise BlemishError(
                f"leave-out {path}: the paths of {len(meant)} good images end with it. Give more of the path."
            )
        found += meant
    return found


def _refuse_both(first: str, one: object, second: str, other: object) -> None:
    if one is not None and other is not None:
        raise BlemishError(f"{first}, {second}: both set the same thing. Leave one out.")


def _kept(before: Calibration | None, given: Collection[str]) -> dict[str, Any]:
    """The pixel setting and the minimum area of the calibration before, unless `given` replaces them."""
    if before is None:
        return {}
    kept: dict[str, Any] = {"min_area": before.min_area}
    is_implied = not before.num_images and before.pixel_threshold == before.threshold
    if "pixel_rate" in given or "pixel_threshold" in given or is_implied:
        return kept
    by_hand = before.pixel_rate is None
    return kept | ({"pixel_threshold": before.pixel_threshold} if by_hand else {"pixel_rate": before.pixel_rate})


def _from_held_out(model: ModelFolder, leave_out: Sequence[Path], phases: Phases) -> Calibration:
    """The calibration by the images of the present one without `leave_out`, which the detector scores again.

    So both thresholds come from the same images. A threshold that was set by hand stays.
    """
    present = _with_images(model)
    left_out = named(leave_out, present.images)
    good = [Sample(Path(image), False) for image in present.images if image not in left_out]
    if gone := [sample.image for sample in good if not sample.image.is_file()]:
        raise BlemishError(f"leave-out: {gone[0]} is read too, and is not there. Put it back, or give --images FOLDER.")
    rate = present.false_alarm_rate
    calibration = _by(good, model, rate and max(rate, smallest_rate(len(good))), phases)
    if calibration is None:
        raise BlemishError("leave-out: no good image would be left to choose a threshold by. Leave fewer out.")
    if rate is None:
        calibration = with_thresholds(calibration, threshold=present.threshold)
    former = (*present.left_out, *sorted(left_out))
    return replace(calibration, defect_scores=present.defect_scores, left_out=tuple(dict.fromkeys(former)))


def _with_images(model: ModelFolder) -> Calibration:
    """The model's calibration; raises BlemishError where it does not name images that the detector can score again."""
    present = model.calibration
    if present is None or not present.images:
        raise BlemishError(
            f"{model.folder}: its calibration names no images to leave out. Give --images or --folds with --leave-out."
        )
    if present.method == "folds":
        raise BlemishError("leave-out: the threshold comes from --folds. Repeat that command with --leave-out added.")
    return present


def _by(good: Sequence[Sample], model: ModelFolder, rate: float | None, phases: Phases) -> Calibration | None:
    """The calibration by the detector's predictions of good images; None without any."""
    inspector = Inspector(backend_of(model), model.preprocess)
    predictions = with_progress(inspector.predict(good), len(good), phases("good images"))
    return calibrate_on(predictions, model.preprocess.roi, rate)[0]


def _from_images(
    model: ModelFolder, folder: Path, rate: float | None, leave_out: Sequence[Path], phases: Phases
) -> Calibration:
    """The calibration by a folder of good images, or by a folder with subfolders: `good`, and others of defects."""
    samples = [sample for found in read_folder(folder).values() for sample in found]
    if not samples:
        raise BlemishError(
            f"images {folder}: no good images found. Expected a folder of good images, or a subfolder named 'good'."
        )
    log_left_out(Category(folder.name, folder, "folder", tuple(samples)))
    samples = unseen(samples, model)
    good, bad = ([sample for sample in samples if bool(sample.label) is label] for label in (False, True))
    left_out = named(leave_out, [file_of(sample) for sample in good])
    good = [sample for sample in good if file_of(sample) not in left_out]
    _check_rate(rate, len(good))
    calibration = _by(good, model, rate, phases)
    if calibration is None:
        raise BlemishError(
            f"images {folder}: no good images to choose a threshold by. Add some to the subfolder 'good'."
        )
    return _with_scores(calibration, model, bad, left_out, phases)


def _from_folds(
    model: ModelFolder,
    folds: int,
    data_path: Path | None,
    rate: float | None,
    leave_out: Sequence[Path],
    phases: Phases,
) -> Calibration:
    """The calibration by cross-validation: each good image is scored by a detector fitted to the other folds.

    The same fraction of those folds is held out as for the detector in use, so that scores have the same scale. Copies
    of an image are in the same fold and are scored once; images of a group are in the same fold. Where the model has no
    defect scores, the detector in use scores the defects of the data set.
    """
    closed_form_detector(model)
    category = data_of(model, data_path)
    source = _training_images(model, category, phases)
    digest_of = dict(zip(map(file_of, source.samples), digests(source), strict=True))
    left_out = named(leave_out, list(digest_of))
    not_counted = {digest_of[image] for image in left_out}
    number, most = len(set(digests(source))), len(set(units_of(digests(source), source.samples)))
    if not 2 <= folds <= most:
        raise BlemishError(f"folds: {folds} was given; allowed are 2 to {most}, the number of different images.")
    _check_rate(rate, number - len(not_counted))
    scored = with_progress(fold_predictions(model, source, folds), number, phases("folds"))
    predictions = (found for found in scored if digest_of[file_of(found.sample)] not in not_counted)
    calibration, _ = calibrate_on(predictions, model.preprocess.roi, rate, "folds")
    if calibration is None:
        raise BlemishError("leave-out: no good image would be left to choose a threshold by. Leave fewer out.")
    bad = [] if _defect_scores(model) else [sample for sample in category.of("test") if sample.label]
    return _with_scores(calibration, model, bad, left_out, phases)


def _with_scores(
    calibration: Calibration, model: ModelFolder, bad: Sequence[Sample], left_out: Sequence[str], phases: Phases
) -> Calibration:
    """The calibration with the scores of the defects `bad`, or else those that the model has, and `left_out`."""
    inspector = Inspector(backend_of(model), model.preprocess) if bad else None
    predictions = with_progress(inspector.predict(bad), len(bad), phases("defects")) if inspector else ()
    scores = tuple(sorted(found.score for found in predictions)) or _defect_scores(model)
    return replace(calibration, defect_scores=scores, left_out=tuple(left_out))


def _check_rate(rate: float | None, number: int) -> None:
    """Raises BlemishError where `number` images are too few for the rate."""
    if rate is not None:
        conformal_rank(number, rate)


def data_of(model: ModelFolder, data_path: Path | None) -> Category:
    """The category that the model was fitted to, under `data_path` or else in the folder that the model records."""
    known = data_path or model.provenance.get("data_path")
    if known is None or not Path(known).is_dir():
        raise BlemishError(
            f"data_path {known or ''}: no such folder. Give --data-path, the data set that the detector was fitted to."
        )
    return log_left_out(find_learned(Path(known), model.category, model.provenance))


def _training_images(model: ModelFolder, category: Category, phases: Phases) -> ImageSource:
    """The images that `fit` learned from or held out; raises BlemishError where the model was fitted to others."""
    source = load(category.of("train"), model.preprocess, progress=phases("reading"))
    for info in source.files:
        if info.error:
            raise BlemishError(info.error)
    learned = set(model.provenance.get("learned_from", []))
    if not learned <= {*digests(source), *former_digests(source)}:
        raise BlemishError(f"data_path {category.root}: not the images that {model.folder} was fitted to. Give those.")
    left_out = set(model.provenance.get("left_out", []))
    kept = {sample for sample, digest in zip(source.samples, digests(source), strict=True) if digest not in left_out}
    return source.where(kept.__contains__)


def unseen(samples: Sequence[Sample], model: ModelFolder) -> list[Sample]:
    """The samples without copies; raises BlemishError for an image that the model was fitted to."""
    known = content_digests(samples)
    if learned := learned_among(known, model.provenance):  # a threshold chosen by these would be far too low
        raise BlemishError(f"{learned[0]}: is a training image of the model. Give other good images.")
    found: dict[str, Sample] = {}
    for sample in samples:
        found.setdefault(known[sample.image][0], sample)
    return list(found.values())


def _defect_scores(model: ModelFolder) -> tuple[float, ...]:
    return model.calibration.defect_scores if model.calibration else ()


def with_defects(calibration: Calibration | None, rows: Sequence[dict[str, Any]]) -> Calibration | None:
    """The calibration with the scores of those rows of `Evaluation.images` that are labelled anomalous."""
    scores = tuple(sorted(float(row["score"]) for row in rows if row["label"]))
    return calibration and replace(calibration, defect_scores=scores)
