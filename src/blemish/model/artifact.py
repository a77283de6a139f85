"""A fitted detector on disk: a folder of JSON and safetensors, which can run no code."""

from __future__ import annotations

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
from blemish.files import make_folder, write_tensors
from blemish.imaging.preprocess import Preprocess
from blemish.model.changes import locked_folder, staging, write_model
from blemish.model.folder import DOCUMENT, TENSORS, ModelFolder, read_consistently
from blemish.model.state_keys import completed, renamed

DAMAGE = (
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
"""What reading damaged tensors and computing with them raises."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A fitted detector, how images are brought to it, how its scores become decisions, and how it came about."""

    model: str
    """The name that the detector is registered under."""
    detector: Detector
    preprocess: Preprocess
    provenance: dict[str, Any]
    """Plain data: configuration, seed, versions, data hash, losses."""
    calibration: Calibration | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    category: str = ""
    """The name of what it was fitted to."""


def save(artifact: Artifact, folder: Path) -> ModelFolder:
    """Makes the artifact what `folder` holds; until it is there as a whole, what was there before stands."""
    make_folder(folder)
    model = ModelFolder(
        folder,
        artifact.model,
        artifact.detector.options | artifact.detector.choices,
        artifact.preprocess,
        artifact.calibration,
        artifact.metrics,
        artifact.provenance,
        category=artifact.category,
    )
    with locked_folder(folder, "saving a model"), staging(folder) as staged:
        write_tensors(staged / TENSORS, artifact.detector.state_dict())
        return write_model(model, {TENSORS: staged / TENSORS})


def load(folder: Path) -> Artifact:
    """The artifact in `folder`; raises BlemishError where it is missing, damaged, or from a newer blemish."""
    return read_consistently(folder, artifact_of)


def artifact_of(model: ModelFolder) -> Artifact:
    """The artifact of a model folder; raises BlemishError where its tensors are damaged."""
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
    """The fitted detector of a model folder, on a device.

    A network that was fitted in bfloat16 computes in float32, with the same weights, where this is asked for or the
    hardware has no bfloat16. Raises BlemishError where there is no such device, and where the tensors are
    damaged or do not fit the detector.
    """
    place, path, options = device_named(device), model.file(TENSORS), dict(model.options)
    precision, has_bfloat16 = options.get("precision"), not in_float32 and uses_bfloat16("auto", place)
    if precision == "int8" or (precision == "bfloat16" and not has_bfloat16):  # int8: by an earlier blemish
        options["precision"] = "float32"
    try:
        tensors = load_file(path)
        detector = detector_class(model.model).create(**completed(model.model, options, tensors))
        _check_size(model, detector)
        detector.load_state_dict(renamed(model.model, tensors))
        detector.is_fitted = True
        detector.to(place).eval()
        with torch.inference_mode():  # the shapes of what was learned depend on the data: whether they fit shows in use
            detector(torch.zeros(1, 3, *model.preprocess.size, device=place))
    except DAMAGE as error:
        reason = one_line(str(error).strip().rpartition("\n")[2], 200) or type(error).__name__
        raise BlemishError(f"{path}: does not fit the detector ({reason}). Train again, or copy it anew.") from None
    return detector


def _check_size(model: ModelFolder, detector: Detector) -> None:
    """Raises BlemishError where images are brought to another size than the detector's, which would still compute."""
    found, own = (" x ".join(map(str, size)) for size in (model.preprocess.size, detector.input_size))
    if found != own:
        raise BlemishError(
            f"{model.folder / DOCUMENT}: preprocess.size is {found}, its detector's is {own}. Copy it anew."
        )
