"""State on disk is written whole or not at all; only regular files are read."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import escape
from io import BufferedReader
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BlemishError

FORMULA = frozenset("=+-@'\t\r\n\uff1d\uff0b\uff0d\uff20")
"""What a spreadsheet takes for the beginning of a formula (the last four are the wide forms), and what marks a text."""

if TYPE_CHECKING:
    from torch import Tensor


_KINDS = {
    stat.S_IFDIR: os.strerror(errno.EISDIR),
    stat.S_IFIFO: "a pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_file(path: Path) -> None:
    """Raises BlemishError where there is no regular file: a pipe or a device would be waited for."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if not stat.S_ISREG(mode):
        raise BlemishError(f"{path}: {_KINDS.get(stat.S_IFMT(mode), 'special')}, where a file is expected.")


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """A regular file, open to be read; raises BlemishError where it cannot be."""
    check_file(path)
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise _unreadable(path, error) from None


def read_bytes(path: Path, largest: int | None = None) -> bytes:
    """The content of a regular file; raises BlemishError where it cannot be read, or has more than `largest` bytes."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if largest is not None and size > largest:
            raise BlemishError(
                f"{path}: {size / 1e6:,.0f} MB, where at most {largest / 1e6:,.0f} MB are read. Give a smaller file."
            )
        return file.read()


def _unreadable(path: Path, error: OSError | ValueError) -> BlemishError:
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    return BlemishError(f"{path}: {reason}. Check the path and its permissions.")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which takes the place of `path` once all is written and on the disk.

    Two processes must not write the same file at the same time: one of them then fails, and what is there is whole.
    Raises BlemishError where it cannot be written, or would take the place of a folder or a device.
    """
    make_folder(path.parent)
    if os.path.exists(path):  # noqa: PTH110 - it never raises
        check_file(path)
    clear_left(path)
    with writing(path):
        # A folder of its own: a writer may make temporary files beside what it writes, as safetensors does.
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        temporary = folder / path.name
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            rmtree(folder, ignore_errors=True)


def clear_left(path: Path) -> None:
    """Removes what a process that was killed while it wrote `path` left beside it; nobody may be writing it now."""
    for left in path.parent.glob(f".{escape(path.name)}.????????"):
        rmtree(left, ignore_errors=True)


def discard(path: Path) -> None:
    """Removes a file, and what killed processes left beside it, as far as there is any of it."""
    with writing(path):
        clear_left(path)
        path.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Has what the system says of a file that cannot be written told in one line: a full disk, no permission."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise BlemishError(f"{path}: cannot be written ({reason}). Free some space, or choose another place.") from None


def write_text(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def csv_cells(values: Iterable[Any]) -> list[Any]:
    """The values as cells of a CSV file, of which none is a formula to a spreadsheet.

    A text that begins with one of FORMULA, after any blanks, has an apostrophe before it: one apostrophe taken off the
    front gives the text itself. Numbers stay numbers, and None is empty.
    """

    def is_formula(value: Any) -> bool:
        return isinstance(value, str) and bool(FORMULA & {value[:1], value.lstrip()[:1]})

    return ["" if value is None else f"'{value}" if is_formula(value) else value for value in values]


def write_json(path: Path, content: Any) -> None:
    """Writes JSON, indented and in the given order; a value that JSON does not have (NaN) is a ValueError."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes a safetensors file, whole or not at all."""
    from safetensors.torch import save_file

    with _replacing_tensors(path) as temporary:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, temporary, metadata)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: dict[str, str] | None = None) -> None:
    """The same from numpy arrays, without torch."""
    from safetensors.numpy import save_file

    with _replacing_tensors(path) as temporary:
        save_file({name: np.ascontiguousarray(values) for name, values in arrays.items()}, temporary, metadata)


@contextmanager
def _replacing_tensors(path: Path) -> Iterator[Path]:
    from safetensors import SafetensorError

    with replacing(path) as temporary:
        try:
            yield temporary
        except SafetensorError as error:  # its word for what the system says
            raise OSError(str(error)) from None


def absolute(path: Path) -> Path:
    """The path as it is named, from the root: links unresolved, but without ".."."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - the method beside it resolves no ".."


@contextmanager
def making_folder(path: Path) -> Iterator[None]:
    """Makes a folder and those above it, which are gone again where the body fails before anything is in them."""
    made = [folder for folder in (path, *path.parents) if not os.path.exists(folder)]  # noqa: PTH110 - it never raises
    make_folder(path)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # of one that is not empty, or gone
            for folder in made:
                folder.rmdir()
        raise


def make_folder(path: Path) -> None:
    """Makes a folder and those above it; raises BlemishError where that cannot be done."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BlemishError(f"{path}: cannot make this folder ({error.strerror}). Choose another one.") from None
