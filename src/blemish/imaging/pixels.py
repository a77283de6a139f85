"""Arrays of pixels as what a network takes, and as what a person is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.types import Size


def white(dtype: np.dtype[Any]) -> float:
    """The value of the brightest pixel: 1 of floats, 255 of 8 bits, 65535 of 16."""
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)


def to_batch(pixels: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """(B, 3, h, w) in [0, 1], channels last in memory, from arrays (h, w, C) of one size."""
    batch = np.empty((len(pixels), *pixels[0].shape[:2], 3), np.float32)
    for row, image in zip(batch, pixels, strict=True):
        np.multiply(image, np.float32(1 / white(image.dtype)), out=row, dtype=np.float32)
    return batch.transpose(0, 3, 1, 2)


def fitted(shape: Sequence[int], side: int) -> Size:
    """(height, width) of the shape brought to a longer side of `side`, where it is larger."""
    factor = min(1.0, side / max(shape[:2]))
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def thumbnail(image: NDArray[Any], side: int) -> NDArray[np.uint8]:
    """The image (any depth, grey or colour) as 8-bit RGB, its longer side at most `side`, never enlarged."""
    small = cv2.resize(image, fitted(image.shape[:2], side)[::-1], interpolation=cv2.INTER_AREA)
    if small.dtype != np.uint8:
        small = np.round(small * (255 / white(small.dtype))).astype(np.uint8)
    return np.asarray(np.repeat(small[:, :, None], 3, axis=2) if small.ndim == 2 else small, np.uint8)
