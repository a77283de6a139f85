"""How images of the same part vary on a line: position, focus, light, colour, noise and compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.imaging.alignment import Placement
from blemish.imaging.pixels import white


@dataclass(frozen=True, slots=True)
class Variation:
    """A function from an image to the same image under other conditions; the defaults change nothing."""

    degrees: float = 0.0
    """Rotation about the centre, counter-clockwise; edges are mirrored."""
    right: float = 0.0
    down: float = 0.0
    """Shift before the rotation, as fractions of the longer side."""
    blur: float = 0.0
    """Sigma in pixels of the Gaussian by which the image is out of focus."""
    brightness: float = 1.0
    """Factor of all values."""
    warmth: float = 1.0
    """Factor of red, and divisor of blue; above 1 is a lower colour temperature. Images of one channel stay as they
    are."""
    noise: float = 0.0
    """Standard deviation of the noise of each value, 1 being white."""
    quality: int = 0
    """Quality of a JPEG, from 1 to 100, as which the image is stored with 8 bits and read; 0: it is not."""
    seed: int = 0
    """Of the noise."""

    def __call__(self, image: NDArray[Any]) -> NDArray[Any]:
        """The varied image (H, W) or (H, W, C), in its own shape and type; `image` stays as it is."""
        if self == Variation(seed=self.seed):
            return image
        highest = white(image.dtype)
        values: NDArray[Any] = np.asarray(image, np.float32) * np.float32(1 / highest)
        if self.degrees or self.right or self.down:
            values = Placement(-self.degrees, -self.right, -self.down).warp(values)  # which undoes a pose
        if self.blur:
            values = cv2.GaussianBlur(values, (0, 0), self.blur, borderType=cv2.BORDER_REFLECT_101)
        values = np.clip(self._noisy(self._lit(values.reshape(image.shape))), 0, 1)
        if self.quality:
            values = _compressed(values, self.quality).reshape(image.shape)
        return values if image.dtype.kind == "f" else np.round(values * highest).astype(image.dtype)

    def _lit(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        if values.ndim == 3 and values.shape[2] == 3:
            factors = np.array([self.warmth, 1, 1 / self.warmth], np.float32)
            return np.asarray(values * (factors * np.float32(self.brightness)), np.float32)
        return np.asarray(values * np.float32(self.brightness), np.float32)

    def _noisy(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self.noise:
            return values
        drawn = np.random.default_rng(self.seed).standard_normal(values.shape, np.float32)
        return np.asarray(values + np.float32(self.noise) * drawn, np.float32)


def _compressed(values: NDArray[np.float32], quality: int) -> NDArray[np.float32]:
    pixels = np.round(values * 255).astype(np.uint8)
    swapped = pixels[..., ::-1] if pixels.ndim == 3 and pixels.shape[2] == 3 else pixels
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(swapped), [cv2.IMWRITE_JPEG_QUALITY, quality])
    read = np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), np.float32) / np.float32(255)
    return read[..., ::-1] if read.ndim == 3 else read
