"""Reading regular files only, and writing files atomically: a file on disk is complete, or it is not there."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
import zipfile
import zlib
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

ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError)
"""The exceptions that damaged, encrypted or unknown zip archives cause, when they are opened or read."""
FORMULA = frozenset("=+-@'\t\r\n\uff1d\uff0b\uff0d\uff20")
"""Characters at which a spreadsheet begins a formula (the last four are full-width forms), and the text mark (')."""

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
    """Raises BlemishError unless the path is a regular file: reading from a pipe or a device could block forever."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if not stat.S_ISREG(mode):
        raise BlemishError(f"{path}: {_KINDS.get(stat.S_IFMT(mode), 'special')}, where a file is expected.")


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """A context with a regular file opened for reading bytes; raises BlemishError if it cannot be opened."""
    check_file(path)
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise _unreadable(path, error) from None


def read_bytes(path: Path, largest: int | None = None) -> bytes:
    """The content of a regular file; raises BlemishError if it cannot be read, or has more than `largest` bytes."""
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
    """A context with a temporary path to write to. At its end the file is flushed to disk and renamed to `path`.

    If the body raises, `path` stays as it was. Two processes must not write the same path at the same time: one of
    them fails, and the file is complete. Raises BlemishError if the file cannot be written, or `path` is a folder or a
    device.
    """
    make_folder(path.parent)
    if os.path.exists(path):  # noqa: PTH110 - never raises
        check_file(path)
    remove_temporaries(path)
    with writing(path):
        # In a folder of its own, because some writers (safetensors) create temporary files beside their output.
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


def remove_temporaries(path: Path) -> None:
    """Removes temporary files that killed writers of `path` left behind; no process may be writing it now."""
    for left in path.parent.glob(f".{escape(path.name)}.????????"):
        rmtree(left, ignore_errors=True)


def discard(path: Path) -> None:
    """Removes a file and the temporary files of killed writers, if there are any."""
    with writing(path):
        remove_temporaries(path)
        path.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A context that turns an OSError, such as a full disk, into a BlemishError about writing `path`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise BlemishError(f"{path}: cannot be written ({reason}). Free some space, or choose another place.") from None


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_file(path: Path, content: bytes) -> None:
    """Writes a file atomically; raises BlemishError if it cannot be written.

    Unlike `replacing` it needs no temporary folder, which is faster for many small files.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.part")  # the next run overwrites what a killed run leaves
    with writing(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def csv_cells(values: Iterable[Any]) -> list[Any]:
    """The values as cells of a CSV file that no spreadsheet reads as formulas.

    A text that begins with a character of FORMULA, possibly after blanks, gets an apostrophe in front. Removing one
    leading apostrophe restores the text. Numbers stay numbers, and None becomes an empty cell.
    """

    def is_formula(value: Any) -> bool:
        return isinstance(value, str) and bool(FORMULA & {value[:1], value.lstrip()[:1]})

    return ["" if value is None else f"'{value}" if is_formula(value) else value for value in values]


def write_json(path: Path, content: Any) -> None:
    """Writes indented JSON atomically, keys in the given order; raises ValueError for NaN and infinity."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes tensors as a safetensors file, atomically."""
    from safetensors.torch import save_file

    with _replacing_tensors(path) as temporary:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, temporary, metadata)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: dict[str, str] | None = None) -> None:
    """Writes numpy arrays as a safetensors file, atomically and without torch."""
    from safetensors.numpy import save_file

    with _replacing_tensors(path) as temporary:
        save_file({name: np.ascontiguousarray(values) for name, values in arrays.items()}, temporary, metadata)


@contextmanager
def _replacing_tensors(path: Path) -> Iterator[Path]:
    from safetensors import SafetensorError

    with replacing(path) as temporary:
        try:
            yield temporary
        except SafetensorError as error:  # safetensors wraps an OSError
            raise OSError(str(error)) from None


def absolute(path: Path) -> Path:
    """The absolute path without ".."; symbolic links are not resolved."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path.absolute keeps ".."


@contextmanager
def making_folder(path: Path) -> Iterator[None]:
    """A context that creates a folder and its parents, and removes those that are still empty if the body raises."""
    made = [folder for folder in (path, *path.parents) if not os.path.exists(folder)]  # noqa: PTH110 - never raises
    make_folder(path)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # not empty, or already removed
            for folder in made:
                folder.rmdir()
        raise


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A context with a temporary folder to fill, which is renamed to `path` at its end; removed if the body raises.

    Raises BlemishError if something is at `path` that is not an empty folder, or writing fails.
    """
    if os.path.lexists(path) and not (os.path.isdir(path) and not os.listdir(path)):  # noqa: PTH112, PTH208
        raise BlemishError(f"{path}: there is something already. Name a folder that is new.")
    make_folder(path.parent)
    with writing(path):
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=absolute(path).parent))
        try:
            yield temporary
            temporary.chmod(0o755)
            temporary.replace(path)
        finally:
            rmtree(temporary, ignore_errors=True)


def make_folder(path: Path) -> None:
    """Creates a folder and its parents; raises BlemishError if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BlemishError(f"{path}: cannot make this folder ({error.strerror}). Choose another one.") from None
