"""Unpacks the archive of a data set: regular files alone, within the folder, and not more than an archive can hold."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from blemish.errors import BlemishError, number_of, short_repr
from blemish.files import check_file, new_folder
from blemish.progress import Progress, no_progress

ARCHIVES = frozenset({".zip", ".tar", ".tgz", ".gz", ".xz", ".bz2", ".tbz2", ".txz"})
"""Extensions of archives."""
LARGEST_RATIO, SMALLEST_LIMIT = 100, 64 << 20
"""An archive may hold so many times its own bytes, or as many as SMALLEST_LIMIT if that is more."""
MOST_FILES = 5_000_000
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive."""

    name: str
    size: int
    """Number of bytes, as the archive says."""
    is_regular: bool
    """False for links, devices and whatever else is neither a file nor a folder."""
    content: IO[bytes] | None


def unpack(archive: Path, out: Path, progress: Progress = no_progress) -> int:
    """Unpacks a zip or tar file, compressed or not, to the new folder `out`, and returns the number of files.

    Raises BlemishError where it is no archive, is damaged or encrypted, has a link, a path out of the folder, or more
    files or bytes than allowed; nothing is then left.
    """
    check_file(archive)
    limit = max(SMALLEST_LIMIT, LARGEST_RATIO * archive.stat().st_size)
    count = 0
    with new_folder(out) as folder, _readable(archive):
        left = min(limit, shutil.disk_usage(folder).free)
        for count, member in enumerate(_of_zip(archive) if zipfile.is_zipfile(archive) else _of_tar(archive), start=1):
            if count > MOST_FILES:
                raise BlemishError(
                    f"{archive}: has more than {number_of(MOST_FILES, 'file')}. Unpack it by other means."
                )
            left -= _write(member, _place(member, folder, archive), left, archive)
            progress(count, count)
    return count


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    """A context that turns the errors of a damaged archive, or of a file that is none, into a BlemishError."""
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BlemishError(f"{archive}: not a zip or tar file that can be read ({error}). Copy it anew.") from None


def _of_zip(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as opened:
        for found in opened.infolist():
            if not found.is_dir():
                kind = found.external_attr >> 28  # of the mode under Unix: 8 for a regular file, 0 where there is none
                with opened.open(found) as content:
                    yield Member(found.filename, found.file_size, kind in (0, 8), content)


def _of_tar(archive: Path) -> Iterator[Member]:
    with tarfile.open(archive, "r|*") as opened:
        for found in opened:
            if not found.isdir():
                content = opened.extractfile(found) if found.isreg() else None
                yield Member(found.name, found.size, found.isreg(), content)


def _place(member: Member, folder: Path, archive: Path) -> Path:
    """Where the member is written; raises BlemishError for what is no file within the folder."""
    name = PurePosixPath(member.name)
    if not member.is_regular:
        raise BlemishError(f"{archive}: {short_repr(member.name)} is a link or a device. Only files are unpacked.")
    is_outside = name.is_absolute() or ".." in name.parts or not name.parts
    if is_outside or any(letter in member.name for letter in "\\\0:"):
        raise BlemishError(f"{archive}: {short_repr(member.name)} is not a path within the archive.")
    return folder / name


def _write(member: Member, place: Path, left: int, archive: Path) -> int:
    """Writes the member's content and returns its bytes; raises BlemishError where they are more than `left`."""
    written = 0
    if member.size > left:
        raise _too_large(archive)
    with _new_file(place, archive) as file:
        while member.content and (chunk := member.content.read(CHUNK)):
            written += len(chunk)
            if written > left:  # whatever the archive says of its size
                raise _too_large(archive)
            file.write(chunk)
    return written


@contextmanager
def _new_file(place: Path, archive: Path) -> Iterator[IO[bytes]]:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        file = place.open("xb")
    except (FileExistsError, NotADirectoryError):
        raise BlemishError(f"{archive}: has {place.name} twice. Pack it anew.") from None
    with file:
        yield file


def _too_large(archive: Path) -> BlemishError:
    return BlemishError(
        f"{archive}: unpacked it is more than {LARGEST_RATIO} times as large, or more than the disk has free. "
        "Unpack it by other means if you trust it."
    )
