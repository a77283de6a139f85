"""One writer at a time: a lock on a folder that names its holder and goes with the process that held it.

The lock is the system's (flock; on Windows a locked byte), so one that a killed process held is free at once, and the
file that is left of it means nothing.
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
"""The file that is locked; it says who holds it, and is gone once nobody does."""
LONG_WAIT, SHORT_WAIT = 30.0, 0.5
"""Seconds to wait for the holder: of a short change, and of one whose work would be in vain by then."""
STEP = 0.02
"""Seconds between two tries."""

_held: ContextVar[frozenset[Path]] = ContextVar("held", default=frozenset())

if sys.platform == "win32":
    import msvcrt

    FAR = 1 << 30
    """The byte that is locked: far behind the holder's name, which others still have to read."""

    def _try_lock(file: BinaryIO) -> bool:
        file.seek(FAR)
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
    """Nobody else holds the folder's lock while the body runs; whether the caller's thread did not hold it before.

    `doing` says what for, to those who wait. Raises BlemishError that names the holder where the lock is not free
    within `timeout` seconds, and where the folder cannot be written to or its disk has no locks.
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
        with suppress(OSError):  # Windows removes no open file: it stays, and is free
            (folder / LOCK).unlink()
        file.close()


def _acquire(folder: Path, doing: str, timeout: float) -> BinaryIO:
    deadline = time.monotonic() + timeout
    while True:
        with _told(folder):
            file = _open(folder / LOCK)
            is_mine = False
            try:
                is_mine = _try_lock(file) and _is_in_place(file, folder / LOCK)
                if is_mine:
                    _write_holder(file, doing)
                    return file
                holder = _holder(file)
            finally:
                if not is_mine:
                    file.close()
        if time.monotonic() >= deadline:
            raise BlemishError(f"{folder}: is being changed by {holder}. Wait until that is done, then try again.")
        time.sleep(STEP)


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Has what the system says of a folder that cannot be locked told in one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise BlemishError(f"{folder}: cannot be changed ({reason}). Copy it to where you may write.") from None


def _open(path: Path) -> BinaryIO:
    """The file to be locked; a link is refused, which could lead to any file of the user's."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    return os.fdopen(os.open(path, flags, 0o644), "r+b", buffering=0)


def _is_in_place(file: BinaryIO, path: Path) -> bool:
    """Whether the file is the one that the next one will open: its last holder may have removed it meanwhile."""
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
