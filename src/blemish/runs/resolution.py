"""The size of a detector's input, where it is left open: by the good images' size and shape, and the time for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod, sqrt
from statistics import median

from blemish.data.reading import FileReader
from blemish.imaging import tiles
from blemish.imaging.input_size import AnySize, Sides, named
from blemish.progress import Progress, no_progress, with_progress
from blemish.runs.config import RunConfig
from blemish.types import Sample, Size

SIZES = (256, 384)
"""Sides in pixels to choose from. A larger one needs more memory and time than it gains on most parts."""
SMALLER = (128, 192)
"""Sides that are chosen only where the larger ones would take too long."""
ENOUGH = 7 / 6
"""How many times as long as the larger side that of the images has to be, so that it shows more than the smaller one.
"""
LONG = 2
"""Images that are more times as long as high, or as high as long, are offered an input of their shape."""
OVERLAP = RunConfig.model_fields["overlap"].default
LOOKED_AT = 8
"""Good images whose size is looked at."""


@dataclass(frozen=True, slots=True)
class Suited:
    """The side of a square that was chosen, and why."""

    size: int
    reason: str = ""
    others: str = ""
    """What other sizes cost and show."""
    is_fast: bool = True
    """Whether it takes at most the time that was asked for."""

    def __str__(self) -> str:
        chosen = ", ".join(filter(None, (f"size: {self.size}", self.reason)))
        return "; ".join(filter(None, (chosen, self.others)))


def sizes_of(samples: Sequence[Sample], reader: FileReader) -> list[Size]:
    """(height, width) of some of the images; the reader keeps them for the next call."""
    opened = (reader.open(sample, keep=True) for sample in samples[:LOOKED_AT])
    return [found.decoded.pixels.shape[:2] for found in opened if found.decoded]


def suited(images: Sequence[Size], *, only_square: bool = False) -> Suited:
    """The square of one of the sides in SIZES that suits images of these sizes, and what else there is.

    Small defects need the larger side, which takes about twice the time; images that are smaller gain nothing by it.
    With `only_square` no rectangle is offered.
    """
    smaller, larger = SIZES[0], SIZES[-1]
    if not images:
        return Suited(smaller)
    height, width = (median(lengths) for lengths in zip(*images, strict=True))
    side = larger if median(map(sqrt, map(prod, images))) >= ENOUGH * larger else smaller
    reason = f"since the images are {height:.0f} pixels high and {width:.0f} wide"
    others = []
    if side > smaller:
        times = len(tiles.corners((round(height), round(width)), side, OVERLAP))
        others.append(f"--size {smaller} takes half the time")
        others.append(f"--tile {side} shows finer detail in {times} times the time")
    if not only_square and (ratio := _ratio_of_long(images)) != 1:
        others.append(f"--size {shaped(side, ratio)} keeps their shape")
    return Suited(side, reason, ", ".join(others))


def shaped(side: int, ratio: float) -> AnySize:
    """The input with the area of a square of this side that is `ratio` times as wide as high, as far as sides allow."""
    allowed = Sides()

    def rounded(length: float) -> int:
        return min(allowed.le, max(allowed.ge, round(length / allowed.multiple_of) * allowed.multiple_of))

    return named((rounded(side / sqrt(ratio)), rounded(side * sqrt(ratio))))


def smaller_sides(side: int) -> list[int]:
    """The sides to choose from that take clearly less time than this one, and the side itself; the smallest first."""
    return [*(smaller for smaller in (*SMALLER, *SIZES) if smaller**2 < 0.8 * side**2), side]


def within(wished: Suited, seconds: Callable[[int], float], most: float, progress: Progress = no_progress) -> Suited:
    """The largest size up to the wished one that takes at most so many seconds per image; the smallest if none does.

    `seconds` measures the time that an image takes at a size.
    """
    sizes = smaller_sides(wished.size)
    measured = {size: seconds(size) for size in with_progress(sizes, len(sizes), progress, "sizes")}
    fitting = [size for size, taken in measured.items() if taken <= most]
    chosen = fitting[-1] if fitting else next(iter(measured))
    if not fitting:
        why = "the smallest and still too slow"
    elif chosen != wished.size:
        why = "the largest that is fast enough"
    else:
        why = wished.reason or "which is fast enough"
    others = [f"{size} takes {_milliseconds(taken)}" for size, taken in measured.items() if size != chosen]
    reason = f"{why}: {_milliseconds(measured[chosen])} per image, where {_milliseconds(most)} are allowed"
    return Suited(chosen, reason, ", ".join(others), bool(fitting))


def _ratio_of_long(images: Sequence[Size]) -> float:
    """Width / height of images that are all long, in one direction; else 1."""
    ratios = [width / height for height, width in images]
    return median(ratios) if min(ratios) > LONG or max(ratios) < 1 / LONG else 1.0


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"
