"""Evaluates a fitted detector on the test images of its run, and collects the figures and facts for a report."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blemish.calibration.thresholds import Calibration, to_dict
from blemish.data.facts import image_facts
from blemish.data.source import ImageSource
from blemish.detectors.base import ReconstructingDetector
from blemish.evaluation.evaluate import NUM_RESAMPLES, EvaluationDetails, evaluate_in_detail
from blemish.evaluation.report_data import collect_previews, with_reconstructions
from blemish.imaging.pixels import thumbnail
from blemish.imaging.thumbnails import PICTURE_SIDE, Thumbnail
from blemish.inference.previews import Preview
from blemish.progress import Phases, no_phases, with_progress
from blemish.reporting import run_figures
from blemish.runs.command import words_of
from blemish.runs.provenance import machine, versions
from blemish.runs.recalibrate import with_defects
from blemish.runs.steps import Calibrated, Prepared
from blemish.types import Prediction, Sample


@dataclass(frozen=True)
class Tested:
    """The evaluation of a run on its test images, and the previews and predictions that are shown."""

    calibrated: Calibrated
    measured: EvaluationDetails
    previews: list[Preview]
    shown: list[Prediction]
    """Predictions of some test images, with their anomaly maps."""
    rebuilt: dict[Sample, Thumbnail]
    """Test image -> its reconstruction by the detector; empty for a detector that does not reconstruct."""

    @property
    def calibration(self) -> Calibration | None:
        """The detector's calibration, with the scores of the anomalous test images."""
        return with_defects(self.calibrated.calibration, self.measured.evaluation.images)


def evaluate(calibrated: Calibrated, phases: Phases = no_phases) -> Tested:
    """Predicts all test images at their own size, and computes every metric."""
    prepared, calibration = calibrated.fitted.prepared, calibrated.calibration
    test, category, config = prepared.of("test"), prepared.category, prepared.config
    shown: list[Prediction] = []
    previews: list[Preview] = []
    spent = [0.0]
    started = time.perf_counter()
    predictions = with_progress(_timed(calibrated.inspector.predict(test), spent), len(test.samples), phases("testing"))
    some = _kept(predictions, set(choose(test.samples, config.figures)), shown)
    measured = evaluate_in_detail(
        collect_previews(some, category.root, previews, calibration, prepared.kept),
        test.samples,
        method=config.model,
        category=category.name,
        root=category.root,
        num_resamples=NUM_RESAMPLES,
        roi=test.preprocess.roi,
        pixel_threshold=calibration.pixel_threshold if calibration else None,
        kept=prepared.kept,
        layout=category.layout,
    )
    durations = {"fit": calibrated.fitted.seconds, "predict": spent[0], "test": time.perf_counter() - started}
    rebuilt = _rebuilt(calibrated, test)
    if rebuilt:
        previews = with_reconstructions(previews, list(rebuilt.values()))
    return _with_origin(Tested(calibrated, measured, previews, shown, rebuilt), durations)


def _with_origin(tested: Tested, durations: dict[str, float]) -> Tested:
    """A copy whose evaluation contains the durations, the validation scores and the calibration."""
    calibration, root = tested.calibration, tested.calibrated.fitted.prepared.category.root
    held_out = [(found.sample.image.relative_to(root).as_posix(), found.score) for found in tested.calibrated.held_out]
    evaluation = replace(
        tested.measured.evaluation,
        durations=durations,
        validation=[{"path": path, "score": score} for path, score in held_out],
        calibration=to_dict(calibration) if calibration else None,
    )
    return replace(tested, measured=replace(tested.measured, evaluation=evaluation))


def facts_of(tested: Tested) -> dict[str, Any]:
    """The facts of a run for the report: settings, versions, machine, problems and images, as plain data."""
    prepared = tested.calibrated.fitted.prepared
    return {
        "config": prepared.config.model_dump(mode="json"),
        "command": words_of(prepared.config),
        "data_sha256": prepared.identity["data_sha256"],
        "versions": versions(),
        "machine": machine(tested.calibrated.fitted.detector),
        "problems": [asdict(problem) | {"path": str(problem.path)} for problem in prepared.problems],
        "images": image_facts(prepared.category, prepared.source),
        "outliers": _outlier_facts(prepared),
    }


def _outlier_facts(prepared: Prepared) -> dict[str, Any] | None:
    """The images unlike the others as plain data, `left_out` or not; None where they were not looked for."""
    if (found := prepared.outliers) is None:
        return None
    paths = [one.sample.image.relative_to(prepared.category.root).as_posix() for one in found.suspects]
    return {"summary": found.summary, "paths": paths, "left_out": bool(prepared.left_out), "number": len(found.scored)}


def draw(tested: Tested, folder: Path) -> None:
    """Writes the figures of a category to `folder`: example images, losses, and predictions."""
    prepared, training = tested.calibrated.fitted.prepared, tested.calibrated.fitted.training
    name, kept = prepared.category.name, prepared.kept
    run_figures.examples(prepared.category, folder / f"{name}_examples.png", kept)
    if training:
        run_figures.losses(training, f"{prepared.config.model} on {name}", folder / f"{name}_losses.png")
    if tested.shown:
        rebuilt = [tested.rebuilt[found.sample] for found in tested.shown] if tested.rebuilt else None
        run_figures.predictions(tested.shown, rebuilt, folder / f"{name}_predictions.png", kept)


def choose(samples: list[Sample], count: int) -> list[Sample]:
    """Up to `count` samples, taken in turn from the defect types and the good images, in the order of the list."""
    types = list(dict.fromkeys(sample.defect for sample in samples))
    of_type = {defect: [sample for sample in samples if sample.defect == defect] for defect in types}
    turns = (of_type[defect][turn] for turn in range(count) for defect in types if turn < len(of_type[defect]))
    taken = set(list(turns)[:count])
    return [sample for sample in samples if sample in taken]


def _timed(predictions: Iterator[Prediction], spent: list[float]) -> Iterator[Prediction]:
    """Yields the predictions unchanged, and adds the seconds that they take to `spent[0]`."""
    while True:
        started = time.perf_counter()
        prediction = next(predictions, None)
        spent[0] += time.perf_counter() - started
        if prediction is None:
            return
        yield prediction


def _kept(predictions: Iterable[Prediction], chosen: set[Sample], shown: list[Prediction]) -> Iterator[Prediction]:
    """Yields the predictions unchanged, and appends those of chosen samples to `shown`."""
    for prediction in predictions:
        if prediction.sample in chosen:
            shown.append(prediction)
        yield prediction


def _rebuilt(calibrated: Calibrated, test: ImageSource) -> dict[Sample, Thumbnail]:
    """Test image -> a thumbnail of its reconstruction, in the shape of the image's file; empty without any."""
    detector = calibrated.fitted.detector
    if not isinstance(detector, ReconstructingDetector):
        return {}
    found = {}
    for sample in test.samples:
        one = test.where(lambda other, sample=sample: other is sample)  # type: ignore[misc]
        with torch.inference_mode():
            pieces = detector.reconstruct(one.batch(range(len(one))).to(detector.device)).float().cpu().numpy()
        (file,) = one.files
        channels = [
            test.preprocess.assemble(list(pieces[:, channel]), file.size, file.placement) for channel in range(3)
        ]
        found[sample] = thumbnail(np.clip(np.stack(channels, axis=2), 0, 1), PICTURE_SIDE)
    return found
