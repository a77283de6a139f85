"""Small copies of images, as JPEG, and of anomaly maps: what is stored for a report."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.imaging.pixels import size_within

QUALITY = 92
"""JPEG quality. JPEG is written ten times as fast as WebP."""
Thumbnail = NDArray[np.uint8]
"""(h, w, 3) RGB."""


def small_map(values: NDArray[Any], side: int) -> NDArray[np.float32]:
    """The map (H, W) reduced to a longer side of at most `side`: (h, w), each value the mean over its area."""
    size = size_within(values.shape, side)[::-1]
    return np.asarray(cv2.resize(np.asarray(values, np.float32), size, interpolation=cv2.INTER_AREA), np.float32)


def to_jpeg(image: Thumbnail) -> bytes:
    """The content of a JPEG file with the image (h, w, 3) RGB."""
    return cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def decoded(content: bytes) -> Thumbnail:
    """The image (h, w, 3) RGB in a file's content, in any format that OpenCV reads."""
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)
