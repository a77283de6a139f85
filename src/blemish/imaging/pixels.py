"""Arrays of pixels as the input of a network and as thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.types import Size


def to_batch(pixels: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """A batch (B, 3, h, w) in [0, 1], channels last in memory, of images (h, w, C) of the same size; C is 1 or 3."""
    batch = np.empty((len(pixels), *pixels[0].shape[:2], 3), np.float32)
    for row, image in zip(batch, pixels, strict=True):
        scale = 1.0 if image.dtype == np.float32 else 1 / np.iinfo(image.dtype).max
        np.multiply(image, np.float32(scale), out=row, dtype=np.float32)
    return batch.transpose(0, 3, 1, 2)


def size_within(shape: Sequence[int], side: int) -> Size:
    """(height, width) of an image of this shape scaled down to a longer side of at most `side`; never enlarged."""
    factor = min(1.0, side / max(shape[:2]))
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def thumbnail(image: NDArray[Any], side: int) -> NDArray[np.uint8]:
    """The image (any depth, grey or colour) as 8-bit RGB, its longer side at most `side`, never enlarged."""
    small = cv2.resize(image, size_within(image.shape[:2], side)[::-1], interpolation=cv2.INTER_AREA)
    if small.dtype != np.uint8:
        small = np.round(small * (255 / (1.0 if small.dtype == np.float32 else 65535))).astype(np.uint8)
    return np.asarray(np.repeat(small[:, :, None], 3, axis=2) if small.ndim == 2 else small, np.uint8)
