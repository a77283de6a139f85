"""Lists the images in a folder and its sub-folders, and what is left out: the one rule for all commands.

Links to folders are followed, but each folder is read once. Hidden folders and those of tools are left out. A file is
an image where its name has the extension of one.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from blemish.errors import BlemishError
from blemish.files import absolute
from blemish.imaging.formats import EXTENSIONS

TOOL_FOLDERS = frozenset(
    name.casefold()
    for name in (
        "__pycache__",
        "__MACOSX",
        "@eaDir",
        "@Recycle",
        "#recycle",
        "#snapshot",
        "$RECYCLE.BIN",
        "RECYCLER",
        "System Volume Information",
        "lost+found",
        "thumbs",
        "thumbnails",
    )
)
"""Names, in lower case, of folders that systems and tools create beside images; they are left out."""
HIDDEN_FOLDER, TOOL_FOLDER = "hidden folder{s}", "folder{s} of a tool"
SEEN_FOLDER, LOCKED_FOLDER = "link{s} to a folder that was read already", "folder{s} that cannot be read"
HIDDEN_FILE, SPECIAL_FILE, OTHER_FILE = "hidden image{s}", "pipe{s} or device{s}", "file{s} not an image by name"
OWN_FOLDER, MASK, OUTSIDE = "folder{s} that predict wrote", "mask{s}", "other image{s}"
"""Reasons for leaving something out; {s} stands for the s of the plural."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or folder that is not read."""

    path: Path
    reason: str
    """One of the constants above."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The images in a folder and its sub-folders in the order of their paths, and what was left out."""

    images: tuple[Path, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def list_images(folder: Path, own: Collection[Path] = ()) -> Listing:
    """The images in a folder and its sub-folders; an empty listing where the folder does not exist.

    Folders in `own` (absolute paths) are left out. Links to folders are followed last, and left out where their target
    was read already or contains `folder`. A broken link to an image is listed, so that reading it gives an error. A
    folder that cannot be read is left out, `folder` itself too.
    """
    if not os.path.isdir(folder):  # noqa: PTH112 - the method of Path raises where a folder above cannot be entered
        return Listing()
    walk = _Walk(own)
    walk.all(folder)
    return Listing(tuple(sorted(walk.images)), tuple(sorted(walk.left_out, key=lambda left: left.path)))


def list_folders(folder: Path) -> list[Path]:
    """The sub-folders directly in a folder in the order of their names, without hidden ones and those of tools."""
    if not os.path.isdir(folder):  # noqa: PTH112
        return []
    return sorted(
        Path(entry.path) for entry in _entries(folder) if _is_folder(entry) and why_not_walked(entry.name) is None
    )


def images_in(folder: Path) -> list[Path]:
    """The images directly in a folder in the order of their names; hidden files are left out."""
    if not os.path.isdir(folder):  # noqa: PTH112
        return []
    names = (entry.name for entry in _entries(folder) if not _is_folder(entry) and not entry.name.startswith("."))
    return sorted(folder / name for name in names if Path(name).suffix.lower() in EXTENSIONS)


class _Walk:
    """Walks a folder: first real folders, then links, so that a file is listed under its real path."""

    def __init__(self, own: Collection[Path]):
        self.images: list[Path] = []
        self.left_out: list[LeftOut] = []
        self._own = own
        self._links: deque[Path] = deque()
        self._seen: set[tuple[int, int] | None] = set()

    def all(self, folder: Path) -> None:
        real = Path(os.path.realpath(folder))  # following a link to a folder above would list that folder's files too
        self._seen = {_identity(above) for above in real.parents} - {None}
        self._enter(folder)
        while self._links:
            self._enter(self._links.popleft())

    def _enter(self, start: Path) -> None:
        waiting = [start]
        while waiting:
            folder = waiting.pop()
            identity = _identity(folder)
            if identity in self._seen:
                self._leave_out(folder, SEEN_FOLDER)
                continue
            self._seen.add(identity)
            try:
                entries = sorted(_entries(folder), key=lambda entry: entry.name)
            except BlemishError:
                self._leave_out(folder, LOCKED_FOLDER)
                continue
            waiting += reversed([path for entry in entries if (path := self._sort(entry))])

    def _sort(self, entry: os.DirEntry[str]) -> Path | None:
        """Adds an entry to the images, the links or what is left out; returns its path where it is a folder to walk."""
        path = Path(entry.path)
        if _is_folder(entry):
            reason = OWN_FOLDER if absolute(path) in self._own else why_not_walked(entry.name)
            if reason:
                self._leave_out(path, reason)
            elif entry.is_symlink():
                self._links.append(path)
            else:
                return path
        elif path.suffix.lower() not in EXTENSIONS:
            if not entry.name.startswith("."):
                self._leave_out(path, OTHER_FILE)
        elif entry.name.startswith("."):
            self._leave_out(path, HIDDEN_FILE)
        elif not entry.is_file(follow_symlinks=False) and _is_special(path):
            self._leave_out(path, SPECIAL_FILE)
        else:
            self.images.append(path)
        return None

    def _leave_out(self, path: Path, reason: str) -> None:
        self.left_out.append(LeftOut(path, reason))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError as error:
        raise BlemishError(f"{folder}: {error.strerror or error}. Check the folder and its permissions.") from None


def _is_special(path: Path) -> bool:
    """Whether the path, or the target of a link, exists and is not a regular file."""
    return os.path.exists(path) and not os.path.isfile(path)  # noqa: PTH110, PTH113 - these raise nothing


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def why_not_walked(name: str) -> str | None:
    """The reason for which a folder of this name is left out; None where it is read."""
    if name.startswith("."):
        return HIDDEN_FOLDER
    return TOOL_FOLDER if name.casefold() in TOOL_FOLDERS else None


def describe(left_out: Sequence[LeftOut]) -> str:
    """One line that counts what was left out by reason: "left out: 2 masks, ..."; empty where nothing was."""
    counts = Counter(left.reason for left in left_out)
    phrases = [_counted(reason, number) for reason, number in counts.items() if reason != OTHER_FILE]
    if counts[OTHER_FILE]:
        kinds = sorted({left.path.suffix or "no extension" for left in left_out if left.reason == OTHER_FILE})
        more = ", ..." if len(kinds) > 5 else ""
        phrases.append(f"{_counted(OTHER_FILE, counts[OTHER_FILE])} ({', '.join(kinds[:5])}{more})")
    return f"left out: {', '.join(phrases)}" if phrases else ""


def _counted(reason: str, number: int) -> str:
    return f"{number} {reason.format(s='s' * (number != 1))}"
