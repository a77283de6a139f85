"""Reads the images of samples: each file is read and decoded once, as far as memory allows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np

from blemish.errors import BlemishError
from blemish.imaging.formats import Decoded, Image
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.read import decode_file, read_content
from blemish.parallel import map_ahead
from blemish.progress import Progress, no_progress, with_progress
from blemish.types import Sample


@dataclass(frozen=True, slots=True)
class Opened:
    """An image that was read, or why it cannot be used."""

    sha256: str = ""
    """Of the file's content, or of the pixels where there is no file; empty where it could not be read."""
    decoded: Decoded | None = None
    error: str | None = None

    @property
    def pixels(self) -> Image:
        """The image as it was decoded; raises BlemishError where it cannot be used."""
        if self.decoded is None:
            raise BlemishError(self.error or "not an image")
        return self.decoded.pixels


class FileReader:
    """Reads images, and keeps up to `memory_budget` bytes of contents for the next call; threads may share it.

    A kept content is returned once and then dropped, so that memory use falls while a data set is read.
    """

    def __init__(self, max_pixels: int = MAX_PIXELS, memory_budget: int = 0):
        self.max_pixels = max_pixels
        self._left = memory_budget
        self._kept: dict[Path, tuple[bytes | Opened, int]] = {}
        self._lock = Lock()

    def digest(self, path: Path) -> str:
        """SHA-256 of a file's content, which is kept for the next call; raises BlemishError where it cannot be read."""
        content = read_content(path, self.max_pixels)
        self._keep(path, content, len(content))
        return hashlib.sha256(content).hexdigest()

    def content(self, path: Path) -> bytes:
        """A file's content; raises BlemishError where it cannot be read or is longer than an image can be."""
        kept = self._taken(path)
        return kept if isinstance(kept, bytes) else read_content(path, self.max_pixels)

    def open(self, sample: Sample, *, keep: bool = False) -> Opened:
        """The sample's image; with `keep`, the next call gives it without decoding it again."""
        kept = self._taken(sample.image)
        opened = kept if isinstance(kept, Opened) else self._opened(sample, kept)
        if keep and opened.decoded is not None:
            self._keep(sample.image, opened, opened.decoded.pixels.nbytes)
        return opened

    def _opened(self, sample: Sample, data: bytes | None) -> Opened:
        digest = ""
        try:
            if isinstance(sample.content, np.ndarray):
                return Opened(digest_in_memory(sample), Decoded(sample.content))
            data = data or (sample.content() if callable(sample.content) else sample.content)
            data = read_content(sample.image, self.max_pixels) if data is None else data
            digest = hashlib.sha256(data).hexdigest()
            return Opened(digest, decode_file(data, sample.image, self.max_pixels))
        except BlemishError as error:
            return Opened(digest, error=str(error))

    def _keep(self, path: Path, what: bytes | Opened, size: int) -> None:
        with self._lock:
            if size <= self._left:
                self._left -= size
                self._kept[path] = what, size

    def _taken(self, path: Path) -> bytes | Opened | None:
        with self._lock:
            what, size = self._kept.pop(path, (None, 0))
            self._left += size
            return what


def file_digests(
    samples: Sequence[Sample], progress: Progress = no_progress, reader: FileReader | None = None
) -> dict[Path, str]:
    """Path -> SHA-256 of the content, for every image and mask; raises BlemishError where one cannot be read."""
    reader = reader or FileReader()
    in_memory = {sample.image: digest_in_memory(sample) for sample in samples if sample.content is not None}
    paths = list(dict.fromkeys(path for sample in samples for path in sample.files if path not in in_memory))
    digests = with_progress(map_ahead(reader.digest, paths), len(paths), progress, "files")
    return in_memory | dict(zip(paths, digests, strict=True))


def digest_in_memory(sample: Sample) -> str:
    """SHA-256 of a sample's content, or of its pixels together with their type and shape."""
    content = sample.content
    if not isinstance(content, np.ndarray):
        return hashlib.sha256((content() if callable(content) else content) or b"").hexdigest()
    kind = f"{content.dtype.str}{content.shape}".encode()
    return hashlib.sha256(kind + np.ascontiguousarray(content).tobytes()).hexdigest()
