"""From a file to the pixels that it marks: a mask is understood by its values, whatever kind of file it is in.

What is not black is marked. Where a lossy file or smooth edges left values between black and the shapes, what is nearer
to the shapes is. Where all visible pixels have one colour, the shape is in the alpha channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.errors import BlemishError
from blemish.imaging.contents import distinct
from blemish.imaging.formats import Image
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.pixels import white
from blemish.imaging.read import decode_file, read_content
from blemish.types import Size

NOT_BLACK, ABOVE, ALPHA = "not black", "above half of the faintest shape", "opaque"
"""The rules by which a mask marks."""
FEW = 8
"""Values that a mask may have and count as drawn, not as left by compression."""
FAINT = 48
"""Of 255: below it a value is noise where there are brighter shapes, unless it fills areas evenly."""
NEAR = 3
"""Of 255: values no further apart are those of one shape after compression."""
EVEN = 6
"""Of 255: what neighbours within a shape differ by at most."""
LEVELS, WIDTH, COVERED = 4, 9, 0.92
"""So many levels, each so wide, hold so much of a mask away from its edges. A photograph has shades in between."""
BACKGROUND = 0.02
"""So much of a mask with uneven values is background at least, away from edges."""
EDGE = np.ones((5, 5), np.uint8)
"""What is nearer than this to an edge is part of it."""
ADVICE = "Save it in black (good) and white (defect), as PNG."
Marks = NDArray[np.bool_]
Strength = NDArray[np.float32]
"""(H, W) from 0 to 255: how far each pixel is from black, which is its brightest channel."""


@dataclass(frozen=True, slots=True)
class Mask:
    """What a file marks, and how that was understood."""

    marks: Marks
    """(H, W): True where a pixel is anomalous."""
    rule: str
    """NOT_BLACK, ABOVE or ALPHA."""
    num_values: int
    """Different values of the pixels, or of the alpha channel where that counts."""


@dataclass(frozen=True, slots=True)
class PackedMarks:
    """What a mask marks, a bit for each pixel."""

    bits: NDArray[np.uint8]
    shape: Size

    @classmethod
    def pack(cls, marks: Marks) -> PackedMarks:
        """Packs marks (H, W)."""
        return cls(np.packbits(marks), (marks.shape[0], marks.shape[1]))

    def unpack(self) -> Marks:
        """(H, W): True where a pixel is marked."""
        height, width = self.shape
        return np.unpackbits(self.bits, count=height * width).view(np.bool_).reshape(self.shape)


def read_mask(path: Path, max_pixels: int = MAX_PIXELS) -> Marks:
    """(H, W): True where the mask marks an anomalous pixel; see `understand_mask`."""
    return understand_mask(path, max_pixels).marks


def understand_mask(path: Path, max_pixels: int = MAX_PIXELS, data: bytes | None = None) -> Mask:
    """What the file at `path` marks, whose content may be given as `data`.

    Raises BlemishError where it cannot be read, or its values do not tell.
    """
    data = read_content(path, max_pixels) if data is None else data
    decoded = decode_file(data, path, max_pixels)
    image, alpha = decoded.pixels, _alpha(data) if decoded.has_alpha else None
    if alpha is None or alpha.min() == alpha.max():
        return _judged(image, path)
    if alpha.shape != image.shape[:2]:
        raise BlemishError(f"{path}: its alpha channel is turned, by EXIF, and cannot be told to fit. {ADVICE}")
    return _with_alpha(image, alpha, path)


def _alpha(data: bytes) -> Image | None:
    """(H, W): the alpha channel; None where the decoder gives none."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return image[:, :, 3] if image is not None and image.ndim == 3 and image.shape[2] == 4 else None


def _with_alpha(image: Image, alpha: Image, path: Path) -> Mask:
    visible = alpha > 0
    colours = image[visible]
    if (colours == colours[0]).all():
        found = _judged(alpha, path)
        if found.marks.mean() > 0.5:
            raise BlemishError(f"{path}: cannot be told whether what its alpha channel shows is the defect. {ADVICE}")
        return Mask(found.marks, ALPHA, found.num_values)
    shown = image.copy()
    shown[~visible] = 0  # a colour that is not seen says nothing
    return _judged(shown, path)


def _judged(image: Image, path: Path) -> Mask:
    values = distinct(image)
    brightest = image.max(axis=2) if image.ndim == 3 else image
    levels = _strength(distinct(brightest) if image.ndim == 3 else values)
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
    return values.astype(np.float32) * np.float32(255 / white(values.dtype))


def _are_few_and_apart(levels: Strength) -> bool:
    """Whether each of the levels is meant: black and a few more, none so near to another as compression leaves them."""
    bright = levels[levels >= FAINT]
    return len(levels) <= FEW and levels[0] == 0 and bool((np.diff(bright) > NEAR).all())


def _fills_areas(strength: Strength) -> bool:
    """Whether values are mostly equal to those around, the faint ones too, such as numbers of shapes."""
    even = cv2.erode(strength, EDGE[:3, :3]) == cv2.dilate(strength, EDGE[:3, :3])
    marked = strength > 0
    return all(bool(even[part].mean() > 0.5) for part in (marked, marked & (strength < FAINT)) if part.any())


def _half_level(strength: Strength, path: Path) -> float:
    """Half of the level of the faintest shape; raises BlemishError where there is no shape that stands out."""
    brightest = float(strength.max())
    if brightest < FAINT:
        raise BlemishError(f"{path}: not a mask by its values: they are uneven and all nearly black. {ADVICE}")
    spread = cv2.dilate(strength, EDGE[:3, :3]) - cv2.erode(strength, EDGE[:3, :3])
    inner = np.sort(strength[(spread <= EVEN) & (strength >= FAINT)])
    lowest = inner[len(inner) // 200 + 4] if len(inner) > 9 else brightest
    return float(lowest) / 2


def _refuse_photograph(strength: Strength, marks: Marks, path: Path) -> None:
    """Raises BlemishError where the values away from edges are not those of a background and a few shapes."""
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
