"""The folder of a fitted detector, as far as it is plain data: model.json and the hashes of the files beside it.

Reading it imports neither torch nor any other runtime and runs no code. docs/model-format.md describes the format.

A model changes as a whole: model.json, which one rename replaces, names the files that belong to it, and their names
hold a hash, so that a new version never lies where the old one does. Those who read take no lock.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, get_args

from blemish.calibration.thresholds import Calibration, from_plain
from blemish.errors import BlemishError
from blemish.files import opened, read_bytes
from blemish.imaging.alignment import Alignment
from blemish.imaging.preprocess import Aspect, Combination, Preprocess
from blemish.imaging.roi import Roi
from blemish.model.migrations import migrated

FORMAT_VERSION = 4
READABLE = (1, 2, 3, 4)
DOCUMENT, TENSORS = "model.json", "model.safetensors"
ROI, REFERENCE = "roi.png", "reference.png"
LARGEST_DOCUMENT = 64 << 20
"""Bytes: what is larger is no model.json."""


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
    return reading(folder, lambda model: model)


def reading(folder: Path, use: Callable[[ModelFolder], Result]) -> Result:
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


def read_document(path: Path) -> dict[str, Any]:
    """The content of a model.json as the newest version has it; raises BlemishError where it cannot be read."""
    try:
        if not path.exists():
            raise BlemishError(f"{path}: no such file. Give the folder of a fitted detector.")
        content = json.loads(read_bytes(path, LARGEST_DOCUMENT))
    except (ValueError, RecursionError) as error:
        raise BlemishError(f"{path}: not JSON ({error}). Train again, or copy it anew.") from None
    version = content.get("format_version") if isinstance(content, dict) else None
    if version not in READABLE:
        readable = f"{READABLE[0]} to {READABLE[-1]}"
        raise BlemishError(f"{path}: format_version {version}, this blemish reads {readable}. Upgrade blemish.")
    try:
        return migrated(content, path.parent)
    except DAMAGED as error:
        raise _damaged(path, error) from None


def find_model(path: Path) -> Path:
    """The folder of the fitted detector at `path`, or the only one directly in it; raises BlemishError otherwise."""
    if (path / DOCUMENT).is_file() or not path.is_dir():
        return path
    found = sorted(folder.parent for folder in path.glob(f"*/{DOCUMENT}"))
    if len(found) > 1:
        raise BlemishError(f"{path}: holds several fitted detectors, give one: {', '.join(map(str, found))}.")
    return found[0] if found else path


DAMAGED = (KeyError, TypeError, ValueError, IndexError, AttributeError)
"""What plain data of another shape than expected leads to."""


def _damaged(path: Path, error: Exception) -> BlemishError:
    return BlemishError(f"{path}: damaged, {error!r}. Train again, or copy it anew.")


def _content(path: Path) -> bytes | None:
    try:
        return read_bytes(path, LARGEST_DOCUMENT)
    except BlemishError:
        return None


def _model(folder: Path) -> ModelFolder:
    content = read_document(folder / DOCUMENT)
    try:
        sha256 = {inner(folder, name): str(digest) for name, digest in content["sha256"].items()}
        model = ModelFolder(
            folder,
            str(content["model"]),
            dict(content["options"]),
            Preprocess((1, 1)),
            sha256=sha256,
            files={name: inner(folder, content["files"][name]) for name in sha256},
            category=str(content["category"]),
        )
        calibration = content["calibration"]
        return replace(
            model,
            preprocess=_preprocess(content["preprocess"], model),
            calibration=from_plain(calibration) if calibration else None,
            metrics=dict(content["metrics"]),
            provenance=dict(content["provenance"]),
            exports=dict(content["exports"]),
        )
    except DAMAGED as error:
        raise _damaged(folder / DOCUMENT, error) from None


def _preprocess(content: dict[str, Any], model: ModelFolder) -> Preprocess:
    height, width = (int(side) for side in content["size"])
    tile, overlap = content["tile"], int(content["overlap"])
    combination = content.get("combination", "maximum")
    is_right = height > 0 and width > 0 and content["aspect"] in get_args(Aspect)
    is_right = is_right and combination in get_args(Combination)
    if not is_right or (tile is not None and not (isinstance(tile, int) and 0 <= 2 * overlap <= tile > 0)):
        raise ValueError(f"preprocess {content}")
    names = content["roi"], content["reference"]
    roi, reference = (None if name is None else model.file(name).read_bytes() for name in names)
    pictures = None if roi is None else Roi(roi), None if reference is None else Alignment(reference)
    return Preprocess((height, width), content["aspect"], tile, overlap, *pictures, combination)


def inner(folder: Path, name: str) -> str:
    """The name, if it is that of a file in the folder, or in one below it, after all links; BlemishError otherwise."""
    is_plain = re.fullmatch(r"[\w.+-]+(/[\w.+-]+)*", name) and not re.search(r"(^|/)\.\.?(/|$)", name)
    if not is_plain or not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise BlemishError(
            f"{folder / DOCUMENT}: names {name!r}, which is outside of its folder. Do not use this model."
        )
    return name


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content in hexadecimal; raises BlemishError where it cannot be read."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
