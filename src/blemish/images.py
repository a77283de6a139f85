"""From an image file to the array that a detector sees, and from its map back to the file's own size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish import tiles
from blemish.errors import BlemishError
from blemish.types import Size

if TYPE_CHECKING:
    from blemish.alignment import Alignment, Placement
    from blemish.roi import Roi

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
Aspect = Literal["squash", "pad"]
PNG, JPEG = b"\x89PNG", b"\xff\xd8"
GREY_WITH_ALPHA, COLOUR_WITH_ALPHA = 4, 6
"""Colour types of PNG."""
Image = NDArray[Any]
"""(H, W) grey or (H, W, 3) RGB; uint8, uint16, or float32 in [0, 1]."""

cv2.setNumThreads(1)  # blemish decodes several files at a time instead
# OpenCV complains of broken files on standard error; blemish says it once, in its own words.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def is_image(path: Path) -> bool:
    """Whether the name says that the file is an image (its extension, in any case)."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def read_image(path: Path) -> Image:
    """The image in a file, at its own depth: grey stays grey, 16-bit stays 16-bit.

    EXIF orientation is honoured, a palette is expanded and an alpha channel dropped (`has_alpha` tells).
    Raises BlemishError for a file that is missing, truncated, or of a kind that blemish does not read.
    """
    return decode_image(read_bytes(path), path)


def decode_image(data: bytes, path: Path) -> Image:
    """The image in `data`, the content of the file at `path`; see `read_image`."""
    image = _decode(data, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH, path)
    if image.dtype not in (np.uint8, np.uint16, np.float32):
        raise BlemishError(
            f"{path}: pixels of type {image.dtype}; allowed are 8-bit, 16-bit and float in [0, 1]. "
            "Convert the file, for example to 16-bit PNG."
        )
    if image.dtype == np.float32 and not (image.min() >= 0 and image.max() <= 1):
        raise BlemishError(f"{path}: float pixels must lie in [0, 1]. Scale the file, or save it as 16-bit PNG.")
    if image.ndim == 3 and _png_colour_type(data) == GREY_WITH_ALPHA:  # which OpenCV expands to three channels
        image = cv2.extractChannel(image, 0)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.ndim == 3 else image


def has_alpha(data: bytes, path: Path) -> bool:
    """Whether the file's content holds an alpha channel (which `read_image` drops)."""
    if data.startswith(JPEG):
        return False
    if (colour_type := _png_colour_type(data)) is not None:
        return colour_type in (GREY_WITH_ALPHA, COLOUR_WITH_ALPHA) or b"tRNS" in data[: data.find(b"IDAT")]
    image = _decode(data, cv2.IMREAD_UNCHANGED, path)
    return image.ndim == 3 and image.shape[2] == 4


def read_mask(path: Path) -> NDArray[np.bool_]:
    """(H, W): True where the mask marks an anomalous pixel, which is any pixel that is not black.

    In a JPEG, where black becomes almost black around each shape, it is any that is nearer to white.
    """
    data = read_bytes(path)
    image = decode_image(data, path)
    marked = image > 127 if data.startswith(JPEG) else image != 0
    return np.asarray(marked.any(axis=2) if marked.ndim == 3 else marked)


def read_bytes(path: Path) -> bytes:
    """The content of a file; raises BlemishError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BlemishError(f"{path}: {error.strerror or error}. Check the path and its permissions.") from None


def _png_colour_type(data: bytes) -> int | None:
    return data[25] if data.startswith(PNG) else None


def _decode(data: bytes, flags: int, path: Path) -> Image:
    cut_off = data.startswith(PNG) and data.rfind(b"IEND") < 0  # of which libpng would complain on standard error
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data and not cut_off else None
    except cv2.error as error:
        raise BlemishError(f"{path}: cannot be decoded ({error.err}).") from None
    if image is None:
        raise BlemishError(
            f"{path}: truncated, or not an image in one of {', '.join(sorted(EXTENSIONS))}. Replace or remove it."
        )
    return image


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Brings images to the size that a detector works at, and maps back to the size of their file."""

    size: Size
    """(height, width) of what the detector sees."""
    aspect: Aspect = "squash"
    """squash: each side is scaled by itself; pad: the aspect ratio is kept, the border repeated outwards."""
    tile: int | None = None
    """Side in pixels of the file of the tiles that are looked at one by one; None: the whole picture at once."""
    overlap: int = 0
    """Pixels that neighbouring tiles share, half a tile at most."""
    roi: Roi | None = None
    """What counts of a picture; None: all of it."""
    alignment: Alignment | None = None
    """What pictures are turned and shifted to look like before all else is done; None: they are taken as they lie."""

    def placement(self, image: Image) -> Placement | None:
        """How the part in an image lies; None where that does not count."""
        return None if self.alignment is None else self.alignment.placement(image)

    def pieces(self, image: Image, placement: Placement | None = None) -> list[Image]:
        """What the detector sees of an image, each (h, w, C): the whole, or its tiles, its part straightened.

        Raises BlemishError where the region of interest was drawn for a picture of another shape.
        """
        counted = image if self.roi is None else self.roi.fill(image)
        if placement is not None:
            counted = placement.straightened(counted)
        if self.tile is None:
            return [self.apply(counted)]
        return [self.apply(tile) for tile in tiles.cut(counted, self.tile, self.overlap)]

    def num_pieces(self, size: Size) -> int:
        """How many pieces an image of this (height, width) has."""
        return 1 if self.tile is None else len(tiles.places(size, self.tile, self.overlap))

    def assemble(
        self, maps: Sequence[NDArray[np.float32]], size: Size, placement: Placement | None = None
    ) -> NDArray[np.float32]:
        """(H, W) = `size`: the maps of all pieces as one; the lowest value stands where nothing was looked at.

        That is outside of the roi, and where a straightened part's turn or shift left a corner out.
        """
        if self.tile is None:
            whole = self.restore(maps[0], size)
        else:
            side = self.tile, self.tile
            whole = tiles.blend([self.restore(m, side) for m in maps], size, self.tile, self.overlap)
        if placement is not None:
            whole = placement.laid(whole, beyond=float(whole.min()))
        if self.roi is not None:
            inside = self.roi.inside(size)
            whole[~inside] = whole[inside].min()
        return whole

    def apply(self, image: Image) -> Image:
        """(h, w, C) in the image's own type, C being 1 or 3."""
        height, width = self._inner(image.shape[:2])
        # Averaging over the area is the one reduction without aliasing; it is no good at enlarging, and OpenCV does not
        # average where one side shrinks and the other grows. So first the sides that shrink, then those that grow.
        reduced = min(width, image.shape[1]), min(height, image.shape[0])
        small = cv2.resize(image, reduced, interpolation=cv2.INTER_AREA)
        if reduced != (width, height):
            small = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        if (height, width) != self.size:
            top, bottom, left, right = self._border(height, width)
            small = cv2.copyMakeBorder(small, top, bottom, left, right, cv2.BORDER_REPLICATE)
        return small.reshape(*self.size, -1)

    def restore(self, anomaly_map: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
        """(H, W) = `size`: the map (any size, of a preprocessed image) laid over the file's own pixels."""
        height, width = self._inner(size)
        if (height, width) != self.size:
            # In a map smaller than the image the border may end within a pixel, so it is cut off at the image's size.
            top, _, left, _ = self._border(height, width)
            whole = np.asarray(cv2.resize(anomaly_map, self.size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
            anomaly_map = np.ascontiguousarray(whole[top : top + height, left : left + width])
        return np.asarray(cv2.resize(anomaly_map, size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)

    def _inner(self, size: Size) -> Size:
        """The (height, width) that the image takes inside `self.size`."""
        if self.aspect == "squash":
            return self.size
        scale = min(self.size[0] / size[0], self.size[1] / size[1])
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

    def _border(self, height: int, width: int) -> tuple[int, int, int, int]:
        vertical, horizontal = self.size[0] - height, self.size[1] - width
        return vertical // 2, vertical - vertical // 2, horizontal // 2, horizontal - horizontal // 2
