"""Parts that lie turned or shifted, brought to where the part of a reference picture lies."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.errors import BlemishError, number_of
from blemish.imaging.foreground import find_foreground
from blemish.imaging.formats import Image
from blemish.imaging.pixels import to_batch
from blemish.imaging.read import decode_image, read_image
from blemish.parallel import map_ahead
from blemish.progress import Progress, no_progress, told
from blemish.types import Sample

logger = logging.getLogger("blemish")

Align = Literal["auto", "on", "off"]
SIDE, COARSE = 64, 32
"""Of the squares that pictures are compared on: `COARSE` by their low frequencies at every third turn."""
TURNS = 180
"""That a reference is looked at under; between them goes a parabola."""
NEAR, MOST = 0.98, 8
"""Of the highest coarse correlation, what another turn needs to be looked at finely, and how many are at most."""
BORDER = 2
"""Pixels along the edge whose median is taken for the background."""
ROUNDS = 3
"""How often the reference is averaged anew; a part that was badly placed by the first is placed well by the next."""
LARGEST_SHARE = 0.3
"""Of what differs from the mean, that may be left once straightened. It is 0.02 to 0.12 of built-in parts that move, of
textures and of parts that lie still 0.4 to 1.1."""
COMPARED = 24
"""Training images, and held-out ones, that a reference is learned from and judged by."""
Canvas = NDArray[np.float32]
"""(SIDE, SIDE, 3) in [0, 1]: a picture, its longer side being SIDE, with its background around it."""


@dataclass(frozen=True, slots=True)
class Placement:
    """How a part lies, seen from the reference: turned about the picture's centre, then shifted."""

    degrees: float
    """Counter-clockwise."""
    right: float
    down: float
    """As parts of the picture's longer side."""

    def straightened(self, picture: NDArray[Any]) -> NDArray[Any]:
        """The picture (H, W) or (H, W, C), its part where the reference has it; beyond its edge it is mirrored.

        An edge repeated outwards would be streaks that no good picture has at this turn, and a colour a step.
        """
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return self._warped(picture, flags=flags, borderMode=cv2.BORDER_REFLECT_101)

    def laid(self, straight: NDArray[Any], beyond: float = 0) -> NDArray[Any]:
        """The reverse: what belongs to the reference's place, a map say, where the part lies.

        Places that the straightened picture did not hold get the value `beyond`.
        """
        return self._warped(straight, flags=cv2.INTER_LINEAR, borderValue=[beyond] * 4)

    def _warped(self, picture: NDArray[Any], **how: Any) -> NDArray[Any]:
        height, width = picture.shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), self.degrees, 1)
        matrix[:, 2] += np.array([self.right, self.down]) * max(height, width)
        return cv2.warpAffine(picture, matrix, (width, height), **how)


@dataclass(frozen=True, slots=True)
class Alignment:
    """The picture that others are turned and shifted to look like."""

    png: bytes
    """The reference, the mean of good pictures, as a PNG of SIDE x SIDE pixels in colour."""

    def __post_init__(self) -> None:
        _decoded(self.png)  # raises BlemishError for what is no picture

    def placement(self, image: Image) -> Placement:
        """How the part in an image lies: where it correlates best with the reference, over all turns and shifts.

        To a fraction of a degree, and of 1/64 of the image.
        """
        return _find(to_canvas(image), _turned(self.png))


def choose_alignment(
    samples: Sequence[Sample],
    held_out: Sequence[Sample],
    asked: Align = "auto",
    read: Callable[[Sample], Image] = lambda sample: read_image(sample.image),
    progress: Progress = no_progress,
) -> tuple[Alignment | None, str]:
    """What good samples are turned and shifted to look like, None where they are taken as they lie; and why so.

    By itself it is done where there is a background for parts to move on, and where it takes most of what held-out
    good samples differ by from the mean. Samples that `read` raises BlemishError for are passed over.
    """
    canvases = [] if asked == "off" else _canvases(samples, read, progress)
    if asked == "off" or (asked == "on" and canvases):
        return _learned(canvases) if canvases else None, f"align: {asked}, as asked for"
    found, reason = _judged(canvases, _canvases(held_out, read))
    reason = f"align: {'on' if found else 'off'}, since {reason}"
    logger.info("%s", reason)
    return found, reason


def _judged(canvases: Sequence[Canvas], held_out: Sequence[Canvas]) -> tuple[Alignment | None, str]:
    if not canvases or not held_out:
        return None, "there are no validation images to choose by"
    if find_foreground(canvases).background is None:
        return None, "there is no background that a part could move on"
    reference = _learned(canvases)
    before = _residual(_reference(np.mean(canvases, axis=0)), held_out)
    after = _residual(reference, _straightened(held_out, reference))
    share = after / max(before, 1e-6)
    differ = "differs" if len(held_out) == 1 else "differ"
    reason = f"{number_of(len(held_out), 'held-out good image')} then {differ} from the mean {share:.2f} times as much"
    return reference if share < LARGEST_SHARE else None, reason


def _learned(canvases: Sequence[Canvas]) -> Alignment:
    """The mean of the canvases, each brought to look like the mean of before; the first is the most central one."""
    reference = _reference(min(canvases, key=_eccentricity))
    for _ in range(ROUNDS):
        reference = _reference(np.mean(_straightened(canvases, reference), axis=0))
    return reference


def _eccentricity(canvas: Canvas) -> float:
    """How far from the middle the part is, in pixels."""
    energy = np.square(canvas - _background(canvas)).sum(2)
    axis = np.arange(SIDE) - (SIDE - 1) / 2
    return float(np.hypot((energy.sum(0) * axis).sum(), (energy.sum(1) * axis).sum()) / max(energy.sum(), 1e-6))


def _canvases(
    samples: Sequence[Sample], read: Callable[[Sample], Image], progress: Progress = no_progress
) -> list[Canvas]:
    """Of up to COMPARED of the samples, evenly among them; without those that cannot be read."""

    def found(sample: Sample) -> list[Canvas]:
        try:
            return [to_canvas(read(sample))]
        except BlemishError:
            return []

    chosen = samples[:: max(1, -(-len(samples) // COMPARED))]
    return [canvas for one in told(map_ahead(found, chosen), len(chosen), progress) for canvas in one]


def _straightened(canvases: Sequence[Canvas], reference: Alignment) -> list[Canvas]:
    turned = _turned(reference.png)
    return [_find(one, turned).straightened(one) for one in canvases]


def _residual(reference: Alignment, canvases: Sequence[Canvas]) -> float:
    """Mean of 1 - correlation: 0 where all look like the reference."""
    signal = _signal(_decoded(reference.png))
    return 1 - float(np.mean([(_signal(one) * signal).sum() for one in canvases]))


def _reference(canvas: Canvas) -> Alignment:
    _, png = cv2.imencode(".png", np.round(255 * canvas[..., ::-1]).astype(np.uint8))
    return Alignment(png.tobytes())


@lru_cache(maxsize=2)
def _decoded(png: bytes) -> Canvas:
    return to_canvas(decode_image(png, Path("reference.png")))


@lru_cache(maxsize=2)
def _turned(png: bytes) -> NDArray[np.complex64]:
    """(TURNS, SIDE, SIDE / 2 + 1, 3): the conjugate spectra of the reference, turned once around."""
    signal = _signal(_decoded(png))
    turned = np.stack([_unit(Placement(turn * 360 / TURNS, 0, 0).laid(signal)) for turn in range(TURNS)])
    return np.asarray(np.fft.rfft2(turned, axes=(1, 2)).conj(), np.complex64)


def _find(canvas: Canvas, turned: NDArray[np.complex64]) -> Placement:
    """The turn and shift of the highest correlation: coarsely over all turns, then finely around those that lead."""
    spectrum = np.fft.rfft2(_signal(canvas), axes=(0, 1)).astype(np.complex64)
    coarse = _correlations(_low(spectrum), _low(turned[::3]), COARSE).max((1, 2))
    found = [_refined(spectrum, turned, 3 * turn) for turn in _leading(coarse)]
    return max(found, key=lambda one: one[0])[1]


def _leading(heights: NDArray[np.float32]) -> list[int]:
    """The highest of a circle of values, and other peaks about as high: a part that almost repeats has several."""
    is_peak = (heights >= np.roll(heights, 1)) & (heights >= np.roll(heights, -1)) & (heights >= NEAR * heights.max())
    peaks = np.flatnonzero(is_peak)
    return peaks[np.argsort(-heights[peaks], kind="stable")][:MOST].tolist()  # type: ignore[no-any-return]


def _refined(spectrum: NDArray[np.complex64], turned: NDArray[np.complex64], start: int) -> tuple[float, Placement]:
    """The highest correlation around a turn, somewhat farther than the next coarse ones, and where it is.

    Heights are those between pixels: on the pixels' grid a turn would be higher for lying on it.
    """
    turns = start + np.arange(-5, 6)
    peaks = [_peak(one) for one in _correlations(spectrum, turned[turns % TURNS], SIDE)]
    heights = np.array([height for height, _, _ in peaks])
    best = 1 + int(heights[1:-1].argmax())
    between, height = _vertex(heights[best - 1 : best + 2])
    right, down = (shift / SIDE - (shift > SIDE / 2) for shift in peaks[best][1:])
    return height, Placement(float(turns[best] + between) * 360 / TURNS, right, down)


def _peak(correlation: NDArray[np.float32]) -> tuple[float, float, float]:
    """Height of the maximum, and how far to the right and down it is, in pixels and between them."""
    row, column = (int(place) for place in np.unravel_index(int(correlation.argmax()), correlation.shape))
    around = np.arange(-1, 2)
    down, height = _vertex(correlation[(row + around) % SIDE, column])
    right, other = _vertex(correlation[row, (column + around) % SIDE])
    return height + other - float(correlation[row, column]), column + right, row + down


def _correlations(spectrum: NDArray[np.complex64], turned: NDArray[np.complex64], side: int) -> NDArray[np.float32]:
    """(turns, side, side): the correlation at each shift, summed over the colours."""
    products = np.einsum("yxc,tyxc->tyx", spectrum, turned)
    return np.asarray(np.fft.irfft2(products, s=(side, side), axes=(1, 2)), np.float32)


def _low(spectra: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """The low frequencies, those of pictures of COARSE pixels."""
    half = COARSE // 2
    rows = np.r_[:half, SIDE - half : SIDE]
    return spectra[..., rows, : half + 1, :]


def _vertex(values: NDArray[Any]) -> tuple[float, float]:
    """Where the parabola through three values, the middle one being the highest, has its vertex, and how high it is."""
    before, here, after = values.tolist()
    curvature = before - 2 * here + after
    place = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
    return place, here - 0.25 * (before - after) * place


def to_canvas(picture: Image) -> Canvas:
    """The picture as pictures are compared."""
    height, width = picture.shape[:2]
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    reduced = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).reshape(*size[::-1], -1)
    small = np.ascontiguousarray(to_batch([reduced])[0].transpose(1, 2, 0))
    exact = np.array([width, height]) * scale / size  # what rounding took; the middle comes to lie in the middle
    matrix = np.column_stack([np.diag(exact), (SIDE - 1) / 2 - exact * (np.array(size) - 1) / 2])
    around = _background(small).tolist()
    return np.asarray(cv2.warpAffine(small, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderValue=around))


def _background(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """(3,): the median colour along the edge."""
    inner = np.zeros(picture.shape[:2], bool)
    inner[BORDER:-BORDER, BORDER:-BORDER] = True
    return np.asarray(np.median(picture[~inner], axis=0), np.float32)


def _signal(canvas: Canvas) -> Canvas:
    """What is compared: how a canvas differs from its background within a disc, of unit norm."""
    return _unit((canvas - _background(canvas)) * _disc())


def _unit(signal: Canvas) -> Canvas:
    """Of unit norm. A turn blurs by as much as it is off the grid, and what is blurred is smaller."""
    return signal / np.float32(max(float(np.sqrt(np.square(signal).sum())), 1e-6))


@cache
def _disc() -> Canvas:
    """(SIDE, SIDE, 1): 1 within the canvas' inscribed circle, 0 beyond it, so that a turn takes nothing out of view."""
    axis = (np.arange(SIDE) - (SIDE - 1) / 2) / (SIDE / 2)
    radius = np.hypot(axis[:, None], axis)
    return np.asarray(np.clip((1.05 - radius) / 0.1, 0, 1), np.float32)[..., None]
