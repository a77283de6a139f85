"""Saving and loading a fitted detector: a folder of JSON and safetensors files, which cannot execute code."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from blemish.calibration.thresholds import Calibration
from blemish.detectors import detector_class
from blemish.detectors.base import Detector
from blemish.errors import BlemishError, one_line
from blemish.features.devices import device_named, uses_bfloat16
from blemish.features.timm_features import without_networks
from blemish.files import make_folder, write_tensors
from blemish.imaging.preprocess import Preprocess
from blemish.model.changes import locked_folder, staging, write_model
from blemish.model.folder import DOCUMENT, TENSORS, ModelFolder, read_consistently
from blemish.model.state_keys import completed, renamed

DAMAGE_ERRORS = (
    SafetensorError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    MemoryError,
    OSError,
)
"""The exceptions that damaged tensors cause, when they are read or used."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A fitted detector with its preprocessing, calibration and provenance."""

    model: str
    """The name under which the detector is registered."""
    detector: Detector
    preprocess: Preprocess
    provenance: dict[str, Any]
    """How it was made, as plain data: configuration, seed, versions, hash of the data, losses."""
    calibration: Calibration | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    """Metric name -> value on the test images; None if not applicable."""
    category: str = ""
    """The category that it was fitted to."""

    def in_folder(self, folder: Path) -> ModelFolder:
        """What a model.json in `folder` says of it; nothing is written, so no files are named yet."""
        options = self.detector.options | self.detector.choices
        about = options, self.preprocess, self.calibration, self.metrics, self.provenance
        return ModelFolder(folder, self.model, *about, category=self.category)


def save(artifact: Artifact, folder: Path) -> ModelFolder:
    """Writes the artifact to `folder` atomically, and gives the written model. It replaces a model that is there."""
    make_folder(folder)
    model = artifact.in_folder(folder)
    with locked_folder(folder, "saving a model"), staging(folder) as staged:
        write_tensors(staged / TENSORS, artifact.detector.state_dict())
        return write_model(model, {TENSORS: staged / TENSORS})


def load(folder: Path) -> Artifact:
    """The artifact in `folder`; raises BlemishError if it is missing, damaged, or written by a newer version."""
    return read_consistently(folder, artifact_of)


def artifact_of(model: ModelFolder) -> Artifact:
    """The artifact of a model that was read; raises BlemishError if its tensors are damaged."""
    return Artifact(
        model.model,
        load_detector(model),
        model.preprocess,
        model.provenance,
        model.calibration,
        model.metrics,
        model.category,
    )


def load_detector(model: ModelFolder, device: str = "cpu", *, in_float32: bool = False) -> Detector:
    """The fitted detector of a model, in evaluation mode on a device such as "cpu", "cuda:1" or "auto".

    A network that was fitted in bfloat16 computes in float32, with the same weights, if `in_float32` is True or the
    device does not support bfloat16. Raises BlemishError if the device does not exist, or the tensors are damaged or
    do not fit the detector.
    """
    place, path, options = device_named(device), model.file(TENSORS), dict(model.options)
    precision = options.get("precision")
    if precision == "int8" or (precision == "bfloat16" and (in_float32 or not uses_bfloat16("auto", place))):
        options["precision"] = "float32"  # int8: written by an earlier version
    try:
        tensors = load_file(path)
        with nullcontext() if in_float32 or place.type != "cpu" else without_networks():
            detector = detector_class(model.model).create(**completed(model.model, options, tensors))
        _check_size(model, detector)
        detector.load_state_dict(renamed(model.model, tensors))
        detector.is_fitted = True
        detector.to(place).eval()
        with torch.inference_mode():  # shapes depend on the training data, so only a forward pass checks them
            detector(torch.zeros(1, 3, *model.preprocess.size, device=place))
    except DAMAGE_ERRORS as error:
        reason = one_line(str(error).strip().rpartition("\n")[2], 200) or type(error).__name__
        raise BlemishError(f"{path}: does not fit the detector ({reason}). Train again, or copy it anew.") from None
    return detector


def _check_size(model: ModelFolder, detector: Detector) -> None:
    """Raises BlemishError if preprocessing and detector disagree about the image size: scores would be wrong."""
    if tuple(model.preprocess.size) != tuple(detector.input_size):
        given, needed = (" x ".join(map(str, size)) for size in (model.preprocess.size, detector.input_size))
        raise BlemishError(
            f"{model.folder / DOCUMENT}: preprocess.size is {given}, its detector's is {needed}. Copy it anew."
        )
