"""Pictures as they are kept for a look: small, 8-bit, and packed as files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.types import Size

QUALITY = 92
"""Of the pictures, as JPEG has it: ten times as fast to write as WebP."""
Picture = NDArray[np.uint8]
"""(h, w, 3) RGB."""


def fitted(shape: Sequence[int], side: int) -> Size:
    """(height, width) of the shape brought to a longer side of `side`, where it is larger."""
    factor = min(1.0, side / max(shape[:2]))
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def thumbnail(image: NDArray[Any], side: int) -> Picture:
    """The image (any depth, grey or colour) as 8-bit RGB, its longer side at most `side`, never enlarged."""
    small = cv2.resize(image, fitted(image.shape[:2], side)[::-1], interpolation=cv2.INTER_AREA)
    if small.dtype != np.uint8:
        small = np.round(small * (255 / (1.0 if small.dtype == np.float32 else 65535))).astype(np.uint8)
    return np.asarray(np.repeat(small[:, :, None], 3, axis=2) if small.ndim == 2 else small, np.uint8)


def small_map(values: NDArray[Any], side: int) -> NDArray[np.float32]:
    """The map (H, W) with a longer side of at most `side`: (h, w), each value the mean of those it stands for."""
    size = fitted(values.shape, side)[::-1]
    return np.asarray(cv2.resize(np.asarray(values, np.float32), size, interpolation=cv2.INTER_AREA), np.float32)


def to_jpeg(picture: Picture) -> bytes:
    """The picture as a JPEG file."""
    return cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def decoded(content: bytes) -> Picture:
    """The picture in a file of any kind."""
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)
