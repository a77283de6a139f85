"""Reads the mask of an image, whatever it is made of: a file judged by its values, several files, or runs of pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from blemish.errors import BlemishError
from blemish.imaging.formats import Image
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.masks import Marks, Mask, understand_mask
from blemish.imaging.read import decode_image, read_content
from blemish.types import MaskFiles, MaskRuns, MaskSource, Saturation

NOT_ZERO, RUNS = "not 0", "in a run"
"""Values of `Mask.rule` for masks that their data set defines."""
Content = Callable[[Path], bytes]


def marks_of(mask: MaskSource, max_pixels: int = MAX_PIXELS) -> Marks:
    """(H, W): True where the mask marks a pixel as anomalous. Raises BlemishError as `understand_source` does."""
    return understand_source(mask, max_pixels).marks


def understand_source(mask: MaskSource, max_pixels: int = MAX_PIXELS, content: Content | None = None) -> Mask:
    """Reads a mask: the pixels that it marks, and by which rule. `content` reads a file in place of the usual way.

    Raises BlemishError where a file cannot be read, its values are not those of a mask, files differ in size, or runs
    leave the image.
    """
    if isinstance(mask, MaskRuns):
        return Mask(_marks_of_runs(mask), RUNS, 2)
    read = content or (lambda path: read_content(path, max_pixels))
    if isinstance(mask, Path):
        return understand_mask(mask, max_pixels, read(mask))
    images = [decode_image(read(path), path, max_pixels) for path in mask.files]
    parts = [_not_zero(image) for image in images]
    _refuse_other_sizes(parts, mask.files)
    for image, path in zip(images, mask.files, strict=True):
        if mask.saturations:
            _saturation_of(image, path, mask.saturations)
    return Mask(np.logical_or.reduce(parts), NOT_ZERO, max(len(np.unique(image)) for image in images))


def read_defects(mask: MaskFiles, max_pixels: int = MAX_PIXELS) -> tuple[list[Marks], list[float]]:
    """The marks (H, W) of each defect, and its saturation area: the number of its pixels that are enough to be found.

    Raises BlemishError where a file marks nothing, holds several defects, or one of a value without a saturation.
    """
    images = [decode_image(read_content(path, max_pixels), path, max_pixels) for path in mask.files]
    marks = [_not_zero(image) for image in images]
    _refuse_other_sizes(marks, mask.files)
    found = [_saturation_of(image, path, mask.saturations) for image, path in zip(images, mask.files, strict=True)]
    areas = [saturation_area(one, int(part.sum())) for one, part in zip(found, marks, strict=True)]
    return marks, areas


def _saturation_of(image: Image, path: Path, saturations: Sequence[Saturation]) -> Saturation:
    """The saturation of the defect that a file marks by its value."""
    values = np.unique(image[image > 0]).tolist()
    fitting = [one for one in saturations if [one.pixel_value] == values]
    if not fitting:
        allowed = ", ".join(str(one.pixel_value) for one in saturations)
        raise BlemishError(f"{path}: has the values {_few(values)}; one of those in defects_config.json: {allowed}.")
    return fitting[0]


def saturation_area(saturation: Saturation, area: int) -> float:
    """The saturation area of a defect of `area` pixels as MVTec LOCO defines it; at least one pixel."""
    found = int(saturation.threshold * area) if saturation.relative else min(saturation.threshold, area)
    return float(max(1, min(found, area)))


def marks_of_pairs(pairs: Sequence[int], num_pixels: int, first: int = 1) -> Marks:
    """(num_pixels,): True in the runs, given as first pixel and length in turn; the first pixel of all is `first`.

    Raises ValueError where a length is missing, or a run leaves the pixels.
    """
    starts, lengths = np.asarray(pairs[::2], np.int64) - first, np.asarray(pairs[1::2], np.int64)
    if len(starts) != len(lengths):
        raise ValueError("the last run has no length")
    if (starts < 0).any() or (lengths < 1).any() or (starts + lengths > num_pixels).any():
        raise ValueError("a run leaves the image")
    steps = np.zeros(num_pixels + 1, np.int64)
    np.add.at(steps, starts, 1)
    np.add.at(steps, starts + lengths, -1)
    return np.cumsum(steps[:-1]) > 0


def _marks_of_runs(mask: MaskRuns) -> Marks:
    height, width = mask.shape
    found = np.zeros(height * width, bool)
    for text in mask.runs:
        try:
            found |= marks_of_pairs([int(word) for word in text.split()], height * width)
        except (ValueError, OverflowError) as error:
            raise BlemishError(
                f"{mask.table}: the runs {text[:40]!r} are not those of an image of {height}x{width} ({error})."
            ) from None
    return found.reshape(width, height).T.copy()


def _not_zero(image: Image) -> Marks:
    return np.any(image != 0, axis=2) if image.ndim == 3 else np.asarray(image != 0)


def _few(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "") or "0 alone"


def _refuse_other_sizes(parts: Sequence[Marks], paths: Sequence[Path]) -> None:
    for part, path in zip(parts, paths, strict=True):
        if part.shape != parts[0].shape:
            sizes = f"{part.shape[0]}x{part.shape[1]}, that of {paths[0].name} {parts[0].shape[0]}x{parts[0].shape[1]}"
            raise BlemishError(f"{path}: the mask is {sizes}. All masks of an image have its size.")
