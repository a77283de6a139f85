"""A lock on a folder, so that one process writes at a time. The lock file names its holder for error messages.

The operating system keeps the lock (flock; on Windows a locked byte) and releases it when a process dies. A lock file
that is left behind therefore blocks nobody.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

from blemish.errors import BlemishError

LOCK = ".lock"
"""The lock file; it contains the name of the holder, and is removed on release."""
LONG_WAIT, SHORT_WAIT = 30.0, 0.5
"""Seconds to wait for a lock: for a short change, and for a command that would compute for long before it fails."""
RETRY_INTERVAL = 0.02
"""Seconds between two attempts."""

_held: ContextVar[frozenset[Path]] = ContextVar("held", default=frozenset())

if sys.platform == "win32":
    import msvcrt

    LOCKED_BYTE = 1 << 30
    """Offset of the locked byte: far behind the name of the holder, which stays readable."""

    def _try_lock(file: BinaryIO) -> bool:
        file.seek(LOCKED_BYTE)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True
else:
    import fcntl

    def _try_lock(file: BinaryIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def locked(folder: Path, doing: str, timeout: float = LONG_WAIT) -> Iterator[bool]:
    """A context that holds the lock of the folder. Its value is False if the calling thread held the lock already.

    `doing` describes the holder's work in the error messages of other processes. Raises BlemishError that names the
    holder if the lock is not free within `timeout` seconds, and if the folder is not writable or its disk has no locks.
    """
    key = folder.resolve()
    if key in _held.get():
        yield False
        return
    file = _acquire(folder, doing, timeout)
    before = _held.set(_held.get() | {key})
    try:
        yield True
    finally:
        _held.reset(before)
        with suppress(OSError):  # Windows cannot remove an open file: it stays, without a lock
            (folder / LOCK).unlink()
        file.close()


def _acquire(folder: Path, doing: str, timeout: float) -> BinaryIO:
    deadline = time.monotonic() + timeout
    while True:
        with _lock_errors(folder):
            file = _open(folder / LOCK)
            is_locked = False
            try:
                is_locked = _try_lock(file) and _is_in_place(file, folder / LOCK)
                if is_locked:
                    with suppress(OSError):  # the lock holds on a full disk, too; others read "another process" then
                        _write_holder(file, doing)
                    return file
                holder = _holder(file)
            finally:
                if not is_locked:
                    file.close()
        if time.monotonic() >= deadline:
            raise BlemishError(f"{folder}: is being changed by {holder}. Wait until that is done, then try again.")
        time.sleep(RETRY_INTERVAL)


@contextmanager
def _lock_errors(folder: Path) -> Iterator[None]:
    """A context that turns an OSError into a BlemishError about the folder."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise BlemishError(
            f"{folder}: cannot be changed ({reason}). Copy it to a folder that you can write to."
        ) from None


def _open(path: Path) -> BinaryIO:
    """The lock file, opened; a symbolic link is refused, since it could point to any other file."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    return os.fdopen(os.open(path, flags, 0o644), "r+b", buffering=0)


def _is_in_place(file: BinaryIO, path: Path) -> bool:
    """Whether the open file is still the one at `path`: its last holder may have removed it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _write_holder(file: BinaryIO, doing: str) -> None:
    who = f"{doing} (process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%H:%M:%S')})"
    file.seek(0)
    file.write(who.encode("utf-8", "replace") + b"\n")
    file.truncate()


def _holder(file: BinaryIO) -> str:
    file.seek(0)
    first, *_ = file.read(300).decode("utf-8", "replace").splitlines() or [""]
    return "".join(filter(str.isprintable, first)) or "another process"
