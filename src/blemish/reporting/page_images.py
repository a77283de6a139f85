"""The images of a page as data URLs, at the largest display size that fits a budget of bytes."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.imaging.formats.png import SIGNATURE
from blemish.imaging.pixels import thumbnail
from blemish.imaging.thumbnails import decoded, small_map
from blemish.inference.previews import Preview
from blemish.parallel import map_ahead
from blemish.reporting.read_runs import Run

BUDGET = 7 << 20
"""Bytes for up to NUM_BUDGETED images, before base64 adds a third; it grows in proportion with more images."""
NUM_BUDGETED = 500
SIZES = ((320, 160, 80), (320, 128, 75), (256, 128, 72), (224, 112, 68), (192, 96, 65), (144, 72, 60), (96, 48, 55))
"""Display sizes, the largest first: (longer side of images, longer side of maps, WebP quality of images)."""
SAMPLED = 24
"""Number of previews from which the bytes at a display size are estimated."""


@dataclass(frozen=True, slots=True)
class ImageIndices:
    """The indices of one image's files in `PageImages.addresses`; None for a file that does not exist."""

    picture: int | None
    map: int | None
    reconstruction: int | None


@dataclass(frozen=True, slots=True)
class PageImages:
    """All images of a page, without duplicates."""

    addresses: list[str]
    """data: URLs."""
    shown: dict[tuple[str, str, str], ImageIndices] = field(default_factory=dict)
    """(run's label, category, path) -> its indices."""
    ranges: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    """(run's label, category) -> the map values that black and white represent."""
    display: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    """(run's label, category) -> the map values of the darkest and the brightest colour."""


def make_page_images(runs: Sequence[Run]) -> PageImages:
    """The images of all runs, at the largest display size that fits the budget, otherwise at the smallest."""
    previews = [shown for run in runs for part in run.parts for shown in part.report_data.previews]
    images = {
        (part.evaluation.category, shown.path)
        for run in runs
        for part in run.parts
        for shown in part.report_data.previews
    }
    budget = BUDGET * max(1.0, len(images) / NUM_BUDGETED)
    for size in SIZES:
        if _estimate(previews, len(images), size) > budget and size != SIZES[-1]:
            continue
        page_images, num_bytes = _album(runs, size)
        if num_bytes <= budget or size == SIZES[-1]:
            break
    return page_images


def maps_of(previews: Sequence[Preview]) -> list[NDArray[np.float32]]:
    """The maps of the previews that have one."""
    return [shown.map for shown in previews if shown.map is not None]


def value_range(maps: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """The lowest and the highest value of the maps; always different."""
    if not maps:
        return 0.0, 1.0
    low, high = min(float(m.min()) for m in maps), max(float(m.max()) for m in maps)
    return low, high if high > low else low + 1.0


def colour_range(maps: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """The median and the 99.8 % quantile of the maps, so that good images stay dark; always different."""
    if not maps:
        return 0.0, 1.0
    low, high = (float(value) for value in np.quantile(np.concatenate([m.ravel() for m in maps]), [0.5, 0.998]))
    return (low, high) if high > low else value_range(maps)


def _estimate(previews: Sequence[Preview], num_images: int, size: tuple[int, int, int]) -> float:
    """The estimated bytes of all images at a display size."""
    some = previews[:: max(1, len(previews) // SAMPLED)]
    if not some:
        return 0
    low, high = value_range(maps_of(some))
    images = float(np.sum([len(_image_file(s.picture, size)) for s in some if s.picture])) / len(some)
    rebuilt = float(np.sum([len(_image_file(s.reconstruction, size)) for s in some if s.reconstruction])) / len(some)
    maps = float(np.sum([len(_map(values, size[1], low, high)) for values in maps_of(some)])) / len(some)
    return images * num_images + (rebuilt + maps) * len(previews)


def _album(runs: Sequence[Run], size: tuple[int, int, int]) -> tuple[PageImages, int]:
    """The images at one display size, and their bytes."""
    page_images, jobs = PageImages([]), _Jobs()
    for run in runs:
        for part in run.parts:
            key, previews = (run.label, part.evaluation.category), part.report_data.previews
            low, high = page_images.ranges[key] = value_range(maps_of(previews))
            page_images.display[key] = colour_range(maps_of(previews))
            for shown in previews:
                page_images.shown[*key, shown.path] = ImageIndices(
                    jobs.add_once(shown.picture, partial(_image_file, shown.picture, size)) if shown.picture else None,
                    jobs.add(partial(_map, shown.map, size[1], low, high)) if shown.map is not None else None,
                    jobs.add(partial(_image_file, shown.reconstruction, size)) if shown.reconstruction else None,
                )
    files = list(map_ahead(lambda job: job(), jobs.all))
    page_images.addresses.extend(map(_address, files))
    return page_images, sum(map(len, files))


class _Jobs:
    """Functions that create files, each with an index."""

    def __init__(self) -> None:
        self.all: list[Callable[[], bytes]] = []
        self._index_of: dict[bytes, int] = {}

    def add(self, job: Callable[[], bytes]) -> int:
        self.all.append(job)
        return len(self.all) - 1

    def add_once(self, content: bytes, job: Callable[[], bytes]) -> int:
        """The index of the file made from this content; several runs may have stored the same image."""
        if content not in self._index_of:
            self._index_of[content] = self.add(job)
        return self._index_of[content]


def _address(content: bytes) -> str:
    kind = "png" if content.startswith(SIGNATURE) else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _image_file(content: bytes, size: tuple[int, int, int]) -> bytes:
    """The reduced image as a WebP file, which is half as large as JPEG at the same quality."""
    small = thumbnail(decoded(content), size[0])
    return cv2.imencode(".webp", small[:, :, ::-1], [cv2.IMWRITE_WEBP_QUALITY, size[2]])[1].tobytes()


def _map(values: NDArray[np.float32], side: int, low: float, high: float) -> bytes:
    """The map as an 8-bit PNG file; `low` is black and `high` white."""
    grey = np.round((small_map(values, side) - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)
    return cv2.imencode(".png", grey, [cv2.IMWRITE_PNG_COMPRESSION, 5])[1].tobytes()
