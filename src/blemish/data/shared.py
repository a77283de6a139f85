"""Decoded images that several processes share: the first that needs an image decodes it, the others read the pixels."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from blemish.data.reading import FileReader, Opened
from blemish.errors import BlemishError
from blemish.files import make_folder
from blemish.imaging.formats import Decoded, Image
from blemish.imaging.limits import MAX_PIXELS
from blemish.types import Sample


class SharedReader(FileReader):
    """A `FileReader` that keeps decoded images as files in `folder`, for all processes that are given this folder.

    `digests` holds the SHA-256 of every file, as `file_digests` gives it; no file is hashed again. The pixels are
    written once and read from the system's page cache, which the processes share. They take at most half of the free
    disk; beyond it images are decoded anew. An image with an alpha channel is not kept.
    """

    def __init__(self, folder: Path, digests: Mapping[Path, str], max_pixels: int = MAX_PIXELS, memory_budget: int = 0):
        super().__init__(max_pixels, memory_budget)
        make_folder(folder)
        self._folder, self._digests = folder, digests
        self._least_free = shutil.disk_usage(folder).free // 2

    def digest(self, path: Path) -> str:
        """SHA-256 of a file's content, as it was given."""
        return self._digests[path]

    def _opened(self, sample: Sample, data: bytes | None) -> Opened:
        known = self._digests.get(sample.image)
        if known is None or data is not None:
            return super()._opened(sample, data)
        place = self._place(sample.image, known)
        with suppress(OSError, ValueError, EOFError):  # not there yet
            return Opened(known, Decoded(np.load(place)))
        opened = super()._opened(sample, None)
        if opened.sha256 and opened.sha256 != known:
            raise BlemishError(f"{sample.image}: changed while it was in use. Start again.")
        if opened.decoded is not None and not opened.decoded.has_alpha:
            self._store(place, opened.decoded.pixels)
        return opened

    def _place(self, path: Path, digest: str) -> Path:
        """The file for the pixels; a page of a file has its own."""
        name = hashlib.sha256(f"{digest}{path.name.partition('#')[2]}".encode("utf-8", "surrogateescape"))
        return self._folder / f"{name.hexdigest()}.npy"

    def _store(self, place: Path, pixels: Image) -> None:
        """Writes the pixels under their name at once; nothing is written where the disk is full."""
        temporary = place.with_suffix(f".{os.getpid()}.{id(pixels):x}")
        with suppress(OSError):
            if shutil.disk_usage(self._folder).free - pixels.nbytes < self._least_free:
                return
            try:
                with temporary.open("wb") as file:
                    np.save(file, pixels)
                temporary.replace(place)
            finally:
                temporary.unlink(missing_ok=True)
