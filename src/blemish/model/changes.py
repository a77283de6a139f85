"""Writing the folder of a fitted detector: under a lock, and atomically. Nothing here needs torch."""

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
    check_inside,
    read_document,
    read_model,
    sha256_of,
)
from blemish.model.locking import LONG_WAIT, locked

STAGED = ".staging-"
"""Prefix of a temporary folder for new files of a model."""
LEFTOVERS = (f"{STAGED}????????", ".export-????????")
"""Patterns of temporary folders that a killed process leaves; earlier versions used the second one."""
VERSIONED = re.compile(r"(model|roi|reference)-[0-9a-f]{12}\.\w+")
"""File names that only blemish writes."""


@contextmanager
def locked_folder(folder: Path, doing: str, timeout: float = LONG_WAIT) -> Iterator[None]:
    """A context in which no other process writes a model to the folder; leftovers of killed processes are removed.

    `doing` and `timeout` are as in `locked`, which raises BlemishError if the lock is not free in time.
    """
    with locked(folder, doing, timeout) as is_new:
        if not is_new:
            yield
            return
        _remove_leftovers(folder)
        try:
            yield
        finally:
            _remove_leftovers(folder)  # if the body failed


@contextmanager
def updating_model(folder: Path, doing: str, timeout: float = LONG_WAIT) -> Iterator[ModelFolder]:
    """A context with the model in `folder`, which no other process changes before the context ends.

    To read a model, compute from it and write it with `write_model` inside this context loses no concurrent change.
    Raises BlemishError as `read_model` and `locked` do.
    """
    read_document(folder / DOCUMENT)  # raises before a lock file is created
    with locked_folder(folder, doing, timeout):
        yield read_model(folder)


def refuse_overwriting(folder: Path, is_forced: bool) -> None:
    """Raises BlemishError if the folder already holds a model and `is_forced` is False."""
    if (folder / DOCUMENT).exists() and not is_forced:
        raise BlemishError(f"{folder}: holds a model already. Give another folder as out, or force to replace it.")


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A context with a temporary folder for new files inside the locked `folder`; it is removed at the end."""
    with writing(folder):
        staged = Path(tempfile.mkdtemp(prefix=STAGED, dir=folder))
    try:
        yield staged
    finally:
        rmtree(staged, ignore_errors=True)


def write_model(model: ModelFolder, files: Mapping[str, Path] | None = None) -> ModelFolder:
    """Writes a model to its folder (`model.folder`) atomically, and gives it with the new files and hashes.

    `files` maps names, such as model.safetensors, to paths in a `staging` folder, from which they are moved. The rename
    of model.json switches from the old model to the new one; files that only the old one names are removed afterwards.
    To change a model that was read, call this inside `updating_model`.
    """
    with locked_folder(model.folder, "writing a model"):
        before = _named_files(model.folder) or set()
        with staging(model.folder) as staged, writing(model.folder):
            model = _with_preprocess_files(_with_files(model, files or {}), staged)
            for folder in {model.path(name).parent for name in model.sha256}:
                _sync(folder)
        write_json(model.folder / DOCUMENT, _to_dict(model))
        _sync(model.folder)
        for name in before - set(model.files.values()):
            _remove(model.folder / name)
    return model


def _with_files(model: ModelFolder, files: Mapping[str, Path]) -> ModelFolder:
    """The model with these files moved into its folder; all of them get the same hash in their names."""
    digests = {name: sha256_of(path) for name, path in files.items()}
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


def _with_preprocess_files(model: ModelFolder, staged: Path) -> ModelFolder:
    """The model with the files of its preprocessing, written unless they are unchanged."""
    for name, image in ((ROI, model.preprocess.roi), (REFERENCE, model.preprocess.alignment)):
        if image is None:
            kept = {key: digest for key, digest in model.sha256.items() if key != name}
            model = replace(model, sha256=kept, files={key: model.files[key] for key in kept})
        elif model.sha256.get(name) != hashlib.sha256(image.png).hexdigest():
            (staged / name).write_bytes(image.png)
            model = _with_files(model, {name: staged / name})
    return model


def _named_files(folder: Path) -> set[str] | None:
    """The files that model.json names; empty without model.json, None if it cannot be read or is invalid."""
    if not (folder / DOCUMENT).exists():
        return set()
    try:
        return {check_inside(folder, name) for name in read_document(folder / DOCUMENT).files.values()}
    except BlemishError:
        return None


def _remove_leftovers(folder: Path) -> None:
    """Removes temporary files of killed processes, and files that model.json does not name any more."""
    for left in chain.from_iterable(folder.glob(pattern) for pattern in LEFTOVERS):
        rmtree(left, ignore_errors=True)
    remove_temporaries(folder / DOCUMENT)
    named = _named_files(folder)
    if named is None:
        return
    for path in [*folder.glob("*-*"), *folder.glob("*/*-*")]:
        if VERSIONED.fullmatch(path.name) and path.relative_to(folder).as_posix() not in named:
            _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):  # Windows cannot remove a file that is open; the next change does
        path.unlink()


def _sync(folder: Path) -> None:
    """Flushes the entries of a folder to disk, if the system supports it."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _to_dict(model: ModelFolder) -> dict[str, Any]:
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
