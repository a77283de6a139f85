"""A simulated camera: illumination, lens and sensor turn the light of a scene into an image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.data.synthetic.canvas import SUPERSAMPLE, Field, blur


@dataclass(frozen=True)
class Shot:
    """The settings of one exposure. Slopes are over the image's sides; `focus` is the blur's sigma in image heights."""

    gain: float
    slope_x: float
    slope_y: float
    vignette: float
    white: tuple[float, float, float]
    focus: float

    @classmethod
    def draw(cls, rng: np.random.Generator, light: float) -> Shot:
        """Random settings; `light` is the relative variation of the illumination."""
        red, blue = rng.uniform(-0.02, 0.02, 2)
        return cls(
            gain=float(1 + light * rng.uniform(-1, 1)),
            slope_x=float(light * rng.uniform(-1, 1)),
            slope_y=float(light * rng.uniform(-1, 1)),
            vignette=float(rng.uniform(0.12, 0.22)),
            white=(1 + float(red), 1.0, 1 + float(blue)),
            focus=float(rng.choice([0.0016, 0.0022, 0.0032], p=[0.45, 0.4, 0.15])),
        )


def develop(light: Field, shot: Shot) -> Field:
    """The noise-free image (height, width, 3) in [0, 1], encoded with gamma 2, of linear light (3, n, m)."""
    _, n, m = light.shape
    height, width = n // SUPERSAMPLE, m // SUPERSAMPLE
    along, down = (((np.arange(side) + 0.5) / side - 0.5).astype(np.float32) for side in (width, height))
    x, y = along[None, :], down[:, None]
    illumination = shot.gain * (1 + shot.slope_x * x + shot.slope_y * y) * (1 - shot.vignette * 2 * (x * x + y * y))
    planes = [
        np.asarray(cv2.resize(blur(plane, shot.focus * n), (width, height), interpolation=cv2.INTER_AREA), np.float32)
        * np.float32(white)
        for plane, white in zip(light, shot.white, strict=True)
    ]
    # Highlights are compressed, not clipped, so that they keep their shape.
    exposed = np.stack(planes, axis=-1) * illumination[..., None].astype(np.float32)
    return np.asarray(np.sqrt(np.minimum(exposed, 0.7) + 0.3 * np.tanh(np.maximum(exposed - 0.7, 0) / 0.3)))


def grey(image: Field) -> Field:
    """The image (height, width, 3) of a monochrome sensor: (height, width, 1)."""
    return np.asarray(np.sqrt((image * image).mean(axis=-1, keepdims=True)), np.float32)


def expose(image: Field, rng: np.random.Generator, noise: float = 1.0) -> NDArray[np.uint8]:
    """The image in [0, 1] with shot and read noise, in 8 bits; `noise` multiplies it: above 1, a sensor in the dark."""
    # Shot noise grows with the square root of the light, so with gamma 2 it is the same at every level; read noise
    # dominates in dark areas.
    deviation = np.float32(noise) * (0.006 + 0.0012 / np.maximum(image, 0.08))
    noisy = image + deviation * rng.standard_normal(image.shape, dtype=np.float32)
    return np.round(255 * np.clip(noisy, 0, 1)).astype(np.uint8)
