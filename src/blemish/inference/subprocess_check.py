"""The first load of an export on a machine: in a process of its own, since a damaged file may end or stop a runtime."""

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
"""That loading and one image may take."""
MEMORY = 4 << 30
"""Bytes that they may take beside a few times the files' size."""
COULD_NOT = 2
"""Exit code of the child where it says why it could not run the export."""
CHILD_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1));"
    "from blemish.inference.subprocess_check import main; main()"
)
"""What the child runs, with the same packages in reach."""

_passed: set[str] = set()
"""What passed in this process, for where no cache can be written."""


def check_in_subprocess(backend: str, package: str, path: Path, size: Size, digests: Sequence[str]) -> None:
    """Has an image of a size computed by the export at `path` in another process, once for each content and machine.

    `backend` is where its class is, "module:name", and `package` the runtime's. What passed is remembered in the user's
    cache. Raises BlemishError where the process fails, crashes, or takes more than SECONDS or MEMORY.
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
        with suppress(OSError):  # a full disk: it is tried again then
            (cache / key).touch()


def _problem(backend: str, path: Path, size: Size) -> str | None:
    """Why the export cannot be run, in one line; None where it can."""
    command = [sys.executable, "-c", CHILD_CODE, json.dumps(sys.path), backend, str(path), *map(str, size)]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"{path}: it takes more than {SECONDS} s to load it and compute one image. {ADVICE}"
    if done.returncode == COULD_NOT:
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
    """What the child does: it says on standard output, in one line, why an export cannot be run."""
    backend, path, height, width = sys.argv[1:]
    module, name = backend.split(":")
    try:
        _limit_memory(sum(file.stat().st_size for file in Path(path).parent.iterdir() if file.is_file()))
        getattr(import_module(module), name)(Path(path))(np.zeros((1, 3, int(height), int(width)), np.float32))
    except Exception as error:
        is_told = isinstance(error, BlemishError)
        problem = str(error) if is_told else f"{path}: cannot be run ({type(error).__name__}: {error}). {ADVICE}"
        sys.stdout.buffer.write(one_line(problem).encode())
        sys.stdout.flush()
        os._exit(COULD_NOT)  # a runtime that failed may crash as it is taken down
    os._exit(0)


def _limit_memory(size: int) -> None:
    with suppress(ImportError, ValueError, OSError):  # Windows has no such limit
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY + 8 * size, MEMORY + 8 * size))


def _cache() -> Path | None:
    """The folder that remembers what passed; None where it cannot be made, or others could write to it."""
    base = os.environ.get("BLEMISH_CACHE") or os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    try:
        folder = (Path(base) if base else Path.home() / ".cache") / "blemish" / "tried"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = folder.stat()
    except (OSError, RuntimeError):  # no home
        return None
    is_own = not hasattr(os, "getuid") or (
        known.st_uid == os.getuid() and not known.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )
    return folder if is_own else None
