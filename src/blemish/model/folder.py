"""The folder of a fitted detector, as far as it is plain data: model.json and the hashes of the files beside it.

Reading it imports neither torch nor any other runtime and runs no code. docs/model-format.md describes the format.

A model changes as a whole: model.json, which one rename replaces, names the files that belong to it, and their names
hold a hash, so that a new version never lies where the old one does. Those who read take no lock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from blemish.calibration.thresholds import Calibration
from blemish.errors import BlemishError
from blemish.files import opened, read_bytes
from blemish.imaging.alignment import Alignment
from blemish.imaging.preprocess import Preprocess
from blemish.imaging.roi import Roi
from blemish.model.document import LARGEST_DOCUMENT, Document, View, parse

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
    """Name of a file of the model, such as model.safetensors -> SHA-256 of its content."""
    files: dict[str, str] = field(default_factory=dict)
    """Name -> the file's path below the folder."""
    category: str = ""
    """The name of what it was fitted to, by which its images are found in a data set of many."""

    def path(self, name: str) -> Path:
        """Where the file of this name lies, or would."""
        return self.folder / self.files.get(name, name)

    def file(self, name: str) -> Path:
        """The path of a file of the model; raises BlemishError where it is missing or has another content."""
        path = self.path(name)
        if name not in self.sha256:
            raise BlemishError(f"{self.folder / DOCUMENT}: knows no {name}. It has: {', '.join(sorted(self.sha256))}.")
        if digest_of(path) != self.sha256[name]:
            raise BlemishError(f"{path}: not the file that {DOCUMENT} was written for. Copy the whole folder anew.")
        return path


Result = TypeVar("Result")


def read_model(folder: Path) -> ModelFolder:
    """What is known of the fitted detector in `folder`, its other files unread but for those of its preprocessing.

    Raises BlemishError where it is missing, damaged, or from a newer blemish.
    """
    return read_consistently(folder, lambda model: model)


def read_consistently(folder: Path, use: Callable[[ModelFolder], Result]) -> Result:
    """What `use` makes of the model in `folder` and of its files.

    Where that fails because another process has replaced the model meanwhile, it is done again with the new one. So
    `use` only reads. Raises BlemishError as `read_model`, and what `use` raises.
    """
    while True:
        before = _content(folder / DOCUMENT)
        try:
            return use(_model(folder))
        except (BlemishError, OSError):
            if _content(folder / DOCUMENT) == before:
                raise


def read_document(path: Path) -> Document:
    """The content of a model.json as the newest version has it; raises BlemishError where it cannot be used."""
    if not path.exists():
        raise BlemishError(f"{path}: no such file. Give the folder of a fitted detector.")
    return parse(read_bytes(path, LARGEST_DOCUMENT), path)


def find_model(path: Path) -> Path:
    """The folder of the fitted detector at `path`, or the only one directly in it; raises BlemishError otherwise."""
    if (path / DOCUMENT).is_file() or not path.is_dir():
        return path
    found = sorted(folder.parent for folder in path.glob(f"*/{DOCUMENT}"))
    if len(found) > 1:
        raise BlemishError(f"{path}: holds several fitted detectors, give one: {', '.join(map(str, found))}.")
    return found[0] if found else path


def _content(path: Path) -> bytes | None:
    try:
        return read_bytes(path, LARGEST_DOCUMENT)
    except BlemishError:
        return None


def _model(folder: Path) -> ModelFolder:
    document = read_document(folder / DOCUMENT)
    model = ModelFolder(
        folder,
        document.model,
        document.options,
        Preprocess((1, 1)),
        sha256={inner(folder, name): digest for name, digest in document.sha256.items()},
        files={name: inner(folder, path) for name, path in document.files.items()},
        category=document.category,
    )
    return replace(
        model,
        preprocess=_preprocess(document.preprocess, model),
        calibration=document.calibration,
        metrics=document.metrics,
        provenance=document.provenance,
        exports=document.exports,
    )


def _preprocess(view: View, model: ModelFolder) -> Preprocess:
    roi, reference = (None if name is None else model.file(name).read_bytes() for name in (view.roi, view.reference))
    pictures = None if roi is None else Roi(roi), None if reference is None else Alignment(reference)
    return Preprocess(view.size, view.aspect, view.tile, view.overlap, *pictures, view.combination)


def inner(folder: Path, name: str) -> str:
    """The name, if it is that of a file in the folder, or in one below it, after all links; BlemishError otherwise."""
    if not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise BlemishError(
            f"{folder / DOCUMENT}: names {name!r}, which is outside of its folder. Do not use this model."
        )
    return name


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content in hexadecimal; raises BlemishError where it cannot be read."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
