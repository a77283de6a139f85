"""Files named by the SHA-256 of their content, and previews by a name of that form. Each is whole, or is not there."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from blemish.errors import BlemishError
from blemish.files import make_folder, read_bytes, writing

NAME = re.compile(r"[0-9a-f]{64}")


def new_name() -> str:
    """A name for a file whose content is not known yet."""
    return secrets.token_hex(32)


class Blobs:
    """The files below a folder, as <first two digits>/<sha256>."""

    def __init__(self, folder: Path):
        self.folder = folder

    def put(self, content: bytes, sha256: str | None = None, *, flush: bool = True) -> str:
        """Stores the content, unless it is there, and gives its SHA-256; raises BlemishError where the disk is full.

        `sha256` is that of the content where it is known already, or a name from `new_name`. Without `flush` the file
        is there when the process is killed, but may be lost where the power fails soon after.
        """
        sha256 = sha256 or hashlib.sha256(content).hexdigest()
        path = self.path(sha256)
        with suppress(OSError):
            os.utime(path)  # it is there; and so it is not removed as an old file that nothing names
            return sha256
        make_folder(path.parent)
        with writing(path):
            handle, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                    if flush:
                        file.flush()
                        os.fsync(file.fileno())
                Path(name).replace(path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        return sha256

    def path(self, sha256: str) -> Path:
        """The path of the file, which may not exist; raises ValueError for anything but a SHA-256."""
        if not NAME.fullmatch(sha256):
            raise ValueError("not a SHA-256")
        return self.folder / sha256[:2] / sha256

    def read(self, sha256: str) -> bytes | None:
        """The content; None where the file was removed."""
        with suppress(BlemishError):
            return read_bytes(self.path(sha256))
        return None

    def names(self) -> Iterator[str]:
        """The SHA-256 of every file."""
        return (file.name for file in self._files() if NAME.fullmatch(file.name))

    def remove(self, names: Collection[str]) -> int:
        """Removes files, and gives how many bytes that freed."""
        freed = 0
        for name in names:
            path = self.path(name)
            with suppress(OSError):
                size = path.stat().st_size
                path.unlink()
                freed += size
        return freed

    def remove_leftovers(self) -> None:
        """Removes what killed writers left; no other process may be writing."""
        for path in self.folder.glob("??/.new-*"):
            path.unlink(missing_ok=True)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        total = 0
        for file in self._files():
            with suppress(OSError):
                total += file.stat().st_size
        return total

    @property
    def free(self) -> int:
        """Bytes free on the disk."""
        return shutil.disk_usage(self.folder).free

    def _files(self) -> Iterator[os.DirEntry[str]]:
        """All files, of which there may be a million."""
        with os.scandir(self.folder) as folders:
            for folder in folders:
                if len(folder.name) == 2:
                    with suppress(OSError), os.scandir(folder.path) as files:  # not a folder, or it cannot be read
                        yield from files
