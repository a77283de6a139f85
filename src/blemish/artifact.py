"""A fitted detector on disk: a folder of JSON and safetensors, which can run no code."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from blemish.detectors import detector_class
from blemish.detectors.base import Detector
from blemish.errors import BlemishError
from blemish.files import write_json, write_tensors
from blemish.images import Preprocess

FORMAT_VERSION = 1
DOCUMENT, TENSORS = "model.json", "model.safetensors"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A fitted detector, how images are brought to it, and how it came about."""

    model: str
    """The name that the detector is registered under."""
    detector: Detector
    preprocess: Preprocess
    provenance: dict[str, Any]
    """Plain data: configuration, seed, versions, data hash, losses."""


def save(artifact: Artifact, folder: Path) -> None:
    """Writes the artifact into `folder`. The document comes last, so a folder that has one is whole."""
    (folder / DOCUMENT).unlink(missing_ok=True)
    write_tensors(folder / TENSORS, artifact.detector.state_dict())
    document = {
        "format_version": FORMAT_VERSION,
        "model": artifact.model,
        "options": artifact.detector.options | artifact.detector.choices,
        "preprocess": asdict(artifact.preprocess),
        "sha256": {TENSORS: _digest(folder / TENSORS)},
        "provenance": artifact.provenance,
    }
    write_json(folder / DOCUMENT, document)


def load(folder: Path) -> Artifact:
    """The artifact in `folder`; raises BlemishError where it is missing, damaged, or from a newer blemish."""
    document = read_document(folder)
    try:
        model, options, preprocess = document["model"], document["options"], document["preprocess"]
        expected, provenance = document["sha256"][TENSORS], document["provenance"]
        fitted = Preprocess((int(preprocess["size"][0]), int(preprocess["size"][1])), preprocess["aspect"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BlemishError(f"{folder / DOCUMENT}: damaged, {error!r}. Train again, or copy it anew.") from None
    if _digest(folder / TENSORS) != expected:
        raise BlemishError(f"{folder / TENSORS}: not the file that {DOCUMENT} was written for. Copy both anew.")
    detector = detector_class(model).create(**options)
    _load_tensors(detector, folder / TENSORS)
    return Artifact(model, detector, fitted, provenance)


def read_document(folder: Path) -> dict[str, Any]:
    """What model.json in `folder` says; raises BlemishError where it cannot be used."""
    path = folder / DOCUMENT
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise BlemishError(f"{path}: no such file. Give the folder of a fitted detector.") from None
    except ValueError as error:
        raise BlemishError(f"{path}: not JSON ({error}). Train again, or copy it anew.") from None
    version = document.get("format_version") if isinstance(document, dict) else None
    if version != FORMAT_VERSION:
        raise BlemishError(f"{path}: format_version {version}, this blemish reads {FORMAT_VERSION}. Upgrade blemish.")
    return dict(document)


def _load_tensors(detector: Detector, path: Path) -> None:
    try:
        detector.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise BlemishError(f"{path}: does not fit the detector ({reason}). Train again, or copy it anew.") from None
    detector.is_fitted = True
    detector.eval()


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BlemishError(f"{path}: {error.strerror}. Train again, or copy the whole folder anew.") from None
