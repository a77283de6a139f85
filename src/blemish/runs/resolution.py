"""The size at which a detector sees the images, where it is left open."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import median

from blemish.data.reading import FileReader
from blemish.types import Sample

SIZES = (256, 384)
"""Sides in pixels to choose from. A larger one needs more memory and time than it gains on most parts."""
ENOUGH = 7 / 6
"""How many times as long as the larger side that of the images has to be, so that it shows more than the smaller one.
"""
LOOKED_AT = 8
"""Good images whose size is looked at."""


def chosen_size(samples: Sequence[Sample], reader: FileReader) -> tuple[int, str]:
    """The side of the detector's input in pixels that suits images of the samples' size, and a sentence that says why.

    Small defects need the larger one, which takes about twice the time; images that are smaller gain nothing by it.
    """
    sizes = [
        opened.decoded.pixels.shape[:2]
        for sample in samples[:LOOKED_AT]
        if (opened := reader.open(sample, keep=True)).decoded
    ]
    side = median(sqrt(height * width) for height, width in sizes) if sizes else 0
    smaller, larger = SIZES
    if side < ENOUGH * larger:
        return smaller, f"size: {smaller}, since the images are {side:.0f} pixels high and wide on the average"
    reason = f"since the images are {side:.0f} pixels high and wide on the average"
    return larger, f"size: {larger}, {reason}; --size {smaller} takes half the time, --tile shows finer detail"
