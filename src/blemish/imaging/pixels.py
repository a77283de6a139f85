"""Arrays of pixels as what a network takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_batch(pixels: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """(B, 3, h, w) in [0, 1], channels last in memory, from arrays (h, w, C) of one size."""
    batch = np.empty((len(pixels), *pixels[0].shape[:2], 3), np.float32)
    for row, image in zip(batch, pixels, strict=True):
        scale = 1.0 if image.dtype == np.float32 else 1 / np.iinfo(image.dtype).max
        np.multiply(image, np.float32(scale), out=row, dtype=np.float32)
    return batch.transpose(0, 3, 1, 2)
