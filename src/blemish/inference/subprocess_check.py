"""A first run of an export in a separate process, because a damaged file may crash a runtime or make it hang."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import numpy as np

from blemish.errors import BlemishError, one_line
from blemish.inference.export_files import ADVICE
from blemish.types import Size

SECONDS = 60
"""Time limit for loading the export and computing one image."""
MEMORY = 4 << 30
"""Memory limit in bytes, in addition to 8 times the size of the files."""
FAILED = 2
"""Exit code of the child process if it printed why the export cannot be run."""
CHILD_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1));"
    "from blemish.inference.subprocess_check import main; main()"
)
"""The code of the child process; the first argument is the parent's import path."""

_passed: set[str] = set()
"""Keys of exports that passed in this process; used if there is no cache folder."""


def check_in_subprocess(backend: str, package: str, path: Path, size: Size, digests: Sequence[str]) -> None:
    """Computes one image with the export at `path` in another process, once per content and machine.

    Args:
        backend: "module:name" of the backend's class.
        package: The package of the runtime; its version is part of the key.
        path: The graph.
        size: (height, width) of the image.
        digests: SHA-256 of all files of the export.

    A success is stored in the user's cache folder. Raises BlemishError if the process fails, crashes, or needs more
    than SECONDS or MEMORY.
    """
    subject = [backend, version(package), platform.node(), platform.machine(), *map(str, size), *digests]
    key = hashlib.sha256("\n".join(subject).encode()).hexdigest()
    cache = _cache()
    if key in _passed or (cache and (cache / key).is_file()):
        return
    if problem := _problem(backend, path, size):
        raise BlemishError(problem)
    _passed.add(key)
    if cache:
        with suppress(OSError):  # such as a full disk: the next call checks again
            (cache / key).touch()


def _problem(backend: str, path: Path, size: Size) -> str | None:
    """Why the export cannot be run, in one line; None if it can."""
    command = [sys.executable, "-c", CHILD_CODE, json.dumps(sys.path), backend, str(path), *map(str, size)]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"{path}: loading it and computing one image takes more than {SECONDS} s. {ADVICE}"
    if done.returncode == FAILED:
        return done.stdout.decode("utf-8", "replace")
    if done.returncode:
        return f"{path}: the runtime crashes with it ({_ending(done.returncode)}). {ADVICE}"
    return None


def _ending(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"


def main() -> None:
    """The child process: prints one line on standard output if the export cannot be run."""
    backend, path, height, width = sys.argv[1:]
    module, name = backend.split(":")
    try:
        _limit_memory(sum(file.stat().st_size for file in Path(path).parent.iterdir() if file.is_file()))
        getattr(import_module(module), name)(Path(path))(np.zeros((1, 3, int(height), int(width)), np.float32))
    except Exception as error:
        problem = f"{path}: cannot be run ({type(error).__name__}: {error}). {ADVICE}"
        if isinstance(error, BlemishError):
            problem = str(error)
        sys.stdout.buffer.write(one_line(problem).encode())
        sys.stdout.flush()
        os._exit(FAILED)  # without cleanup, in which a failed runtime may crash
    os._exit(0)


def _limit_memory(size: int) -> None:
    with suppress(ImportError, ValueError, OSError):  # Windows has no such limit
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY + 8 * size, MEMORY + 8 * size))


def _cache() -> Path | None:
    """The cache folder; None if it cannot be created, or other users can write to it."""
    base = os.environ.get("BLEMISH_CACHE") or os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    try:
        folder = (Path(base) if base else Path.home() / ".cache") / "blemish" / "tried"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = folder.stat()
    except (OSError, RuntimeError):  # there is no home folder
        return None
    is_own = not hasattr(os, "getuid") or (
        known.st_uid == os.getuid() and not known.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )
    return folder if is_own else None
