"""Renders one image of the synthetic data set with its exact mask."""

from __future__ import annotations

from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.data.synthetic.camera import Shot, develop, expose, grey
from blemish.data.synthetic.canvas import Field, Lamp, illuminate
from blemish.data.synthetic.catalog import CATEGORIES, Recipe
from blemish.data.synthetic.defects import Flaw

Image = NDArray[np.uint8]

# A pixel belongs to the defect where the noise-free image changes by more than this (8 of 255 levels, about four times
# the noise), and by more than this share of the defect's strongest change, which excludes the halo of the lens.
_VISIBLE = 0.03
_OF_PEAK = 0.15
# A defect is drawn again unless its area, as a share of the image, and its strongest change are within these limits.
_AREA = (0.0009, 0.15)
_CONTRAST = 0.09
# Largest unchanged area inside a defect, as a share of the image, that counts as defect: the middle of a turned part.
_FILLED = 0.003
_ATTEMPTS = 40


def render_image(
    category: str, split: str, defect: str, index: int, size: int, seed: int
) -> tuple[Image, Image | None]:
    """The image (height, width, C), C being 1 or 3 (RGB), and its mask (height, width) of 0 and 255, None if good.

    Height and width are `size`; of a long category, they are half of it and four times as much. The result depends only
    on the arguments. `index` counts the images of a split and defect type.
    """
    recipe = CATEGORIES[category]
    names = [crc32(name.encode()) for name in (category, split, defect)]
    root = np.random.SeedSequence([seed, *names, index])
    part, shot, sensor, flaws = root.spawn(4)
    good, _ = _noise_free(recipe, size, part, shot, Flaw("good", np.random.default_rng(0), 0.0))
    image, mask = good, None
    if defect != "good":
        image, mask = _with_defect(recipe, size, part, shot, flaws, defect, index, good)
    return expose(image, np.random.default_rng(sensor), recipe.noise), mask


def _noise_free(
    recipe: Recipe, size: int, part: np.random.SeedSequence, shot: np.random.SeedSequence, flaw: Flaw
) -> tuple[Field, Field]:
    """The image (height, width, 1 or 3) without noise, and the pixels, 1 or 0, that may be in its mask."""
    camera = np.random.default_rng(shot)
    lamp, setting = Lamp.jitter(camera), Shot.draw(camera, recipe.light)
    canvas = recipe.draw(recipe.height(size), np.random.default_rng(part), flaw)
    image = develop(illuminate(canvas, lamp), setting)
    fault = np.ones((2, 2), np.float32) if canvas.fault is None else canvas.fault
    region = np.asarray(cv2.resize(fault, image.shape[1::-1], interpolation=cv2.INTER_AREA) > 0.3, np.float32)
    return grey(image) if recipe.grey else image, region


def _with_defect(
    recipe: Recipe,
    size: int,
    part: np.random.SeedSequence,
    shot: np.random.SeedSequence,
    flaws: np.random.SeedSequence,
    defect: str,
    index: int,
    good: Field,
) -> tuple[Field, Image]:
    """The image of the same part with a defect, and its mask; a defect that is too small, large or faint is redrawn."""
    # Multiples of the golden ratio spread the strengths evenly for any number of images.
    strength = (0.25 + 0.618034 * index) % 1
    for attempt in flaws.spawn(_ATTEMPTS):
        flaw = Flaw(defect, np.random.default_rng(attempt), strength)
        image, region = _noise_free(recipe, size, part, shot, flaw)
        change = np.abs(image - good).max(axis=-1) * region
        mask = exact_mask(change)
        if _AREA[0] <= np.count_nonzero(mask) / mask.size <= _AREA[1] and change.max() >= _CONTRAST:
            return image, mask
        strength = min(1.0, strength + 0.05)
    raise RuntimeError(f"{defect}: no visible defect of a fitting size in {_ATTEMPTS} attempts at size {size}")


def exact_mask(change: Field) -> Image:
    """The mask (h, w) of 0 and 255 of a change (h, w) in [0, 1]: thresholded, gaps closed, small specks removed."""
    threshold = max(_VISIBLE, _OF_PEAK * float(change.max()))
    found = (change > threshold).astype(np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(len(change) / 170) + 1,) * 2)
    closed = np.asarray(cv2.morphologyEx(found, cv2.MORPH_CLOSE, disc), np.uint8)
    smallest = max(4, round(1.2e-4 * change.size))
    solid = _without_specks(closed, smallest)
    filled = 1 - _without_specks(1 - solid, round(_FILLED * change.size))
    return np.asarray(255 * filled, np.uint8)


def _without_specks(mask: Image, smallest: int) -> Image:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= smallest
    keep[0] = False
    return np.asarray(keep[labels], np.uint8)
