"""Reads masks: which pixels of an image a mask file marks as anomalous, in any image format.

Pixels that are not black are marked. In a mask with lossy compression or smooth edges, pixels brighter than half of the
faintest shape are marked. Where all visible pixels have the same colour, the alpha channel is the mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.errors import BlemishError
from blemish.imaging.contents import distinct_values
from blemish.imaging.formats import Image
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.read import decode_file, read_content

NOT_BLACK, ABOVE, ALPHA = "not black", "above half of the faintest shape", "opaque"
"""Values of `Mask.rule`: what a pixel is where it is marked."""
FEW = 8
"""Largest number of values of a mask without compression artefacts."""
FAINT = 48
"""Values (of 255) below this are compression artefacts where there are brighter shapes, unless they fill areas."""
NEAR = 3
"""Values (of 255) that differ by at most this are one value with compression artefacts."""
EVEN = 6
"""Largest difference (of 255) between neighbouring pixels inside a shape."""
LEVELS, WIDTH, COVERED = 4, 9, 0.92
"""In a mask, LEVELS ranges of WIDTH values hold at least the share COVERED of the pixels away from edges; in a
photograph they do not."""
BACKGROUND = 0.02
"""Smallest share of background, away from edges, in a mask with compression artefacts."""
EDGE = np.ones((5, 5), np.uint8)
"""The neighbourhood of a pixel that must be on one side of an edge for the pixel to be away from it."""
ADVICE = "Save it in black (good) and white (defect), as PNG."
Marks = NDArray[np.bool_]
Strength = NDArray[np.float32]
"""(H, W) from 0 to 255: the brightest channel of each pixel."""


@dataclass(frozen=True, slots=True)
class Mask:
    """The pixels that a mask file marks, and the rule that decided it."""

    marks: Marks
    """(H, W): True where a pixel is anomalous."""
    rule: str
    """NOT_BLACK, ABOVE or ALPHA."""
    num_values: int
    """The number of different values of the pixels, or of the alpha channel where that is the mask."""


def read_mask(path: Path, max_pixels: int = MAX_PIXELS) -> Marks:
    """(H, W): True where the mask file marks a pixel as anomalous. Raises BlemishError as `understand_mask` does."""
    return understand_mask(path, max_pixels).marks


def understand_mask(path: Path, max_pixels: int = MAX_PIXELS) -> Mask:
    """What the file at `path` marks; raises BlemishError where it cannot be read, or its values do not tell."""
    decoded = decode_file(read_content(path, max_pixels), path, max_pixels)
    image, alpha = decoded.pixels, decoded.alpha
    if alpha is None or alpha.min() == alpha.max():
        return _judged(image, path)
    return _with_alpha(image, alpha, path)


def _with_alpha(image: Image, alpha: Image, path: Path) -> Mask:
    visible = alpha > 0
    colours = image[visible]
    if (colours == colours[0]).all():
        found = _judged(alpha, path)
        if found.marks.mean() > 0.5:
            raise BlemishError(f"{path}: unclear whether the opaque part of its alpha channel is the defect. {ADVICE}")
        return Mask(found.marks, ALPHA, found.num_values)
    shown = image.copy()
    shown[~visible] = 0  # the colour of a transparent pixel has no meaning
    return _judged(shown, path)


def _judged(image: Image, path: Path) -> Mask:
    values = distinct_values(image)
    brightest = image.max(axis=2) if image.ndim == 3 else image
    levels = _strength(distinct_values(brightest) if image.ndim == 3 else values)
    if len(levels) == 1 or _are_few_and_apart(levels):
        return Mask(brightest != 0, NOT_BLACK, len(values))
    if levels[0] > FAINT:
        raise BlemishError(f"{path}: not a mask by its values: nothing in it is black, so what is good? {ADVICE}")
    strength = _strength(brightest)
    if len(levels) > FEW and levels[0] == 0 and _fills_areas(strength):
        return Mask(brightest != 0, NOT_BLACK, len(values))
    marks = strength > _half_level(strength, path)
    _refuse_photograph(strength, marks, path)
    return Mask(marks, ABOVE, len(values))


def _strength(values: Image) -> Strength:
    scale = 1 if values.dtype == np.float32 else np.iinfo(values.dtype).max
    return values.astype(np.float32) * np.float32(255 / scale)


def _are_few_and_apart(levels: Strength) -> bool:
    """Whether the levels are free of compression artefacts: black and a few others, none close to another."""
    bright = levels[levels >= FAINT]
    return len(levels) <= FEW and levels[0] == 0 and bool((np.diff(bright) > NEAR).all())


def _fills_areas(strength: Strength) -> bool:
    """Whether most pixels, the faint ones too, equal their neighbours, as in a mask that numbers its shapes."""
    even = cv2.erode(strength, EDGE[:3, :3]) == cv2.dilate(strength, EDGE[:3, :3])
    marked = strength > 0
    return all(bool(even[part].mean() > 0.5) for part in (marked, marked & (strength < FAINT)) if part.any())


def _half_level(strength: Strength, path: Path) -> float:
    """Half of the value of the faintest shape; raises BlemishError where all values are nearly black."""
    brightest = float(strength.max())
    if brightest < FAINT:
        raise BlemishError(f"{path}: not a mask by its values: they are uneven and all nearly black. {ADVICE}")
    spread = cv2.dilate(strength, EDGE[:3, :3]) - cv2.erode(strength, EDGE[:3, :3])
    inner = np.sort(strength[(spread <= EVEN) & (strength >= FAINT)])
    lowest = inner[len(inner) // 200 + 4] if len(inner) > 9 else brightest
    return float(lowest) / 2


def _refuse_photograph(strength: Strength, marks: Marks, path: Path) -> None:
    """Raises BlemishError where the values away from edges are not those of a dark background and a few shapes."""
    drawn = marks.astype(np.uint8)
    inner = cv2.erode(drawn, EDGE) == cv2.dilate(drawn, EDGE)
    is_dark = strength[inner & ~marks] < FAINT / 2
    counts = np.bincount(np.round(strength[inner]).astype(int), minlength=256)
    wanted, covered = COVERED * counts.sum(), 0
    for _ in range(LEVELS):
        windows = np.convolve(counts, np.ones(WIDTH, int), "same")
        best = int(windows.argmax())
        covered += int(windows[best])
        counts[max(0, best - WIDTH // 2) : best + WIDTH // 2 + 1] = 0
    if covered < wanted or is_dark.sum() < max(COVERED * len(is_dark), BACKGROUND * marks.size):
        raise BlemishError(f"{path}: not a mask by its values: it has shades all over, as a photograph. {ADVICE}")
