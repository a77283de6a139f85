"""Files by their address: a path, or an address such as s3://bucket/key that fsspec knows, each by its own package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from blemish.errors import BlemishError, one_line
from blemish.files import make_folder, opened, write_file

MARK = "://"
"""What an address has after the name of its protocol, and a path has not."""


class UnreachedError(BlemishError):
    """A remote file that may be there, but cannot be reached or must not be read."""


def is_remote(address: str) -> bool:
    """Whether it is an address of fsspec, and not a path."""
    return MARK in address


def joined(folder: str, name: str) -> str:
    """The address of `name`, which is relative to the folder unless it is absolute or remote."""
    if is_remote(name) or Path(name).is_absolute():
        return name
    return f"{folder.rstrip('/')}/{name}" if is_remote(folder) else str(Path(folder) / name)


def parent_of(address: str) -> str:
    """The folder of a file."""
    return address.rpartition("/")[0] if is_remote(address) else str(Path(address).parent)


def read_address(address: str, largest: int) -> bytes:
    """The content of a remote file.

    Raises UnreachedError if it cannot be reached, BlemishError if it is not there or has more than `largest` bytes.
    """
    with _telling(address):
        system, path = _system(address)
        content = bytes(system.cat_file(path))
    if len(content) > largest:
        raise BlemishError(f"{address}: {len(content) / 1e6:,.0f} MB, where at most {largest / 1e6:,.0f} MB are read.")
    return content


@contextmanager
def opened_address(address: str) -> Iterator[IO[bytes]]:
    """A context with a file opened for reading bytes, local or remote; raises BlemishError if it cannot be opened."""
    if not is_remote(address):
        with opened(Path(address)) as local:
            yield local
        return
    with _telling(address):
        system, path = _system(address)
        with system.open(path, "rb") as file:
            yield file


class Store:
    """A folder for output, local or remote, in which a file is there as a whole or not at all."""

    def __init__(self, address: str):
        self.address = address
        if not is_remote(address):
            make_folder(Path(address))

    def names(self, folder: str) -> set[str]:
        """The names of the files in one of its folders; empty if there is no such folder."""
        place = joined(self.address, folder)
        if not is_remote(self.address):
            return {path.name for path in Path(place).iterdir()} if Path(place).is_dir() else set()
        with _telling(place):
            system, path = _system(place)
            try:
                system.invalidate_cache()
                return {str(name).rpartition("/")[2] for name in system.ls(path, detail=False)}
            except FileNotFoundError:
                return set()

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if it is not there."""
        place = joined(self.address, name)
        if not is_remote(self.address):
            return Path(place).read_bytes() if Path(place).exists() else None
        with _telling(place):
            system, path = _system(place)
            try:
                return bytes(system.cat_file(path))
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Writes a file at once: by renaming it, or as an object in one request; raises BlemishError if that fails."""
        place = joined(self.address, name)
        if not is_remote(self.address):
            write_file(Path(place), content)
            return
        with _telling(place):
            system, path = _system(place)
            system.pipe_file(path, content)


def _system(address: str) -> tuple[Any, str]:
    """The file system of a remote address, and the path in it."""
    from fsspec.core import url_to_fs

    system, path = url_to_fs(address)
    return system, path


@contextmanager
def _telling(address: str) -> Iterator[None]:
    """Turns the exceptions of any file system into a BlemishError that names the address.

    It is an UnreachedError unless the file is not there.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "") in ("fsspec", "pyarrow"):
            raise
        raise BlemishError(f"{address}: needs another package ({one_line(error, 200)}).") from None
    except BlemishError:
        raise
    except FileNotFoundError:
        raise BlemishError(f"{address}: no such file. Check the address.") from None
    except Exception as error:  # every protocol has exceptions of its own
        said = one_line(error, 200) or type(error).__name__
        raise UnreachedError(f"{address}: cannot be used ({said}). Check the address and the credentials.") from None
