"""The steps of a run, each a function from one frozen value to the next: plan, prepare, fit, calibrate.

Each is usable alone. `blemish.runs.testing` evaluates the result of the last one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from blemish.calibration.thresholds import Calibration
from blemish.data.augment import augmented
from blemish.data.category import Category, data_hash, examples_of, find_categories, hold_out, part_name
from blemish.data.check import Problem, find_problems, read_mask_infos, refuse
from blemish.data.kept import KeptImages
from blemish.data.learned import learned_images
from blemish.data.reading import FileReader, file_digests
from blemish.data.source import ImageSource
from blemish.data.source import load as load_images
from blemish.detectors import detector_class
from blemish.detectors.base import Detector, FeatureDetector
from blemish.errors import BlemishError
from blemish.features.devices import device_named
from blemish.imaging.alignment import Alignment, choose_alignment
from blemish.imaging.input_size import AnySize, takes_rectangles
from blemish.imaging.preprocess import Preprocess
from blemish.imaging.roi import Roi, read_roi
from blemish.inference.inspector import Inspector
from blemish.inference.torch_backend import TorchBackend
from blemish.model.artifact import Artifact
from blemish.progress import Phases, no_phases, with_progress
from blemish.runs.config import RunConfig
from blemish.runs.folds import digests, without_copies
from blemish.runs.outliers import Outliers, creator_for, find_outliers, without
from blemish.runs.provenance import identity_of, versions
from blemish.runs.recalibrate import calibrate_on
from blemish.runs.resolution import Suited, sizes_of, suited, within
from blemish.runs.timing import QUICK, seconds_per_image
from blemish.runs.trained import given
from blemish.training.checkpoint import fingerprint_in
from blemish.types import Prediction, Sample, Split

logger = logging.getLogger("blemish")

CHECKPOINT = "checkpoint.safetensors"
"""Name of the file in a run's folder from which a stopped training goes on."""

Creator = Callable[..., tuple[Detector, Preprocess]]
"""The size of the input, and options -> an unfitted detector and the preprocessing for it."""


@dataclass(frozen=True)
class Planned:
    """The settings and images of a run, and the identity of its result."""

    config: RunConfig
    category: Category
    """With validation images drawn; files with equal SHA-256 count as copies."""
    roi: Roi | None
    identity: dict[str, Any]
    """The settings and the hash of the data, as plain data; runs with equal identity have equal results."""
    reader: FileReader
    """Holds the contents of the files that were read."""


@dataclass(frozen=True)
class Prepared:
    """An unfitted detector and every image, decoded once."""

    config: RunConfig
    category: Category
    """With validation images drawn; images with equal pixels count as copies."""
    identity: dict[str, Any]
    detector: Detector
    source: ImageSource
    kept: KeptImages
    """Masks, and thumbnails of the images that a report shows."""
    problems: tuple[Problem, ...]
    """Warnings about the data."""
    reasons: tuple[str, ...]
    """Why images are registered, or not, and why they are seen at this size."""
    outliers: Outliers | None = None
    """The good images unlike the others; None where they were not looked for."""
    left_out: tuple[str, ...] = ()
    """The digests of those that were left out."""

    def of(self, split: Split) -> ImageSource:
        """The images of one split."""
        return self.source.where(lambda sample: sample.split == split)


@dataclass(frozen=True)
class Fitted:
    """A fitted detector and what it was fitted to."""

    prepared: Prepared
    detector: Detector
    training: dict[str, Any]
    """`losses_per_epoch` of the detector; empty for one that is not trained by gradient."""
    seconds: float
    augment: str = ""
    """Which varied copies it learned from too, in words."""


@dataclass(frozen=True)
class Calibrated:
    """A fitted detector with its calibration, which is None where no images were held out."""

    fitted: Fitted
    inspector: Inspector
    calibration: Calibration | None
    held_out: list[Prediction] = field(default_factory=list)
    """The predictions of the validation images, without their anomaly maps."""

    @property
    def artifact(self) -> Artifact:
        """The artifact that is saved: detector, preprocessing, provenance and calibration."""
        prepared = self.fitted.prepared
        name, category = prepared.config.model, part_name(prepared.category)
        preprocess, provenance = prepared.source.preprocess, provenance_of(self.fitted)
        return Artifact(name, self.fitted.detector, preprocess, provenance, self.calibration, category=category)


def plan(
    config: RunConfig, category: Category, phases: Phases = no_phases, reader: FileReader | None = None
) -> Planned:
    """Hashes the files of the category, draws the validation images, reads the region of interest.

    `reader` may know the hashes, and images that were decoded before.
    """
    reader = reader or FileReader(config.max_pixels, config.memory_budget)
    contents = file_digests(category.samples, phases("hashing"), reader)
    roi = read_roi(config.roi) if config.roi else None
    category, data_sha256 = hold_out(category, config.validation, config.seed, contents), data_hash(category, contents)
    return Planned(config, category, roi, identity_of(config, data_sha256, roi), reader)


def prepare(planned: Planned, phases: Phases = no_phases) -> Prepared:
    """Creates the detector, chooses the preprocessing, decodes every image and mask, and looks for outliers if asked.

    Logs warnings about the data. Raises BlemishError for an option that the detector does not take, and for data that
    would make the result wrong.
    """
    prepared = examined(load(planned, phases), phases)
    suspects = prepared.outliers.problems if prepared.outliers else []
    for problem in [*prepared.problems, *suspects]:
        logger.warning("%s", problem)
    return prepared


def load(planned: Planned, phases: Phases = no_phases) -> Prepared:
    """The first part of `prepare`: the detector, and every image and mask, decoded."""
    config = planned.config
    alignment, reason = _alignment(planned, phases)

    def create(size: AnySize | None, **others: Any) -> tuple[Detector, Preprocess]:
        options = _shared(config, {"size": size, "precision": config.precision, **others})
        detector = detector_class(config.model).create(**config.options | options)
        detector.to(device_named(config.device))
        overlap = config.overlap if config.tile else 0
        pieces = config.tile, overlap, planned.roi, alignment, detector.combination, config.max_pixels
        return detector, Preprocess(detector.input_size, config.aspect, *pieces)

    size, about_size = _size(planned, create, phases)
    detector, preprocess = create(size)
    source, category, kept, problems = _load(planned, preprocess, phases)
    reasons = tuple(filter(None, (about_size, reason)))
    return Prepared(config, category, planned.identity, detector, source, kept, problems, reasons)


def examined(prepared: Prepared, phases: Phases = no_phases) -> Prepared:
    """With the good images unlike the others, and without these images where they are to be left out."""
    config, source, category = prepared.config, prepared.source, prepared.category
    if config.outliers == "keep":
        return prepared
    create, good = creator_for(config, source.preprocess.size), source.where(lambda sample: sample.split != "test")
    found = find_outliers(good, create, config.seed, phases("outliers"))
    logger.info("%s", found.summary)
    if config.outliers == "show" or not found.suspects:
        return replace(prepared, outliers=found)
    kept = without(source, found)
    left_out = tuple(sorted({*digests(source)} - {*digests(kept)}))
    category = _drawn(replace(category, samples=tuple(kept.samples)), config, kept)
    kept = kept.with_samples(category.samples)
    return replace(prepared, outliers=found, left_out=left_out, category=category, source=kept)


def fit(prepared: Prepared, checkpoint: Path | None = None, phases: Phases = no_phases) -> Fitted:
    """Fits the detector to the good training images; gradient training saves and resumes from `checkpoint`."""
    config, detector = prepared.config, prepared.detector
    training = replace(
        detector.settings,
        batch_size=config.batch_size,
        device=config.device,
        precision=config.precision,
        checkpoint=checkpoint,
        resume=config.resume,
        **given(config),
    )
    images, how = augmented(prepared.of("train"), config.augment, config.seed)
    validation, progress = prepared.of("val"), phases("fitting")
    started = time.perf_counter()
    detector.fit(images, validation=validation, seed=config.seed, progress=progress, training=training)
    return Fitted(prepared, detector, detector.losses_per_epoch, time.perf_counter() - started, how)


def calibrate(fitted: Fitted, phases: Phases = no_phases) -> Calibrated:
    """Chooses the threshold by the validation images without copies; no calibration where there are none."""
    prepared = fitted.prepared
    preprocess = prepared.source.preprocess
    inspector = Inspector(TorchBackend(fitted.detector), preprocess, batch_size=prepared.config.batch_size)
    validation = without_copies(prepared.of("val"))
    predictions = with_progress(inspector.predict(validation), len(validation.samples), phases("calibrating"))
    calibration, held_out = calibrate_on(predictions, preprocess.roi)
    return Calibrated(fitted, inspector, calibration, held_out)


def provenance_of(fitted: Fitted) -> dict[str, Any]:
    """How the detector came about, as plain data."""
    prepared = fitted.prepared
    has_folder = bool(prepared.category.layout)
    return prepared.identity | {
        "training": fitted.training,
        "versions": versions(),
        "images": learned_images(prepared.of("train").files),
        "learned_from": sorted(digests(prepared.of("train"))),
        "held_out": sorted(digests(prepared.of("val"))),
        "left_out": list(prepared.left_out),
        "choices": [*prepared.reasons, *fitted.detector.reasons, fitted.augment, *_about_outliers(prepared)],
        "data_path": str(prepared.config.data_path.resolve()) if has_folder else None,
    }


def categories_of(config: RunConfig) -> list[Category]:
    """The categories that the configuration names, or all of its data set."""
    return find_categories(config.data_path, config.category, layout=config.layout, group=config.group or "")


def _about_outliers(prepared: Prepared) -> list[str]:
    """What was found, and which images were left out, in words; empty where nothing was looked for."""
    if prepared.outliers is None:
        return []
    names = ", ".join(found.sample.image.name for found in prepared.outliers.suspects) if prepared.left_out else ""
    return [f"{prepared.outliers.summary}{names and f'; left out: {names}'}"]


def only_category(config: RunConfig) -> Category:
    """The one category that the configuration names; raises BlemishError where there is not exactly one."""
    found = categories_of(config)
    if len(found) != 1:
        names = ", ".join(category.name for category in found)
        raise BlemishError(f"category: one is needed, but {config.data_path} has {names}. Name one.")
    return found[0]


def _shared(config: RunConfig, given: dict[str, Any]) -> dict[str, Any]:
    """The settings that are also options of the detector."""
    known = detector_class(config.model).option_fields()
    return {name: value for name, value in given.items() if name in known and value is not None}


def _size(planned: Planned, create: Creator, phases: Phases) -> tuple[AnySize | None, str]:
    """The size of the detector's input, and the reason for what was left open; None and no reason for its own default.

    Where a time per image is asked for, sizes are measured with detectors that `create` makes.
    """
    config = planned.config
    if config.size is not None:
        return config.size, ""
    if "size" not in detector_class(config.model).option_fields():
        if config.time_per_image is not None:
            raise BlemishError(f"time_per_image: {config.model} has no size to choose. Leave it out.")
        return None, ""
    found = _suited(planned)
    if config.time_per_image is not None:
        if config.resume and (size := _size_before(planned)):  # measured anew, it could be another one
            return size, f"size: {size}, as measured before the run was stopped"
        samples = planned.category.of("train")

        def seconds(size: int) -> float:
            return seconds_per_image(*create(size, **QUICK), samples, config)

        found = within(found, seconds, config.time_per_image, phases("measuring"))
    if found.reason:
        logger.log(logging.INFO if found.is_fast else logging.WARNING, "%s", found)
    return found.size, str(found) if found.reason else ""


def _size_before(planned: Planned) -> AnySize | None:
    """The size in the checkpoint of a run that was stopped; None where there is none."""
    checkpoint = planned.config.ckpt_path / planned.category.name / CHECKPOINT
    found: AnySize | None = fingerprint_in(checkpoint).get("size")
    return found


def _suited(planned: Planned) -> Suited:
    """The size that suits the images; with tiles about that of a tile.

    A detector that is fitted in closed form has time for large images; others have their default size.
    """
    config, detector = planned.config, detector_class(planned.config.model)
    if config.tile is not None:
        return Suited(min(1024, max(32, 16 * round(config.tile / 16))))
    annotation, default = detector.option_fields()["size"]
    if issubclass(detector, FeatureDetector):
        only_square = not takes_rectangles(annotation)
        return suited(sizes_of(planned.category.of("train"), planned.reader), only_square=only_square)
    return Suited(default)


def _alignment(planned: Planned, phases: Phases) -> tuple[Alignment | None, str]:
    if planned.roi is not None:
        return None, "align: off, since the region of interest is fixed"
    samples, held_out = planned.category.of("train"), planned.category.of("val")

    def read(sample: Sample) -> Any:
        return planned.reader.open(sample, keep=True).pixels

    return choose_alignment(samples, held_out, planned.config.align, read, phases("aligning"))


def _load(
    planned: Planned, preprocess: Preprocess, phases: Phases
) -> tuple[ImageSource, Category, KeptImages, tuple[Problem, ...]]:
    """Every image and mask of the category, decoded once, and warnings about the data.

    Raises BlemishError for an error in the data. The validation images are drawn again, since copies of an image in
    different files are known only after decoding.
    """
    config, category, reader = planned.config, planned.category, planned.reader
    source = load_images(
        category.samples,
        preprocess,
        memory_budget=config.memory_budget,
        workers=config.workers,
        progress=phases("reading"),
        reader=reader,
        shown=_shown(category),
    )
    category = _drawn(category, config, source)
    masks = read_mask_infos(category.samples, reader)
    problems = find_problems(category, source.files, masks)
    refuse(problems)
    kept = KeptImages.of(category.samples, source.files, masks)
    return source.with_samples(category.samples), category, kept, tuple(problems)


def _drawn(category: Category, config: RunConfig, source: ImageSource) -> Category:
    """The category with validation images drawn, images with equal pixels counting as copies."""
    contents = {sample.image: info.pixel_sha256 for sample, info in zip(source.samples, source.files, strict=True)}
    return hold_out(category, config.validation, config.seed, contents)


def _shown(category: Category) -> set[Path]:
    """The images that the report and the figures show: all test images, and some good training images."""
    return {sample.image for sample in [*category.of("test"), *examples_of(category)[0]]}
