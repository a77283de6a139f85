"""From an image to what a detector sees, and from its maps back to the image's own size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.imaging import tiles
from blemish.imaging.formats import Image
from blemish.imaging.limits import MAX_PIXELS
from blemish.types import Size

if TYPE_CHECKING:
    from blemish.imaging.alignment import Alignment, Placement
    from blemish.imaging.roi import Roi

Aspect = Literal["squash", "pad"]
Combination = Literal["maximum", "mean"]
"""How the scores of an image's pieces become its score."""


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
    combination: Combination = "maximum"
    """How the scores of an image's tiles become one, as the detector declares."""
    max_pixels: int = field(default=MAX_PIXELS, compare=False)
    """Of a file at most; one with more is refused before memory is taken. It changes nothing of what is seen."""

    @property
    def is_partial(self) -> bool:
        """Whether there may be pixels of a piece that do not count for the score."""
        return self.tile is not None or self.roi is not None

    def placement(self, image: Image) -> Placement | None:
        """How the part in an image lies; None where that does not count."""
        return None if self.alignment is None else self.alignment.placement(image)

    def pieces(self, image: Image, placement: Placement | None = None) -> list[Image]:
        """What the detector sees of an image, each (h, w, C): the whole, or its tiles, its part straightened.

        Raises BlemishError where the region of interest was drawn for a picture of another shape.
        """
        return self._cut(image if self.roi is None else self.roi.fill(image), placement)

    def inside(self, size: Size, placement: Placement | None = None) -> Iterator[NDArray[np.bool_] | None]:
        """For each piece of an image of this (height, width): its pixels (h, w) that count for the score; None: all.

        Those that show some of the roi, and of a tile those that its map is taken from where others overlap it.
        """
        counted = None if self.roi is None else self.roi.inside(size).astype(np.float32)
        if counted is not None and placement is not None:
            counted = placement.warp(counted)
        if self.tile is None:
            yield None if counted is None else self._shows(counted)
            return
        parts = repeat(np.ones(1, np.float32)) if counted is None else tiles.cut(counted, self.tile, self.overlap)
        for own, part in zip(tiles.contributions(size, self.tile, self.overlap), parts, strict=False):
            yield self._shows(own * part)

    def num_pieces(self, size: Size) -> int:
        """How many pieces an image of this (height, width) has."""
        return 1 if self.tile is None else len(tiles.corners(size, self.tile, self.overlap))

    def combine_scores(self, scores: Sequence[float]) -> float:
        """The score of an image by those of its pieces; that of a single one is its own, to the bit."""
        return float(max(scores) if self.combination == "maximum" else fmean(scores))

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
            whole = placement.warp_back(whole, outside=float(whole.min()))
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

    def _shows(self, share: NDArray[np.float32]) -> NDArray[np.bool_]:
        return self.apply(share)[:, :, 0] > 0

    def _cut(self, image: NDArray[Any], placement: Placement | None) -> list[NDArray[Any]]:
        straight = image if placement is None else placement.warp(image)
        if self.tile is None:
            return [self.apply(straight)]
        return [self.apply(tile) for tile in tiles.cut(straight, self.tile, self.overlap)]

    def _inner(self, size: Size) -> Size:
        """The (height, width) that the image takes inside `self.size`."""
        if self.aspect == "squash":
            return self.size
        scale = min(self.size[0] / size[0], self.size[1] / size[1])
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

    def _border(self, height: int, width: int) -> tuple[int, int, int, int]:
        vertical, horizontal = self.size[0] - height, self.size[1] - width
        return vertical // 2, vertical - vertical // 2, horizontal // 2, horizontal - horizontal // 2
