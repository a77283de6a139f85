"""Good images together with varied copies of them, for a detector that sees few of them, or changing light."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from blemish.data.source import ImageSource
from blemish.imaging.variations import Variation

Augment = Literal["auto", "off", "pose", "light"]
FEW = 8
"""With so many images to learn from or fewer, "auto" is "pose"."""
ROWS = 32
"""Images and copies that "pose" has at least."""
COPIES = 1
"""Copies of each image of "light"."""


def augmented(images: ImageSource, how: Augment, seed: int = 0) -> tuple[ImageSource, str]:
    """The images followed by varied copies, which are computed anew at each use; and in words what was done.

    "pose" copies are shifted and rotated a little, "light" copies have other light, focus and noise; "off" and "auto"
    with more than FEW images have none. The copies depend on `seed` alone.
    """
    number = len(images.samples)
    if how == "auto":
        how = "pose" if number <= FEW else "off"
    if how == "off" or not number:
        return images, "augment: off"
    copies = COPIES if how == "light" else max(1, -(-ROWS // number) - 1)
    generator, draw = np.random.default_rng([seed, number]), DRAWS[how]
    varied = [draw(generator, info.is_colour) for _ in range(copies) for info in images.files]
    return images.with_copies(varied), f"augment: {how}, {copies} varied copies of each of {number} images"


def _pose(generator: np.random.Generator, is_colour: bool) -> Variation:  # noqa: ARG001 - as a draw takes it
    right, down = generator.uniform(-0.02, 0.02, 2).tolist()
    degrees, brightness = float(generator.uniform(-3, 3)), float(np.exp(generator.uniform(-0.03, 0.03)))
    return Variation(degrees=degrees, right=right, down=down, brightness=brightness)


def _light(generator: np.random.Generator, is_colour: bool) -> Variation:
    right, down = generator.uniform(-0.01, 0.01, 2).tolist()
    brightness, warmth = np.exp(generator.uniform((-0.2, -0.1), (0.2, 0.1))).tolist()
    blur, noise = generator.uniform(0, (0.8, 0.015)).tolist()
    seed = int(generator.integers(2**32))
    return Variation(0, right, down, blur, brightness, warmth if is_colour else 1.0, noise, seed=seed)


DRAWS: Mapping[str, Callable[[np.random.Generator, bool], Variation]] = {"pose": _pose, "light": _light}
"""Name -> the function that draws the variation of a copy; it is told whether the image has colours."""
