"""A run: fit on the good images of one category, predict its test images, evaluate, save."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blemish.calibration.thresholds import to_dict
from blemish.data.category import (
    Category,
    data_hash,
    file_digests,
    find_categories,
    hold_out,
    only_good,
    part_name,
)
from blemish.data.check import Problem, find_problems, read_mask_infos, refuse
from blemish.data.facts import image_facts
from blemish.data.learned import learned_images
from blemish.data.source import ImageSource
from blemish.data.source import load as load_images
from blemish.detectors import detector_class
from blemish.detectors.base import Detector, ReconstructingDetector
from blemish.errors import BlemishError
from blemish.evaluation.evaluate import NUM_RESAMPLES, EvaluationDetails, evaluate_in_detail
from blemish.evaluation.report_data import REPORT_DATA, collect_previews, with_reconstructions, write_evaluation
from blemish.evaluation.results import EVALUATION
from blemish.features.devices import device_named, is_main_process
from blemish.files import discard, making_folder
from blemish.imaging.alignment import Alignment, choose_alignment
from blemish.imaging.pixels import thumbnail
from blemish.imaging.preprocess import Preprocess
from blemish.imaging.roi import Roi, read_roi
from blemish.imaging.thumbnails import Thumbnail
from blemish.inference.inspector import Inspector
from blemish.inference.previews import PICTURE_SIDE, Preview
from blemish.inference.torch_backend import TorchBackend
from blemish.model.artifact import Artifact, save
from blemish.model.changes import locked_folder, refuse_overwriting, write_model
from blemish.model.folder import ModelFolder
from blemish.model.locking import SHORT_WAIT
from blemish.progress import Phases, no_progress, with_progress
from blemish.report import run_figures
from blemish.runs.config import RunConfig
from blemish.runs.provenance import finished, identity_of, machine, versions
from blemish.runs.recalibrate import calibrate_on, digests, with_defects, without_copies
from blemish.types import Evaluation, Prediction, Sample

logger = logging.getLogger("blemish")

CHECKPOINT = "checkpoint.safetensors"


def run(config: RunConfig, phases: Phases = lambda _: no_progress) -> Evaluation:
    """Does one run on one category and gives its figures; what it leaves is under `config.ckpt_path/<category>`.

    With `config.resume`, what an earlier run with the same settings and data has done is not done again. Raises
    BlemishError where the configuration or the data would make the result wrong.
    """
    category, data_sha256 = _split(_only_category(config), config, phases)
    folder = config.ckpt_path / category.name
    roi = read_roi(config.roi) if config.roi else None
    identity = identity_of(config, data_sha256, roi)
    if config.resume and (done := finished(folder, identity)):
        with _writer(folder, "train", config):  # which clears what a process that was killed at its end left
            discard(folder / CHECKPOINT)
        return done
    with making_folder(folder), _writer(folder, "train", config):
        fitted = _learn(config, category, folder, identity, roi, phases)
        if fitted is None:
            return Evaluation(config.model, category.name, {})
        return _finish(fitted, config, folder, identity, phases)


def _writer(folder: Path, doing: str, config: RunConfig) -> AbstractContextManager[None]:
    """The folder for this process alone, or nothing in the processes that only help."""
    device_named(config.device)  # which says who is the first of several processes
    return locked_folder(folder, doing, SHORT_WAIT) if is_main_process() else nullcontext()


def _finish(
    fitted: _Fitted,
    config: RunConfig,
    folder: Path,
    identity: dict[str, Any],
    phases: Phases,
) -> Evaluation:
    """Evaluates what was learned and writes what is known then, evaluation.json last."""
    category = fitted.category
    measured, previews = _evaluate(fitted, category, config, phases)
    evaluation = measured.evaluation
    calibration = with_defects(fitted.model.calibration, evaluation.images)
    write_model(replace(fitted.model, calibration=calibration, metrics=evaluation.metrics))
    evaluation = replace(
        evaluation,
        durations={"fit": fitted.seconds} | evaluation.durations,
        validation=[{"path": _relative(found.sample, category), "score": found.score} for found in fitted.held_out],
        calibration=to_dict(calibration) if calibration else None,
    )
    facts = {
        "config": config.model_dump(mode="json"),
        "data_sha256": identity["data_sha256"],
        "versions": versions(),
        "machine": machine(fitted.detector),
        "problems": [asdict(problem) | {"path": str(problem.path)} for problem in fitted.problems],
        "images": image_facts(category, fitted.source),
    }
    write_evaluation(replace(measured, evaluation=evaluation), previews, facts, folder)
    discard(folder / CHECKPOINT)  # until now a resumed run would have gone on with what was learned
    return evaluation


def fit(config: RunConfig, phases: Phases = lambda _: no_progress, *, is_forced: bool = False) -> ModelFolder | None:
    """Learns from the good images of one category alone; the fitted detector is then in `config.ckpt_path` itself.

    None in the processes that only help. Raises BlemishError where a model is there already, unless `is_forced`.
    """
    folder = config.ckpt_path
    refuse_overwriting(folder, is_forced)
    category, data_sha256 = _split(only_good(_only_category(config)), config, phases)
    roi = read_roi(config.roi) if config.roi else None
    identity = identity_of(config, data_sha256, roi)
    with making_folder(folder), _writer(folder, "fit", config):
        if is_main_process():
            refuse_overwriting(folder, is_forced)  # which nobody writes to from now on
        fitted = _learn(config, category, folder, identity, roi, phases)
        if fitted is None:
            return None
        discard(folder / CHECKPOINT)
    return fitted.model


@dataclass(frozen=True)
class _Fitted:
    """What learning left: the model on disk, and what evaluating it needs."""

    model: ModelFolder
    detector: Detector
    inspector: Inspector
    category: Category
    source: ImageSource
    problems: list[Problem]
    training: dict[str, Any]
    held_out: list[Prediction]
    """The validation images' predictions, without their maps."""
    seconds: float


def _learn(
    config: RunConfig, category: Category, folder: Path, identity: dict[str, Any], roi: Roi | None, phases: Phases
) -> _Fitted | None:
    """Reads, fits, calibrates and saves to `folder`; None in the processes that only help."""
    detector = detector_class(config.model).create(**_shared(config), **config.options)
    detector.to(device_named(config.device))
    overlap = config.overlap if config.tile else 0
    alignment, reason = _alignment(config, category, roi, phases)
    pieces = config.tile, overlap, roi, alignment, detector.combination, config.max_pixels
    preprocess = Preprocess(detector.input_size, config.aspect, *pieces)
    source, category, problems = _load(category, preprocess, config, phases)
    started = time.perf_counter()
    training = _fit(detector, source, config, folder / CHECKPOINT, phases)
    seconds = time.perf_counter() - started
    if not is_main_process():
        return None
    inspector = Inspector(TorchBackend(detector), preprocess, batch_size=config.batch_size)
    validation = without_copies(source.where(lambda sample: sample.split == "val"))
    predictions = with_progress(inspector.predict(validation), len(validation.samples), phases("calibrating"))
    calibration, held_out = calibrate_on(predictions, roi)
    known = {split: sorted(digests(source.where(lambda s, of=split: s.split == of))) for split in ("train", "val")}  # type: ignore[misc]
    provenance = identity | {
        "training": training,
        "versions": versions(),
        "images": learned_images(source.where(lambda sample: sample.split == "train").files),
        "learned_from": known["train"],
        "held_out": known["val"],
        "choices": [reason, *detector.reasons],
        "data_path": str(config.data_path.resolve()),
    }
    for stale in (EVALUATION, REPORT_DATA):  # of an earlier run: with the new model they would be taken for its own
        discard(folder / stale)
    model = save(
        Artifact(config.model, detector, preprocess, provenance, calibration, category=part_name(category)), folder
    )
    return _Fitted(model, detector, inspector, category, source, problems, training, held_out, seconds)


def _split(category: Category, config: RunConfig, phases: Phases) -> tuple[Category, str]:
    """The category with its validation images drawn, and the hash of its files."""
    digests = file_digests(category.files, phases("hashing"))
    return hold_out(category, config.validation, config.seed, digests), data_hash(category, digests)


def _shared(config: RunConfig) -> dict[str, Any]:
    """The settings that are options of the detector too; its size, if it is left open, is near that of a tile."""
    size = config.size
    if size is None and config.tile is not None:
        size = min(1024, max(32, 16 * round(config.tile / 16)))
    given = {"size": size, "precision": config.precision}
    known = detector_class(config.model).option_fields()
    return {name: value for name, value in given.items() if name in known and value is not None}


def _relative(sample: Sample, category: Category) -> str:
    return sample.image.relative_to(category.root).as_posix()


def _only_category(config: RunConfig) -> Category:
    found = find_categories(config.data_path, config.category)
    if len(found) != 1:
        names = ", ".join(category.name for category in found)
        raise BlemishError(f"category: a run is of one category, {config.data_path} has {names}. Name one.")
    return found[0]


def _load(
    category: Category, preprocess: Preprocess, config: RunConfig, phases: Phases
) -> tuple[ImageSource, Category, list[Problem]]:
    """Every image of the category, decoded once, and what is odd; refused where that would make the result wrong.

    The validation images are drawn anew: only now it is known which files hold the same picture.
    """
    source = load_images(
        category.samples,
        preprocess,
        memory_budget=config.memory_budget,
        workers=config.workers,
        progress=phases("reading"),
    )
    contents = {sample.image: info.pixel_sha256 for sample, info in zip(source.samples, source.files, strict=True)}
    category = hold_out(category, config.validation, config.seed, contents)
    problems = find_problems(category, source.files, read_mask_infos(category.samples, config.max_pixels))
    refuse(problems)
    for problem in problems:
        logger.warning("%s", problem)
    return source.with_samples(category.samples), category, problems


def _alignment(config: RunConfig, category: Category, roi: Roi | None, phases: Phases) -> tuple[Alignment | None, str]:
    if roi is not None:
        return None, "align: off, since a region of interest lies still"
    samples, held_out = category.of("train"), category.of("val")
    return choose_alignment(samples, held_out, config.align, config.max_pixels, phases("aligning"))


def _fit(
    detector: Detector, source: ImageSource, config: RunConfig, checkpoint: Path, phases: Phases
) -> dict[str, Any]:
    """Fits the detector and gives what is worth recording of it."""
    images = source.where(lambda sample: sample.split == "train")
    validation = source.where(lambda sample: sample.split == "val")
    left_open: dict[str, Any] = {
        "epochs": config.epochs,
        "learning_rate": config.learning_rate,
        "patience": config.patience,
    }
    asked = {name: value for name, value in left_open.items() if value is not None}
    training = replace(
        detector.settings,
        batch_size=config.batch_size,
        device=config.device,
        precision=config.precision,
        checkpoint=checkpoint,
        resume=config.resume,
        **asked,
    )
    detector.fit(images, validation=validation, seed=config.seed, progress=phases("fitting"), training=training)
    return detector.losses_per_epoch


def _evaluate(
    fitted: _Fitted, category: Category, config: RunConfig, phases: Phases
) -> tuple[EvaluationDetails, list[Preview]]:
    """Predicts the entire test set, evaluates it, and draws the category's figures."""
    test = fitted.source.where(lambda sample: sample.split == "test")
    chosen = choose(test.samples, config.figures)
    shown: list[Prediction] = []
    previews: list[Preview] = []
    started = time.perf_counter()
    spent = [0.0]
    predictions = with_progress(_timed(fitted.inspector.predict(test), spent), len(test.samples), phases("testing"))
    calibration = fitted.model.calibration
    measured = evaluate_in_detail(
        collect_previews(_kept(predictions, set(chosen), shown), category.root, previews, calibration),
        test.samples,
        method=config.model,
        category=category.name,
        root=category.root,
        num_resamples=NUM_RESAMPLES,
        roi=test.preprocess.roi,
        pixel_threshold=calibration.pixel_threshold if calibration else None,
    )
    seconds = time.perf_counter() - started
    rebuilt = list(_rebuilt(fitted.detector, test)) if isinstance(fitted.detector, ReconstructingDetector) else []
    if rebuilt:
        previews = with_reconstructions(previews, rebuilt)
    out = config.ckpt_path / "figures"
    run_figures.examples(category, out / f"{category.name}_examples.png")
    if fitted.training:
        title = f"{config.model} on {category.name}"
        run_figures.losses(fitted.training, title, out / f"{category.name}_losses.png")
    if shown:
        pictures = [picture for picture, sample in zip(rebuilt, test.samples, strict=False) if sample in set(chosen)]
        run_figures.predictions(shown, pictures or None, out / f"{category.name}_predictions.png")
    evaluation = replace(measured.evaluation, durations={"predict": spent[0], "test": seconds})
    return replace(measured, evaluation=evaluation), previews


def _timed(predictions: Iterator[Prediction], spent: list[float]) -> Iterator[Prediction]:
    """The predictions as they come; the seconds that they took are added to `spent[0]`."""
    while True:
        started = time.perf_counter()
        prediction = next(predictions, None)
        spent[0] += time.perf_counter() - started
        if prediction is None:
            return
        yield prediction


def _kept(predictions: Iterable[Prediction], chosen: set[Sample], shown: list[Prediction]) -> Iterator[Prediction]:
    """The predictions as they come, the chosen ones put aside."""
    for prediction in predictions:
        if prediction.sample in chosen:
            shown.append(prediction)
        yield prediction


def choose(samples: list[Sample], count: int) -> list[Sample]:
    """Up to `count` samples, taken in turn from each defect type (and the good ones), in order of the list."""
    types = list(dict.fromkeys(sample.defect for sample in samples))
    of_type = {defect: [sample for sample in samples if sample.defect == defect] for defect in types}
    turns = (of_type[defect][turn] for turn in range(count) for defect in types if turn < len(of_type[defect]))
    taken = set(list(turns)[:count])
    return [sample for sample in samples if sample in taken]


def _rebuilt(detector: ReconstructingDetector, test: ImageSource) -> Iterator[Thumbnail]:
    """What the detector takes the good version of each image to be, in the shape of the image's file."""
    for sample in test.samples:
        one = test.where(lambda other, sample=sample: other is sample)  # type: ignore[misc]
        with torch.inference_mode():
            pieces = detector.reconstruct(one.batch(range(len(one))).to(detector.device)).float().cpu().numpy()
        (file,) = one.files
        channels = [
            test.preprocess.assemble(list(pieces[:, channel]), file.size, file.placement) for channel in range(3)
        ]
        yield thumbnail(np.clip(np.stack(channels, axis=2), 0, 1), PICTURE_SIDE)
