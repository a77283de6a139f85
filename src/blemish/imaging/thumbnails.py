"""What is kept of images and maps for a look: small, and pictures packed as files."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.imaging.pixels import fitted

PICTURE_SIDE = 320
"""The longer side in pixels, at most, of a picture that is kept for display."""
QUALITY = 92
"""Of the pictures, as JPEG has it: ten times as fast to write as WebP."""
Picture = NDArray[np.uint8]
"""(h, w, 3) RGB."""


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
