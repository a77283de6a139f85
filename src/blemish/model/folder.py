"""The folder of a fitted detector, as far as it is plain data: model.json and the hashes of the files beside it.

Reading it imports neither torch nor any other runtime and runs no code. docs/model-format.md describes the format.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from blemish.calibration.thresholds import Calibration, to_plain
from blemish.errors import BlemishError
from blemish.files import open_file, replacing, write_json
from blemish.imaging.alignment import Alignment
from blemish.imaging.preprocess import Preprocess
from blemish.imaging.roi import Roi
from blemish.model.document import (
    FORMAT_VERSION,
    LARGEST_DOCUMENT,
    REFERENCE,
    ROI,
    Document,
    View,
    parse,
)

DOCUMENT, TENSORS = "model.json", "model.safetensors"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """What model.json says of a fitted detector."""

    folder: Path
    model: str
    """The name that the detector is registered under."""
    options: dict[str, Any]
    """The arguments of the detector."""
    preprocess: Preprocess
    calibration: Calibration | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    """Figures on the test images that it was learned with."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Plain data: configuration, seed, versions, data hash, losses."""
    exports: dict[str, Any] = field(default_factory=dict)
    """Format -> precision of the export, and how far it is from the detector in torch."""
    sha256: dict[str, str] = field(default_factory=dict)
    """File beside model.json -> SHA-256 of its content."""

    def file(self, name: str) -> Path:
        """The path of a file beside model.json; raises BlemishError where it is missing or has another content."""
        path = self.folder / name
        if name not in self.sha256:
            raise BlemishError(f"{self.folder / DOCUMENT}: knows no {name}. It has: {', '.join(sorted(self.sha256))}.")
        if _digest(path) != self.sha256[name]:
            raise BlemishError(f"{path}: not the file that {DOCUMENT} was written for. Copy the whole folder anew.")
        return path


def read_model(folder: Path) -> ModelFolder:
    """What is known of the fitted detector in `folder`, its other files unread but for those of its preprocessing.

    Raises BlemishError where it is missing, damaged, or from a newer blemish.
    """
    document = _read_document(folder / DOCUMENT)
    sha256 = {_inner(folder, name): digest for name, digest in document.sha256.items()}
    model = ModelFolder(folder, document.model, document.options, Preprocess((1, 1)), sha256=sha256)
    return replace(
        model,
        preprocess=_preprocess(document.preprocess, model),
        calibration=document.calibration,
        metrics=document.metrics,
        provenance=document.provenance.model_dump(exclude_unset=True),
        exports=document.exports,
    )


def write_model(model: ModelFolder, files: Sequence[str] = ()) -> ModelFolder:
    """Writes model.json last, after the files beside it: those named are hashed anew, the others stay as they are."""
    pictures = {ROI: model.preprocess.roi, REFERENCE: model.preprocess.alignment}
    written = {name: picture.png for name, picture in pictures.items() if picture is not None}
    for name, png in written.items():
        with replacing(model.folder / name) as temporary:
            temporary.write_bytes(png)
    model = replace(model, sha256=model.sha256 | {name: _digest(model.folder / name) for name in [*files, *written]})
    document = {
        "format_version": FORMAT_VERSION,
        "model": model.model,
        "options": model.options,
        "preprocess": {
            "size": model.preprocess.size,
            "aspect": model.preprocess.aspect,
            "tile": model.preprocess.tile,
            "overlap": model.preprocess.overlap,
            "roi": ROI if ROI in written else None,
            "reference": REFERENCE if REFERENCE in written else None,
        },
        "calibration": to_plain(model.calibration) if model.calibration else None,
        "sha256": model.sha256,
        "exports": model.exports,
        "metrics": model.metrics,
        "provenance": model.provenance,
    }
    write_json(model.folder / DOCUMENT, document)
    return model


def find_model(path: Path) -> Path:
    """The folder of the fitted detector at `path`, or the only one directly in it; raises BlemishError otherwise."""
    if (path / DOCUMENT).is_file() or not path.is_dir():
        return path
    found = sorted(folder.parent for folder in path.glob(f"*/{DOCUMENT}"))
    if len(found) > 1:
        raise BlemishError(f"{path}: holds several fitted detectors, give one: {', '.join(map(str, found))}.")
    return found[0] if found else path


def _read_document(path: Path) -> Document:
    try:
        with open_file(path) as file:
            return parse(file.read(LARGEST_DOCUMENT + 1), path)
    except FileNotFoundError:
        raise BlemishError(f"{path}: no such file. Give the folder of a fitted detector.") from None
    except OSError as error:
        raise BlemishError(f"{path}: {error.strerror or error}. Give the folder of a fitted detector.") from None


def _preprocess(view: View, model: ModelFolder) -> Preprocess:
    roi, reference = (None if name is None else model.file(name).read_bytes() for name in (view.roi, view.reference))
    pictures = None if roi is None else Roi(roi), None if reference is None else Alignment(reference)
    return Preprocess(view.size, view.aspect, view.tile, view.overlap, *pictures)


def _inner(folder: Path, name: str) -> str:
    """The name, if it is that of a file in the folder, or in one below it, after all links."""
    if not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise BlemishError(
            f"{folder / DOCUMENT}: names {name!r}, which is outside of its folder. Do not use this model."
        )
    return name


def _digest(path: Path) -> str:
    try:
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BlemishError(f"{path}: {error.strerror or error}. Train again, or copy the whole folder anew.") from None
