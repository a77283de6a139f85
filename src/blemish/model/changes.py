"""Changing the folder of a fitted detector: under a lock, whole or not at all; nothing of it needs torch."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePosixPath
from shutil import rmtree
from typing import Any

from blemish.calibration.thresholds import to_dict
from blemish.errors import BlemishError
from blemish.files import make_folder, remove_temporaries, write_json, writing
from blemish.model.document import FORMAT_VERSION, REFERENCE, ROI
from blemish.model.folder import (
    DOCUMENT,
    ModelFolder,
    digest_of,
    inner,
    read_document,
    read_model,
)
from blemish.model.locking import LONG_WAIT, locked

STAGED = ".staging-"
"""What a folder for files that are not yet the model's is named by."""
LEFT = (f"{STAGED}????????", ".export-????????")
"""Folders that a killed process left; the second is what they were called."""
VERSIONED = re.compile(r"(model|roi|reference)-[0-9a-f]{12}\.\w+")
"""Names of files that no other program makes."""


@contextmanager
def locked_folder(folder: Path, doing: str, timeout: float = LONG_WAIT) -> Iterator[None]:
    """The folder, which no other process writes a model to meanwhile, rid of what killed ones have left there.

    Raises BlemishError, before anything is done, as `locked`.
    """
    with locked(folder, doing, timeout) as is_new:
        if not is_new:
            yield
            return
        _tidy(folder)
        try:
            yield
        finally:
            _tidy(folder)  # where the body failed


@contextmanager
def updating_model(folder: Path, doing: str, timeout: float = LONG_WAIT) -> Iterator[ModelFolder]:
    """The model in `folder` as it stays until the body changes it by `write_model`: read, compute and write are one.

    Raises BlemishError as `read_model` and `locked`.
    """
    read_document(folder / DOCUMENT)  # what holds no model gets no lock
    with locked_folder(folder, doing, timeout):
        yield read_model(folder)


def refuse_overwriting(folder: Path, is_forced: bool) -> None:
    """Raises BlemishError where the folder holds a model that nobody asked to replace."""
    if (folder / DOCUMENT).exists() and not is_forced:
        raise BlemishError(f"{folder}: holds a model already. Give another --out, or --force to replace it.")


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A folder inside of `folder` to write files of the model into, gone in the end; it must be locked."""
    with writing(folder):
        staged = Path(tempfile.mkdtemp(prefix=STAGED, dir=folder))
    try:
        yield staged
    finally:
        rmtree(staged, ignore_errors=True)


def write_model(model: ModelFolder, files: Mapping[str, Path] | None = None) -> ModelFolder:
    """Makes `model` what its folder holds; `files`, name -> where it was written, are moved into it.

    Up to the rename of model.json the model of before stands, after it the new one; then files that it does not
    name are removed. What is computed from a model that was read belongs into `updating_model` together with this.
    """
    with locked_folder(model.folder, "writing a model"):
        before = _named(model.folder) or set()
        with staging(model.folder) as staged, writing(model.folder):
            model = _with_pictures(_with_files(model, files or {}), staged)
            for folder in {model.path(name).parent for name in model.sha256}:
                _sync(folder)
        write_json(model.folder / DOCUMENT, _plain(model))
        _sync(model.folder)
        for name in before - set(model.files.values()):
            _remove(model.folder / name)
    return model


def _with_files(model: ModelFolder, files: Mapping[str, Path]) -> ModelFolder:
    """The model with these files moved into its folder; files that belong together get the same hash in their names."""
    digests = {name: digest_of(path) for name, path in files.items()}
    version = hashlib.sha256("".join(digests.values()).encode()).hexdigest()[:12]
    paths = {name: _versioned(PurePosixPath(name), version) for name in files}
    for name, path in files.items():
        target = model.folder / paths[name]
        make_folder(target.parent)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        path.chmod(0o644)
        path.replace(target)
    return replace(model, sha256=model.sha256 | digests, files=model.files | paths)


def _versioned(name: PurePosixPath, version: str) -> str:
    return str(name.with_name(f"{name.stem}-{version}{name.suffix}"))


def _with_pictures(model: ModelFolder, staged: Path) -> ModelFolder:
    """The model with the files of its preprocessing, written where they are not there already."""
    for name, picture in ((ROI, model.preprocess.roi), (REFERENCE, model.preprocess.alignment)):
        if picture is None:
            kept = {key: digest for key, digest in model.sha256.items() if key != name}
            model = replace(model, sha256=kept, files={key: model.files[key] for key in kept})
        elif model.sha256.get(name) != hashlib.sha256(picture.png).hexdigest():
            (staged / name).write_bytes(picture.png)
            model = _with_files(model, {name: staged / name})
    return model


def _named(folder: Path) -> set[str] | None:
    """The files that model.json names; none where there is no model.json, None where it cannot be read or trusted."""
    if not (folder / DOCUMENT).exists():
        return set()
    try:
        return {inner(folder, name) for name in read_document(folder / DOCUMENT).files.values()}
    except BlemishError:
        return None


def _tidy(folder: Path) -> None:
    """Removes what killed processes left: what was never the model's, and what is no more."""
    for left in chain.from_iterable(folder.glob(pattern) for pattern in LEFT):
        rmtree(left, ignore_errors=True)
    remove_temporaries(folder / DOCUMENT)
    named = _named(folder)
    if named is None:
        return
    for path in [*folder.glob("*-*"), *folder.glob("*/*-*")]:
        if VERSIONED.fullmatch(path.name) and path.relative_to(folder).as_posix() not in named:
            _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):  # Windows removes no file that is being read: the next change does
        path.unlink()


def _sync(folder: Path) -> None:
    """Has the names in the folder on the disk, where the system can be asked to."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _plain(model: ModelFolder) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "model": model.model,
        "category": model.category,
        "options": model.options,
        "preprocess": {
            "size": model.preprocess.size,
            "aspect": model.preprocess.aspect,
            "tile": model.preprocess.tile,
            "overlap": model.preprocess.overlap,
            "combination": model.preprocess.combination,
            "roi": ROI if model.preprocess.roi else None,
            "reference": REFERENCE if model.preprocess.alignment else None,
        },
        "calibration": to_dict(model.calibration) if model.calibration else None,
        "files": model.files,
        "sha256": model.sha256,
        "exports": model.exports,
        "metrics": model.metrics,
        "provenance": model.provenance,
    }
