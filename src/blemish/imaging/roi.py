"""Regions of interest: the pixels of an image that affect its score."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.errors import BlemishError
from blemish.files import read_bytes
from blemish.imaging.formats import Image
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.masks import read_mask
from blemish.imaging.read import decode_image
from blemish.types import Size

SMALLEST_SHARE = 0.01
"""Smallest share of the image that a region may cover; a smaller one is a mistake, such as polygons in other units."""
FAR = 1 << 20
"""Coordinates of polygons are clipped to this many pixels: far outside of any image, and still drawn exactly."""

logger = logging.getLogger("blemish")


@dataclass(frozen=True, slots=True)
class Roi:
    """The region of interest of all images of one camera view. Images of another aspect ratio are refused."""

    png: bytes
    """A mask as PNG: pixels that are not black are inside."""

    def __post_init__(self) -> None:
        if not _decode(self.png).any():
            raise BlemishError(
                "roi: the mask is black everywhere, so nothing would be inspected. Mark what is to be inspected."
            )

    def inside(self, size: Size) -> NDArray[np.bool_]:
        """(H, W) = `size`: True where a pixel is inside the region, which is scaled to the size of the image.

        Raises BlemishError for an image of another aspect ratio.
        """
        return _scaled(self.png, size)

    def fill(self, image: Image) -> Image:
        """The image with its mean colour inside the region as the colour of all pixels outside, which then cannot
        affect the score.
        """
        inside = self.inside((image.shape[0], image.shape[1]))
        colour = image[inside].astype(np.float64).mean(axis=0)
        if image.dtype != np.float32:
            colour = np.round(colour)
        filled = image.copy()
        filled[~inside] = colour.astype(image.dtype)
        return filled


def read_roi(path: Path) -> Roi:
    """Reads a region of interest from a mask (an image file, see `read_mask`) or from polygons in a JSON file:

    {"size": [height, width], "polygons": [[[x, y], [x, y], [x, y]], ...], "outside": [...]}, in pixels of an image of
    that size. Polygons that are `outside` are cut out of the others, or of the whole image where there are no others.

    Logs the region's share of the image. Raises BlemishError where the file cannot be used, or the region covers less
    than SMALLEST_SHARE.
    """
    mask = _draw(path) if path.suffix.lower() == ".json" else read_mask(path)
    if not mask.any():
        raise BlemishError(f"roi {path}: marks no pixel of the image. Mark what is to be inspected.")
    share = float(mask.mean())
    if share < SMALLEST_SHARE:
        raise BlemishError(
            f"roi {path}: marks {share:.2%} of the image, {SMALLEST_SHARE:.0%} is the least. Mark all that is to be "
            "inspected, polygons in pixels of an image of the stated size; or crop the images."
        )
    logger.info("roi: %.1f %% of the image is inspected (%s)", 100 * share, path)
    _, png = cv2.imencode(".png", mask.astype(np.uint8) * 255)
    return Roi(png.tobytes())


def masked_by_roi(anomaly_map: NDArray[np.float32], roi: Roi | None) -> NDArray[np.float32]:
    """The map (H, W); with a region of interest a masked array, in which the pixels outside are masked."""
    if roi is None:
        return anomaly_map
    inside = roi.inside((anomaly_map.shape[0], anomaly_map.shape[1]))
    return np.ma.MaskedArray(anomaly_map, mask=~inside)


def _draw(path: Path) -> NDArray[np.bool_]:
    try:
        content: Any = json.loads(read_bytes(path))
        size = _size(content["size"])
        outside = [_polygon(points, size) for points in content.get("outside", ())]
        drawn = content.get("polygons", ()) if outside else content["polygons"]
        inside = [_polygon(points, size) for points in drawn]
        mask = np.full(size, bool(outside) and not inside, np.uint8)
        for polygon, value in [*((one, 1) for one in inside), *((one, 0) for one in outside)]:
            # one at a time, otherwise OpenCV leaves out where two overlap
            cv2.fillPoly(mask, [np.round(polygon).astype(np.int32)], value)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, MemoryError, cv2.error) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)[:200]
        raise BlemishError(
            f"roi {path}: cannot be used ({reason}). "
            'Expected {"size": [height, width], "polygons": [[[x, y], [x, y], [x, y]]]}.'
        ) from None
    return mask.astype(bool)


def _size(sides: Any) -> Size:
    height, width = (_side(side) for side in sides)
    if height * width > MAX_PIXELS:
        raise ValueError(f"an image of {height}x{width} has over {MAX_PIXELS:,} pixels")
    return height, width


def _side(side: Any) -> int:
    if isinstance(side, bool) or not isinstance(side, int | float) or not math.isfinite(side) or side != int(side):
        raise ValueError(f"the size has {side!r}, no whole number of pixels")
    if side < 1:
        raise ValueError(f"the size has {side:g}, pixels are counted from 1")
    return int(side)


def _polygon(points: Any, size: Size) -> NDArray[np.float64]:
    polygon = np.asarray(points, np.float64).reshape(-1, 2)
    if len(polygon) < 3:
        raise ValueError(f"{points} has fewer than three points")
    if not np.isfinite(polygon).all():
        raise ValueError("a polygon has a point that is no finite number")
    if max(size) > 2 and polygon.min() >= 0 and polygon.max() <= 1:
        raise ValueError("a polygon lies between 0 and 1; its points are pixels, so multiply x by width, y by height")
    return np.clip(polygon, -FAR, FAR)


@lru_cache(maxsize=8)
def _decode(png: bytes) -> NDArray[np.bool_]:
    image = decode_image(png, Path("roi.png"))
    return np.asarray(image.any(axis=2) if image.ndim == 3 else image != 0)


@lru_cache(maxsize=8)
def _scaled(png: bytes, size: Size) -> NDArray[np.bool_]:
    mask = _decode(png)
    height, width = mask.shape
    if abs(size[0] * width - size[1] * height) > max(height, width):  # more than rounding explains
        raise BlemishError(
            f"the image is {size[0]}x{size[1]}, its region of interest was drawn for {height}x{width}: another view. "
            "Use images of one aspect ratio, or learn without roi."
        )
    scaled = cv2.resize(mask.view(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST).view(bool)
    if not scaled.any():
        raise BlemishError(f"nothing is left of the region of interest in an image of {size[0]}x{size[1]}.")
    scaled.flags.writeable = False  # the cached array is shared
    return scaled
