"""Registration: rotates and shifts images so that their parts have the pose of the part in a reference image."""

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
from blemish.progress import Progress, no_progress, with_progress
from blemish.types import Sample, Size

logger = logging.getLogger("blemish")

Align = Literal["auto", "on", "off"]
SIDE, COARSE = 64, 32
"""Side in pixels of the square thumbnails that are registered, and that of the coarse search over every third angle."""
TURNS = 180
"""Angles of the reference, evenly over 360 degrees; a parabola through three of them gives the angle in between."""
NEAR, MOST = 0.98, 8
"""The fine search covers angles whose coarse correlation is at least NEAR of the highest one, at most MOST of them."""
BORDER = 2
"""Width in pixels of the frame whose median colour counts as the background."""
ROUNDS = 3
"""How many times the training images are registered to the reference and averaged into the next reference."""
LARGEST_SHARE = 0.3
"""Registration is used where it leaves at most this share of the difference from the mean image. The share is 0.02 to
0.12 for the synthetic parts that move, and 0.4 to 1.1 for textures and for parts that lie still."""
COMPARED = 24
"""Training images that the reference is made from, and held-out images that it is judged by, at most."""
Canvas = NDArray[np.float32]
"""(SIDE, SIDE, 3) RGB in [0, 1]: an image scaled to a longer side of SIDE, centred, padded by its background colour."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The pose of a part relative to the reference: a rotation about the image's centre, followed by a shift."""

    degrees: float
    """Counter-clockwise."""
    right: float
    down: float
    """As fractions of the image's longer side."""

    def warp(self, image: NDArray[Any]) -> NDArray[Any]:
        """The registered image, of (H, W) or (H, W, C): its part has the reference's pose; edges are mirrored.

        A repeated edge would show as streaks, and a constant colour as a step, which good images do not have.
        """
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return self._transform(image, flags=flags, borderMode=cv2.BORDER_REFLECT_101)

    def coverage(self, size: Size) -> NDArray[np.float32]:
        """(H, W) = `size`: the share of each pixel of the registered image that the image shows; 0 if it is filled."""
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(self._transform(np.ones(size, np.float32), flags=flags, borderValue=[0.0]), np.float32)

    def warp_back(self, registered: NDArray[Any], outside: float = 0) -> NDArray[Any]:
        """The inverse of `warp`, for an image or a map (H, W) or (H, W, C) of a registered image.

        Pixels that the registered image does not show get the value `outside`.
        """
        return self._transform(registered, flags=cv2.INTER_LINEAR, borderValue=[outside] * 4)

    def _transform(self, image: NDArray[Any], **options: Any) -> NDArray[Any]:
        height, width = image.shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), self.degrees, 1)
        matrix[:, 2] += np.array([self.right, self.down]) * max(height, width)
        return cv2.warpAffine(image, matrix, (width, height), **options)


@dataclass(frozen=True, slots=True)
class Alignment:
    """The reference image that all other images are registered to."""

    png: bytes
    """The mean of registered good images, as a colour PNG of SIDE x SIDE pixels."""

    def __post_init__(self) -> None:
        _decoded(self.png)  # raises BlemishError where it is not an image

    def placement(self, image: Image) -> Placement:
        """The rotation and shift at which the image correlates best with the reference.

        All angles and shifts are searched. The result is exact to less than a degree, and to less than 1/64 of the
        image's longer side.
        """
        return _find(to_canvas(image), _rotated_spectra(self.png))


def choose_alignment(
    samples: Sequence[Sample],
    held_out: Sequence[Sample],
    asked: Align = "auto",
    read: Callable[[Sample], Image] = lambda sample: read_image(sample.image),
    progress: Progress = no_progress,
) -> tuple[Alignment | None, str]:
    """The reference to register images to, or None where images are not registered; and the reason in words.

    With "auto", images are registered where they have a uniform background, and where registration removes most of
    the difference of held-out good images from the mean. Samples for which `read` raises BlemishError are skipped.
    """
    canvases = [] if asked == "off" else _canvases(samples, read, progress)
    if asked == "off" or (asked == "on" and canvases):
        return _mean_reference(canvases) if canvases else None, f"align: {asked}, as requested"
    found, reason = _useful_reference(canvases, _canvases(held_out, read))
    reason = f"align: {'on' if found else 'off'}, since {reason}"
    logger.info("%s", reason)
    return found, reason


def _useful_reference(canvases: Sequence[Canvas], held_out: Sequence[Canvas]) -> tuple[Alignment | None, str]:
    """The reference, or None where registration does not help; and the reason."""
    if not canvases or not held_out:
        return None, "there are no validation images to decide by"
    if find_foreground(canvases).background is None:
        return None, "there is no background that a part could move on"
    reference = _mean_reference(canvases)
    before = _residual(_reference(np.mean(canvases, axis=0)), held_out)
    after = _residual(reference, _registered(held_out, reference))
    share = after / max(before, 1e-6)
    images = number_of(len(held_out), "held-out good image")
    reason = f"registration multiplies the difference of {images} from the mean by {share:.2f}"
    return reference if share < LARGEST_SHARE else None, reason


def _mean_reference(canvases: Sequence[Canvas]) -> Alignment:
    """The mean of the registered canvases. The first reference is the canvas whose part is closest to the centre."""
    reference = _reference(min(canvases, key=_eccentricity))
    for _ in range(ROUNDS):
        reference = _reference(np.mean(_registered(canvases, reference), axis=0))
    return reference


def _eccentricity(canvas: Canvas) -> float:
    """The distance in pixels of the part's centre of mass from the centre of the canvas."""
    energy = np.square(canvas - _background(canvas)).sum(2)
    axis = np.arange(SIDE) - (SIDE - 1) / 2
    return float(np.hypot((energy.sum(0) * axis).sum(), (energy.sum(1) * axis).sum()) / max(energy.sum(), 1e-6))


def _canvases(
    samples: Sequence[Sample], read: Callable[[Sample], Image], progress: Progress = no_progress
) -> list[Canvas]:
    """The canvases of up to COMPARED of the samples, evenly chosen, without those that cannot be read."""

    def found(sample: Sample) -> list[Canvas]:
        try:
            return [to_canvas(read(sample))]
        except BlemishError:
            return []

    chosen = samples[:: max(1, -(-len(samples) // COMPARED))]
    return [canvas for one in with_progress(map_ahead(found, chosen), len(chosen), progress) for canvas in one]


def _registered(canvases: Sequence[Canvas], reference: Alignment) -> list[Canvas]:
    spectra = _rotated_spectra(reference.png)
    return [_find(canvas, spectra).warp(canvas) for canvas in canvases]


def _residual(reference: Alignment, canvases: Sequence[Canvas]) -> float:
    """The mean of 1 - correlation with the reference: 0 where all canvases look like it."""
    signal = _signal(_decoded(reference.png))
    return 1 - float(np.mean([(_signal(canvas) * signal).sum() for canvas in canvases]))


def _reference(canvas: Canvas) -> Alignment:
    _, png = cv2.imencode(".png", np.round(255 * canvas[..., ::-1]).astype(np.uint8))
    return Alignment(png.tobytes())


@lru_cache(maxsize=2)
def _decoded(png: bytes) -> Canvas:
    return to_canvas(decode_image(png, Path("reference.png")))


@lru_cache(maxsize=2)
def _rotated_spectra(png: bytes) -> NDArray[np.complex64]:
    """(TURNS, SIDE, SIDE / 2 + 1, 3): the conjugate spectra of the reference, rotated by each of TURNS angles."""
    signal = _signal(_decoded(png))
    rotated = np.stack([_unit(Placement(turn * 360 / TURNS, 0, 0).warp_back(signal)) for turn in range(TURNS)])
    return np.asarray(np.fft.rfft2(rotated, axes=(1, 2)).conj(), np.complex64)


def _find(canvas: Canvas, spectra: NDArray[np.complex64]) -> Placement:
    """The angle and shift of the highest correlation: a coarse search, then a fine one near its peaks."""
    spectrum = np.fft.rfft2(_signal(canvas), axes=(0, 1)).astype(np.complex64)
    coarse = _correlations(_low_frequencies(spectrum), _low_frequencies(spectra[::3]), COARSE).max((1, 2))
    found = [_refined(spectrum, spectra, 3 * turn) for turn in _leading(coarse)]
    return max(found, key=lambda refined: refined[0])[1]


def _leading(heights: NDArray[np.float32]) -> list[int]:
    """Indices of the peaks of values on a circle that are about as high as the highest, the highest first.

    A part that is nearly symmetric under rotation has several.
    """
    is_high = heights >= NEAR * heights.max()
    is_peak = is_high & (heights >= np.roll(heights, 1)) & (heights >= np.roll(heights, -1))
    peaks = np.flatnonzero(is_peak)
    return peaks[np.argsort(-heights[peaks], kind="stable")][:MOST].tolist()  # type: ignore[no-any-return]


def _refined(spectrum: NDArray[np.complex64], spectra: NDArray[np.complex64], start: int) -> tuple[float, Placement]:
    """The highest correlation at the angles around number `start`, and its placement.

    Correlations are interpolated between pixels; otherwise shifts by whole pixels would have an advantage.
    """
    turns = start + np.arange(-5, 6)
    peaks = [_peak(correlation) for correlation in _correlations(spectrum, spectra[turns % TURNS], SIDE)]
    heights = np.array([height for height, _, _ in peaks])
    best = 1 + int(heights[1:-1].argmax())
    between, height = _vertex(heights[best - 1 : best + 2])
    right, down = (shift / SIDE - (shift > SIDE / 2) for shift in peaks[best][1:])
    return height, Placement(float(turns[best] + between) * 360 / TURNS, right, down)


def _peak(correlation: NDArray[np.float32]) -> tuple[float, float, float]:
    """The maximum of a correlation (SIDE, SIDE), interpolated between pixels: its height, and its column and row."""
    row, column = (int(place) for place in np.unravel_index(int(correlation.argmax()), correlation.shape))
    around = np.arange(-1, 2)
    down, height = _vertex(correlation[(row + around) % SIDE, column])
    right, other = _vertex(correlation[row, (column + around) % SIDE])
    return height + other - float(correlation[row, column]), column + right, row + down


def _correlations(spectrum: NDArray[np.complex64], spectra: NDArray[np.complex64], side: int) -> NDArray[np.float32]:
    """(angles, side, side): the correlation at each shift, summed over the colours."""
    products = np.einsum("yxc,tyxc->tyx", spectrum, spectra)
    return np.asarray(np.fft.irfft2(products, s=(side, side), axes=(1, 2)), np.float32)


def _low_frequencies(spectra: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """The spectra of the same images at COARSE pixels."""
    half = COARSE // 2
    rows = np.r_[:half, SIDE - half : SIDE]
    return spectra[..., rows, : half + 1, :]


def _vertex(values: NDArray[Any]) -> tuple[float, float]:
    """The vertex (place, height) of the parabola through three values at -1, 0 and 1, the middle one the highest."""
    before, here, after = values.tolist()
    curvature = before - 2 * here + after
    place = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
    return place, here - 0.25 * (before - after) * place


def to_canvas(image: Image) -> Canvas:
    """The image scaled to a longer side of SIDE and centred on its background colour: (SIDE, SIDE, 3) in [0, 1]."""
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    reduced = cv2.resize(image, size, interpolation=cv2.INTER_AREA).reshape(*size[::-1], -1)
    small = np.ascontiguousarray(to_batch([reduced])[0].transpose(1, 2, 0))
    exact = np.array([width, height]) * scale / size  # undoes the rounding of the size
    matrix = np.column_stack([np.diag(exact), (SIDE - 1) / 2 - exact * (np.array(size) - 1) / 2])
    around = _background(small).tolist()
    return np.asarray(cv2.warpAffine(small, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderValue=around))


def _background(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """(3,): the median colour along the edge of an image (H, W, 3)."""
    inner = np.zeros(image.shape[:2], bool)
    inner[BORDER:-BORDER, BORDER:-BORDER] = True
    return np.asarray(np.median(image[~inner], axis=0), np.float32)


def _signal(canvas: Canvas) -> Canvas:
    """What is correlated: the difference of a canvas from its background within a disc, scaled to norm 1."""
    return _unit((canvas - _background(canvas)) * _disc())


def _unit(signal: Canvas) -> Canvas:
    """The signal scaled to norm 1: interpolation during a rotation blurs it, which lowers its norm."""
    return signal / np.float32(max(float(np.sqrt(np.square(signal).sum())), 1e-6))


@cache
def _disc() -> Canvas:
    """(SIDE, SIDE, 1): 1 within the canvas' inscribed circle, 0 outside: a rotation moves nothing out of the circle."""
    axis = (np.arange(SIDE) - (SIDE - 1) / 2) / (SIDE / 2)
    radius = np.hypot(axis[:, None], axis)
    return np.asarray(np.clip((1.05 - radius) / 0.1, 0, 1), np.float32)[..., None]
