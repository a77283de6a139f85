"""The steps of a run, each a function from one frozen value to the next: plan, prepare, fit, calibrate.

Each is usable alone: what only learns stops after `fit` or `calibrate`; `blemish.runs.testing` measures what came out.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from blemish.calibration.thresholds import Calibration
from blemish.data.category import Category, data_hash, examples_of, find_categories, fitted_to, hold_out
from blemish.data.check import Problem, find_problems, read_mask_infos, refuse
from blemish.data.kept import KeptImages
from blemish.data.learned import learned_images
from blemish.data.reading import FileReader, file_digests
from blemish.data.source import ImageSource
from blemish.data.source import load as load_images
from blemish.detectors import detector_class
from blemish.detectors.base import Detector
from blemish.errors import BlemishError
from blemish.features.devices import device_named
from blemish.imaging.alignment import Alignment, choose_alignment
from blemish.imaging.preprocess import Preprocess
from blemish.imaging.roi import Roi, read_roi
from blemish.inference.inspector import Inspector
from blemish.inference.torch_backend import TorchBackend
from blemish.model.tensors import Artifact
from blemish.progress import Phases, no_phases, told
from blemish.runs.config import RunConfig
from blemish.runs.provenance import identity_of, versions
from blemish.runs.recalibrate import calibrate_on, digests, without_copies
from blemish.types import Prediction, Sample, Split

logger = logging.getLogger("blemish")


@dataclass(frozen=True)
class Planned:
    """What is to be run: settings and images, and what the result depends on."""

    config: RunConfig
    category: Category
    """With the validation images drawn by the files' hashes."""
    roi: Roi | None
    identity: dict[str, Any]
    """The settings and the hash of the data, as plain data; a run with the same one has the same result."""
    reader: FileReader
    """Which holds what was read so far."""


@dataclass(frozen=True)
class Prepared:
    """An unfitted detector and every image, decoded once."""

    config: RunConfig
    category: Category
    """With the validation images drawn by the pictures' own hashes."""
    identity: dict[str, Any]
    detector: Detector
    source: ImageSource
    kept: KeptImages
    """Masks, and small pictures of what is shown."""
    problems: tuple[Problem, ...]
    """What was found in the data, none of it an error."""
    reason: str
    """Why images are aligned, or not."""

    def of(self, split: Split) -> ImageSource:
        """The images of one split."""
        return self.source.where(lambda sample: sample.split == split)


@dataclass(frozen=True)
class Fitted:
    """A fitted detector and what it was fitted to."""

    prepared: Prepared
    detector: Detector
    training: dict[str, Any]
    """What the training is worth recording by; empty for a detector that does not train."""
    seconds: float


@dataclass(frozen=True)
class Calibrated:
    """A fitted detector that decides, as far as there were images to calibrate it with."""

    fitted: Fitted
    inspector: Inspector
    calibration: Calibration | None
    held_out: list[Prediction] = field(default_factory=list)
    """The validation images' predictions, without their maps."""

    @property
    def artifact(self) -> Artifact:
        """What is saved of it."""
        prepared = self.fitted.prepared
        name, category = prepared.config.model, fitted_to(prepared.category)
        preprocess, provenance = prepared.source.preprocess, provenance_of(self.fitted)
        return Artifact(name, self.fitted.detector, preprocess, provenance, self.calibration, category=category)


def plan(config: RunConfig, category: Category, phases: Phases = no_phases) -> Planned:
    """Hashes the files of the category, draws the validation images, reads the region of interest."""
    reader = FileReader(config.max_pixels, config.memory_budget)
    contents = file_digests(category.samples, phases("hashing"), reader)
    roi = read_roi(config.roi) if config.roi else None
    category, data_sha256 = hold_out(category, config.validation, config.seed, contents), data_hash(category, contents)
    return Planned(config, category, roi, identity_of(config, data_sha256, roi), reader)


def prepare(planned: Planned, phases: Phases = no_phases) -> Prepared:
    """Makes the detector, chooses how images are brought to it, and decodes every image and mask.

    Raises BlemishError for an option that the detector does not take, and for data that would make the result wrong.
    """
    config = planned.config
    detector = detector_class(config.model).create(**_shared(config), **config.options)
    detector.to(device_named(config.device))
    alignment, reason = _alignment(planned, phases)
    overlap = config.overlap if config.tile else 0
    pieces = config.tile, overlap, planned.roi, alignment, detector.combination, config.max_pixels
    preprocess = Preprocess(detector.input_size, config.aspect, *pieces)
    source, category, kept, problems = _load(planned, preprocess, phases)
    return Prepared(config, category, planned.identity, detector, source, kept, problems, reason)


def fit(prepared: Prepared, checkpoint: Path | None = None, phases: Phases = no_phases) -> Fitted:
    """Fits the detector to the good training images; one that trains by gradient goes by its `checkpoint`."""
    config, detector = prepared.config, prepared.detector
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
    images, validation, progress = prepared.of("train"), prepared.of("val"), phases("fitting")
    started = time.perf_counter()
    detector.fit(images, validation=validation, seed=config.seed, progress=progress, training=training)
    return Fitted(prepared, detector, detector.losses_per_epoch, time.perf_counter() - started)


def calibrate(fitted: Fitted, phases: Phases = no_phases) -> Calibrated:
    """Chooses the threshold by the validation images, one of each picture; there is none where there are no images."""
    prepared = fitted.prepared
    preprocess = prepared.source.preprocess
    inspector = Inspector(TorchBackend(fitted.detector), preprocess, batch_size=prepared.config.batch_size)
    validation = without_copies(prepared.of("val"))
    predictions = told(inspector.predict(validation), len(validation.samples), phases("calibrating"))
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
        "choices": [prepared.reason, *fitted.detector.reasons],
        "data_path": str(prepared.config.data_path.resolve()) if has_folder else None,
    }


def only_category(config: RunConfig) -> Category:
    """The category that the configuration names; raises BlemishError where it is none or several."""
    found = find_categories(config.data_path, config.category)
    if len(found) != 1:
        names = ", ".join(category.name for category in found)
        raise BlemishError(f"category: a run is of one category, {config.data_path} has {names}. Name one.")
    return found[0]


def _shared(config: RunConfig) -> dict[str, Any]:
    """The settings that are options of the detector too; its size, if it is left open, is near that of a tile."""
    size = config.size
    if size is None and config.tile is not None:
        size = min(1024, max(32, 16 * round(config.tile / 16)))
    given = {"size": size, "precision": config.precision}
    known = detector_class(config.model).option_fields()
    return {name: value for name, value in given.items() if name in known and value is not None}


def _alignment(planned: Planned, phases: Phases) -> tuple[Alignment | None, str]:
    if planned.roi is not None:
        return None, "align: off, since a region of interest lies still"
    samples, held_out = planned.category.of("train"), planned.category.of("val")

    def read(sample: Sample) -> Any:
        return planned.reader.open(sample, keep=True).pixels

    return choose_alignment(samples, held_out, planned.config.align, read, phases("aligning"))


def _load(
    planned: Planned, preprocess: Preprocess, phases: Phases
) -> tuple[ImageSource, Category, KeptImages, tuple[Problem, ...]]:
    """Every image and mask of the category, decoded once, and what is odd.

    Refused where that would make the result wrong. The validation images are drawn anew: only now it is known which
    files hold the same picture.
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
    contents = {sample.image: info.pixel_sha256 for sample, info in zip(source.samples, source.files, strict=True)}
    category = hold_out(category, config.validation, config.seed, contents)
    masks = read_mask_infos(category.samples, reader)
    problems = find_problems(category, source.files, masks)
    refuse(problems)
    for problem in problems:
        logger.warning("%s", problem)
    kept = KeptImages.of(category.samples, source.files, masks)
    return source.with_samples(category.samples), category, kept, tuple(problems)


def _shown(category: Category) -> set[Path]:
    """The images that a report and the figures show: those of the test, and some good ones."""
    return {sample.image for sample in [*category.of("test"), *examples_of(category)[0]]}
