"""Reading the folder of a fitted detector: model.json and the checked paths of the files beside it.

Reading imports neither torch nor any other runtime, and executes no code. docs/model-format.md describes the format.

A model is replaced atomically: a rename replaces model.json, which names the other files. Their names contain a hash,
so that a new version never overwrites an old one. Readers need no lock.
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
from blemish.model.document import LARGEST_DOCUMENT, Document, PreprocessFields, parse

DOCUMENT, TENSORS = "model.json", "model.safetensors"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """The content of model.json."""

    folder: Path
    model: str
    """The name under which the detector is registered."""
    options: dict[str, Any]
    """The keyword arguments of the detector's constructor."""
    preprocess: Preprocess
    calibration: Calibration | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    """Metric name -> value on the test images of its data set."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """How it was made: configuration, seed, versions, hash of the data, losses."""
    exports: dict[str, Any] = field(default_factory=dict)
    """Export format -> its precision, and its largest differences from the detector in torch."""
    sha256: dict[str, str] = field(default_factory=dict)
    """Name of a file, such as model.safetensors -> SHA-256 of its content."""
    files: dict[str, str] = field(default_factory=dict)
    """Name of a file -> its path relative to the folder."""
    category: str = ""
    """The category that it was fitted to; finds its images in a data set of several categories."""

    def path(self, name: str) -> Path:
        """The path of the file of this name, which may not exist."""
        return self.folder / self.files.get(name, name)

    def file(self, name: str) -> Path:
        """The path of the file of this name; raises BlemishError if it is missing or its hash is wrong."""
        path = self.path(name)
        if name not in self.sha256:
            raise BlemishError(f"{self.folder / DOCUMENT}: lists no {name}. It has: {', '.join(sorted(self.sha256))}.")
        if sha256_of(path) != self.sha256[name]:
            raise BlemishError(f"{path}: not the file that {DOCUMENT} was written for. Copy the whole folder anew.")
        return path


Result = TypeVar("Result")


def read_model(folder: Path) -> ModelFolder:
    """The model in `folder`: model.json and the images of its preprocessing; tensors and exports are not read.

    Raises BlemishError if the folder holds no model, or it is damaged or written by a newer version.
    """
    return read_consistently(folder, lambda model: model)


def read_consistently(folder: Path, use: Callable[[ModelFolder], Result]) -> Result:
    """The result of `use`, called with the model in `folder`; `use` may read the model's files.

    If it fails while another process replaces the model, it is called again with the new one, so it must have no side
    effects. Raises BlemishError as `read_model` does, and whatever `use` raises.
    """
    while True:
        before = _content(folder / DOCUMENT)
        try:
            return use(_model(folder))
        except (BlemishError, OSError):
            if _content(folder / DOCUMENT) == before:
                raise


def read_document(path: Path) -> Document:
    """The validated content of a model.json, migrated to the newest version; raises BlemishError if it is invalid."""
    if not path.exists():
        raise BlemishError(f"{path}: no such file. Give the folder of a fitted detector.")
    return parse(read_bytes(path, LARGEST_DOCUMENT), path)


def find_model(path: Path) -> Path:
    """The folder of the model at `path`, or of the only one in its subfolders.

    Raises BlemishError if several subfolders hold a model. Without any model it is `path` itself.
    """
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
        sha256={check_inside(folder, name): digest for name, digest in document.sha256.items()},
        files={name: check_inside(folder, path) for name, path in document.files.items()},
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


def _preprocess(content: PreprocessFields, model: ModelFolder) -> Preprocess:
    names = content.roi, content.reference
    roi, reference = (None if name is None else model.file(name).read_bytes() for name in names)
    return Preprocess(
        content.size,
        content.aspect,
        content.tile,
        content.overlap,
        None if roi is None else Roi(roi),
        None if reference is None else Alignment(reference),
        content.combination,
    )


def check_inside(folder: Path, name: str) -> str:
    """The relative path `name`; raises BlemishError unless it is inside the folder, with symbolic links resolved."""
    if not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise BlemishError(f"{folder / DOCUMENT}: names {name!r}, which is outside its folder. Do not use this model.")
    return name


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content in hexadecimal; raises BlemishError if it cannot be read."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
