"""Decodes image files once, in threads, and keeps them preprocessed, as the detector's input."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, tee
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from blemish.data.reading import FileReader
from blemish.errors import BlemishError
from blemish.imaging.contents import num_values, pixel_digest
from blemish.imaging.pixels import thumbnail, to_batch
from blemish.imaging.preprocess import Preprocess
from blemish.imaging.thumbnails import PICTURE_SIDE, to_jpeg
from blemish.parallel import map_ahead
from blemish.progress import Progress, no_progress
from blemish.types import Sample, Size, Unreadable

if TYPE_CHECKING:
    from torch import Tensor

    from blemish.imaging.alignment import Placement
    from blemish.imaging.variations import Variation

Item = TypeVar("Item")
Result = TypeVar("Result")

MEMORY_BUDGET = 4 << 30
"""Bytes of preprocessed pixels that are kept in memory by default; further pixels go to a temporary file."""
SHOWN_SIDE = 4096
"""Largest side in pixels of `FileInfo.shown`."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """Properties of an image file."""

    sha256: str = ""
    """SHA-256 of the file's content."""
    size: Size = (0, 0)
    """(height, width) of the image in the file."""
    channels: int = 0
    depth: str = ""
    """The type of its pixels: uint8, uint16 or float32."""
    is_colour: bool = False
    """Whether its channels differ; an image with three equal channels is grey."""
    alpha: bool = False
    """Whether the file has an alpha channel, which is dropped."""
    placement: Placement | None = None
    """The rotation and shift by which the image is registered; None without registration."""
    shown: NDArray[np.uint8] | None = None
    """A thumbnail (h, w, 3) RGB with sides of at most SHOWN_SIDE; None where not requested."""
    picture: bytes = b""
    """A JPEG file with sides of at most PICTURE_SIDE; empty where not requested."""
    pixel_sha256: str = ""
    """Digest of the decoded pixels by `contents.pixel_digest`, equal for copies of an image; empty where not requested.
    """
    num_values: int = 0
    """Number of different pixel values, at most `contents.MANY`; 0 where not requested."""
    error: str | None = None
    """Why the file cannot be used; the other fields may then be empty."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One input of a detector, which is a whole image or a tile of it, and the file it comes from."""

    sample: Sample
    pixels: NDArray[Any]
    """(h, w, C) after preprocessing, C being 1 or 3; uint8, uint16 or float32 in [0, 1]."""
    file: FileInfo
    is_last: bool = True
    """Whether it is the last tile of its file."""


def read_file(
    sample: Sample,
    preprocess: Preprocess,
    with_image: bool = False,
    *,
    with_contents: bool = False,
    with_picture: bool = False,
    reader: FileReader | None = None,
) -> tuple[list[NDArray[Any]], FileInfo]:
    """Decodes an image file: the preprocessed pieces (h, w, C), and the properties of the file.

    `with_image` requests `FileInfo.shown`, `with_picture` requests `FileInfo.picture`, and `with_contents` requests
    `pixel_sha256` and `num_values`, which take longer to compute.
    """
    opened = (reader or FileReader(preprocess.max_pixels)).open(sample)
    if opened.decoded is None:
        return [], FileInfo(sha256=opened.sha256, error=opened.error)
    image = opened.pixels
    height, width, *rest = image.shape
    placement = preprocess.placement(image)
    shown = thumbnail(image, SHOWN_SIDE) if with_image else None
    channels, depth = rest[0] if rest else 1, str(image.dtype)
    has_alpha, picture = opened.decoded.has_alpha, to_jpeg(thumbnail(image, PICTURE_SIDE)) if with_picture else b""
    info = FileInfo(
        opened.sha256,
        (height, width),
        channels,
        depth,
        alpha=has_alpha,
        placement=placement,
        shown=shown,
        picture=picture,
    )
    if with_contents:
        info = replace(info, pixel_sha256=pixel_digest(image), num_values=num_values(image))
    try:
        pieces = preprocess.pieces(image, placement)
    except BlemishError as error:
        return [], replace(info, error=f"{sample.image}: {error}")
    return pieces, replace(info, is_colour=any(map(_is_colour, pieces)))


def _is_colour(pixels: NDArray[Any]) -> bool:
    """Whether the channels of (h, w, C) differ."""
    return pixels.shape[2] == 3 and any(not np.array_equal(pixels[:, :, 0], pixels[:, :, other]) for other in (1, 2))


def read_frames(
    samples: Iterable[Sample], preprocess: Preprocess, workers: int = 0, ahead: int = 0, with_images: bool = False
) -> Iterator[Frame | Unreadable]:
    """Decodes the samples one after the other: their frames in order, an `Unreadable` for a file that cannot be used.

    `workers` threads decode up to `ahead` files in advance; 0: as many threads as cores, and twice as many files.
    """
    ordered, waiting = tee(samples)  # the samples may be made one by one
    results = map_ahead(lambda sample: read_file(sample, preprocess, with_images), waiting, workers, ahead)
    for sample, (pieces, info) in zip(ordered, results, strict=True):
        if info.error:
            yield Unreadable(sample, info.error)
        for piece in pieces:
            yield Frame(sample, piece, info, piece is pieces[-1])


class ImageSource:
    """Decoded and preprocessed images: a sequence of frames, and batches of them as tensors.

    There is one frame per file, or one per tile of each file; a row is the number of a frame.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        files: Sequence[FileInfo],
        pixels: PixelStore,
        preprocess: Preprocess,
        memory_budget: int = MEMORY_BUDGET,
        variations: Sequence[Variation | None] = (),
    ):
        self.samples = list(samples)
        self.files = list(files)
        self.preprocess = preprocess
        self.memory_budget = memory_budget
        """Bytes of pixels that may be kept in memory, and bytes that a detector may keep beside them."""
        self._pixels = pixels
        self._variations = list(variations) or [None] * len(self.files)
        """How each file is varied; None: not at all."""
        counts = [preprocess.num_pieces(info.size) for info in self.files]
        self._rows = [(file, piece) for file, count in enumerate(counts) for piece in range(count)]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> Frame:
        file, piece = self._rows[row]
        sample, pixels = self.samples[file], self._pixels[row]
        if pixels is None:  # there was no space left in memory and on the disk
            pieces, _ = read_file(sample, self.preprocess)
            if piece >= len(pieces):
                raise BlemishError(self.files[file].error or f"{sample.image}: can no longer be read, or has changed.")
            pixels = pieces[piece]
        if (variation := self._variations[file]) is not None:
            pixels = variation(pixels)
        return Frame(sample, pixels, self.files[file], self._rows[row + 1 : row + 2] != [(file, piece + 1)])

    def __iter__(self) -> Iterator[Frame]:
        return (self[row] for row in range(len(self)))

    def batch(self, rows: Sequence[int]) -> Tensor:
        """The frames of these rows: (B, 3, h, w) float32 in [0, 1], channels last in memory; grey is repeated."""
        import torch  # here, so that reading images needs no torch

        return torch.from_numpy(to_batch([self[row].pixels for row in rows]))

    def with_samples(self, samples: Sequence[Sample]) -> ImageSource:
        """The same images with other samples in the same order, for example with splits assigned after decoding."""
        return ImageSource(samples, self.files, self._pixels, self.preprocess, self.memory_budget, self._variations)

    def with_copies(self, variations: Sequence[Variation]) -> ImageSource:
        """The images followed by varied copies of all, once or several times: a variation for each copy.

        A copy has its image's sample, file and pixels; what is varied is computed at each use.
        """
        times = 1 + len(variations) // len(self.files)
        return ImageSource(
            self.samples * times,
            self.files * times,
            self._pixels.select([*range(len(self))] * times),
            self.preprocess,
            self.memory_budget,
            [*self._variations, *variations],
        )

    def where(self, keep: Callable[[Sample], bool]) -> ImageSource:
        """The source of those samples for which `keep` is true; the pixels are shared, not copied."""
        kept = [file for file, sample in enumerate(self.samples) if keep(sample)]
        chosen = set(kept)
        return ImageSource(
            [self.samples[file] for file in kept],
            [self.files[file] for file in kept],
            self._pixels.select([row for row, (file, _) in enumerate(self._rows) if file in chosen]),
            self.preprocess,
            self.memory_budget,
            [self._variations[file] for file in kept],
        )


def load(
    samples: Sequence[Sample],
    preprocess: Preprocess,
    *,
    memory_budget: int = MEMORY_BUDGET,
    workers: int = 0,
    progress: Progress = no_progress,
    reader: FileReader | None = None,
    shown: Collection[Path] = (),
) -> ImageSource:
    """Decodes all samples once and keeps them. Files that cannot be used have an `error` in `ImageSource.files`.

    A thumbnail of each image in `shown` is kept too. `reader` may hold files that were read before.
    `memory_budget` bytes are held in memory. Beyond it pixels go to a temporary file, which takes at most half of
    the free disk, and beyond that they are decoded anew at each use.
    """
    store, files = PixelStore(memory_budget), []

    def read(sample: Sample) -> tuple[list[NDArray[Any]], FileInfo]:
        with_picture = sample.image in shown
        return read_file(sample, preprocess, with_contents=True, with_picture=with_picture, reader=reader)

    for pieces, info in map_ahead(read, samples, workers):
        for piece in range(preprocess.num_pieces(info.size)):
            store.append(pieces[piece] if pieces else None)
        files.append(info)
        progress(len(files), len(samples))
    return ImageSource(samples, files, store, preprocess, memory_budget)


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of `size`, the last one shorter."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


class PixelStore:
    """A list of arrays, in memory up to a budget and beyond it in a temporary file, deleted with the store."""

    def __init__(self, memory_budget: int):
        self._arrays: list[NDArray[Any] | _Stored | None] = []
        self._memory_left = memory_budget
        self._disk_left = shutil.disk_usage(tempfile.gettempdir()).free // 2
        self._file = _PixelFile()

    def __len__(self) -> int:
        return len(self._arrays)

    def __getitem__(self, row: int) -> NDArray[Any] | None:
        kept = self._arrays[row]
        return self._file.read(kept) if isinstance(kept, _Stored) else kept

    def append(self, array: NDArray[Any] | None) -> None:
        """Appends an array; None, and an array for which there is no space left, read back as None."""
        kept: NDArray[Any] | _Stored | None = None
        if array is not None and array.nbytes <= self._memory_left:
            self._memory_left -= array.nbytes
            kept = array
        elif array is not None and array.nbytes <= self._disk_left:
            self._disk_left -= array.nbytes
            kept = self._file.append(array)
        self._arrays.append(kept)

    def select(self, rows: Sequence[int]) -> PixelStore:
        """A store of these rows; the arrays are shared."""
        chosen = PixelStore(0)
        chosen._arrays = [self._arrays[row] for row in rows]
        chosen._file = self._file
        return chosen


@dataclass(frozen=True, slots=True)
class _Stored:
    """The position, type and shape of an array in a file."""

    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class _PixelFile:
    """A temporary file of arrays, created with the first one and deleted with this object.

    Arrays are read, not memory-mapped: each mapping would hold a file descriptor, and there may be thousands.
    """

    def __init__(self) -> None:
        self._file: Any = None
        self._lock = threading.Lock()

    def append(self, array: NDArray[Any]) -> _Stored | None:
        """Writes an array and returns its position; None where the disk is full."""
        with self._lock:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="blemish-", buffering=0)  # noqa: SIM115 - closed with self
                weakref.finalize(self, self._file.close)
            place = _Stored(self._file.seek(0, os.SEEK_END), array.dtype, array.shape)
            try:
                written = self._file.write(np.ascontiguousarray(array).data)
            except OSError:
                return None
            return place if written == array.nbytes else None

    def read(self, place: _Stored) -> NDArray[Any]:
        """The array at a position that `append` returned."""
        array = np.empty(place.shape, place.dtype)
        with self._lock:
            self._file.seek(place.offset)
            self._file.readinto(array.data)
        return array
