"""Preprocessing: from an image to the input of a detector, and from the detector's maps back to the image's size."""

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
"""How the scores of an image's tiles become the score of the image."""


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Resizes images for a detector, and resizes its maps back to the size of the image.

    In this order: pixels outside the region of interest are filled, the image is registered, cut into tiles, and each
    tile is resized. A piece is what the detector takes as one input: a tile, or the whole image without tiles.
    """

    size: Size
    """(height, width) of the detector's input."""
    aspect: Aspect = "squash"
    """squash: height and width are scaled independently; pad: the aspect ratio is kept, the edge pixels repeated."""
    tile: int | None = None
    """Side of the tiles in pixels of the image; None: the whole image is one piece."""
    overlap: int = 0
    """Pixels that neighbouring tiles share, at most half a tile."""
    roi: Roi | None = None
    """The region of interest: only pixels in it affect the score. None: all pixels."""
    alignment: Alignment | None = None
    """The reference that images are registered to; None: no registration."""
    combination: Combination = "maximum"
    """How the scores of an image's tiles become one, as the detector declares."""
    max_pixels: int = field(default=MAX_PIXELS, compare=False)
    """Files with more pixels are refused before memory is allocated."""

    @property
    def is_partial(self) -> bool:
        """Whether some pixels of a piece may not affect the score."""
        return self.tile is not None or self.roi is not None or self.alignment is not None

    def placement(self, image: Image) -> Placement | None:
        """The rotation and shift of the part in an image against the reference; None without registration."""
        return None if self.alignment is None else self.alignment.placement(image)

    def pieces(self, image: Image, placement: Placement | None = None) -> list[Image]:
        """The inputs of the detector for an image (H, W) or (H, W, 3): arrays (h, w, C) in the image's own type.

        Raises BlemishError where the region of interest belongs to images of another aspect ratio.
        """
        return self._cut(image if self.roi is None else self.roi.fill(image), placement)

    def inside(self, size: Size, placement: Placement | None = None) -> Iterator[NDArray[np.bool_] | None]:
        """For each piece of an image of this (height, width): its pixels (h, w) that affect the score; None: all.

        These are the pixels that show part of the region of interest, and of the image where registration filled what
        it does not show. Of a tile they are also only those whose map values are used where tiles overlap.
        """
        counted = None if self.roi is None else self.roi.inside(size).astype(np.float32)
        if placement is not None:
            shown = placement.coverage(size)
            counted = shown if counted is None else shown * placement.warp(counted)
        if self.tile is None:
            yield None if counted is None else self._shows(counted)
            return
        parts = repeat(np.ones(1, np.float32)) if counted is None else tiles.cut(counted, self.tile, self.overlap)
        for own, part in zip(tiles.contributions(size, self.tile, self.overlap), parts, strict=False):
            yield self._shows(own * part)

    def num_pieces(self, size: Size) -> int:
        """The number of pieces of an image of this (height, width)."""
        return 1 if self.tile is None else len(tiles.corners(size, self.tile, self.overlap))

    def combine_scores(self, scores: Sequence[float]) -> float:
        """The score of an image from the scores of its pieces; a single score is returned unchanged."""
        return float(max(scores) if self.combination == "maximum" else fmean(scores))

    def assemble(
        self, maps: Sequence[NDArray[np.float32]], size: Size, placement: Placement | None = None
    ) -> NDArray[np.float32]:
        """The map (H, W) = `size` of an image from the maps of its pieces.

        Pixels outside the region of interest, and those that registration moved out of the image, get the lowest value
        of the map.
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
        """One tile or image (H, W) or (H, W, 3) resized to (h, w, C) in its own type, C being 1 or 3."""
        height, width = self._inner(image.shape[:2])
        # Area interpolation is free of aliasing, but only reduces, and OpenCV does not average where one side shrinks
        # and the other grows. So first the sides that shrink are resized, then those that grow.
        reduced = min(width, image.shape[1]), min(height, image.shape[0])
        small = cv2.resize(image, reduced, interpolation=cv2.INTER_AREA)
        if reduced != (width, height):
            small = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        if (height, width) != self.size:
            top, bottom, left, right = self._border(height, width)
            small = cv2.copyMakeBorder(small, top, bottom, left, right, cv2.BORDER_REPLICATE)
        return small.reshape(*self.size, -1)

    def restore(self, anomaly_map: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
        """The map of one piece, of any size, resized to (H, W) = `size` without the padding."""
        height, width = self._inner(size)
        if (height, width) != self.size:
            # In a map smaller than the input, the padding may end within a pixel; so it is removed at the input's size.
            top, _, left, _ = self._border(height, width)
            whole = np.asarray(cv2.resize(anomaly_map, self.size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
            anomaly_map = np.ascontiguousarray(whole[top : top + height, left : left + width])
        return np.asarray(cv2.resize(anomaly_map, size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)

    def _shows(self, share: NDArray[np.float32]) -> NDArray[np.bool_]:
        return self.apply(share)[:, :, 0] > 0

    def _cut(self, image: NDArray[Any], placement: Placement | None) -> list[NDArray[Any]]:
        registered = image if placement is None else placement.warp(image)
        if self.tile is None:
            return [self.apply(registered)]
        return [self.apply(tile) for tile in tiles.cut(registered, self.tile, self.overlap)]

    def _inner(self, size: Size) -> Size:
        """The (height, width) of the image, without padding, inside `self.size`."""
        if self.aspect == "squash":
            return self.size
        scale = min(self.size[0] / size[0], self.size[1] / size[1])
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

    def _border(self, height: int, width: int) -> tuple[int, int, int, int]:
        """The padding at the top, bottom, left and right."""
        vertical, horizontal = self.size[0] - height, self.size[1] - width
        return vertical // 2, vertical - vertical // 2, horizontal // 2, horizontal - horizontal // 2
