"""Pictures and maps small enough for a page: the largest display size that fits the budget."""

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
from blemish.reporting.read import Run

BUDGET = 7 << 20
"""Bytes of pictures for up to IMAGES test images, before base64 adds a third; more images get as much each."""
IMAGES = 500
SIZES = ((320, 160, 80), (320, 128, 75), (256, 128, 72), (224, 112, 68), (192, 96, 65), (144, 72, 60), (96, 48, 55))
"""Sides of pictures and of maps, and the quality of the pictures as WebP has it, from the largest."""
SAMPLED = 24
"""Previews by which a size is judged before all are made at it."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The pictures of one image by one run, as indices of the page's addresses (data:); None for what was not kept."""

    picture: int | None
    map: int | None
    reconstruction: int | None


@dataclass(frozen=True, slots=True)
class Album:
    """Every picture of a page, each once."""

    addresses: list[str]
    shown: dict[tuple[str, str, str], Shown] = field(default_factory=dict)
    """(run's label, category, path) -> its pictures."""
    ranges: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    """(run's label, category) -> the raw values that black and white of its maps stand for."""
    display: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    """(run's label, category) -> the raw values between which colours tell apart."""


def make_album(runs: Sequence[Run]) -> Album:
    """The pictures of all runs, at the largest size at which they fit the budget, the smallest where none does."""
    previews = [shown for run in runs for part in run.parts for shown in part.record.previews]
    images = {
        (part.evaluation.category, shown.path) for run in runs for part in run.parts for shown in part.record.previews
    }
    budget = BUDGET * max(1.0, len(images) / IMAGES)
    for size in SIZES:
        if _estimate(previews, len(images), size) > budget and size != SIZES[-1]:
            continue
        album, num_bytes = _album(runs, size)
        if num_bytes <= budget or size == SIZES[-1]:
            break
    return album


def maps_of(previews: Sequence[Preview]) -> list[NDArray[np.float32]]:
    """The maps that were kept."""
    return [shown.map for shown in previews if shown.map is not None]


def value_range(maps: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """The lowest and the highest value of the maps; never the same."""
    if not maps:
        return 0.0, 1.0
    low, high = min(float(m.min()) for m in maps), max(float(m.max()) for m in maps)
    return low, high if high > low else low + 1.0


def colour_range(maps: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """The median and the 99.8 % quantile of the maps; never the same. Good images stay dark by it."""
    if not maps:
        return 0.0, 1.0
    low, high = (float(value) for value in np.quantile(np.concatenate([m.ravel() for m in maps]), [0.5, 0.998]))
    return (low, high) if high > low else value_range(maps)


def _estimate(previews: Sequence[Preview], num_images: int, size: tuple[int, int, int]) -> float:
    """About how many bytes all the pictures would take."""
    some = previews[:: max(1, len(previews) // SAMPLED)]
    if not some:
        return 0
    low, high = value_range(maps_of(some))
    pictures = float(np.sum([len(_picture(s.picture, size)) for s in some if s.picture])) / len(some)
    rebuilt = float(np.sum([len(_picture(s.reconstruction, size)) for s in some if s.reconstruction])) / len(some)
    maps = float(np.sum([len(_map(values, size[1], low, high)) for values in maps_of(some)])) / len(some)
    return pictures * num_images + (rebuilt + maps) * len(previews)


def _album(runs: Sequence[Run], size: tuple[int, int, int]) -> tuple[Album, int]:
    """The album at one size, and the bytes it takes."""
    album, jobs = Album([]), _Jobs()
    for run in runs:
        for part in run.parts:
            key, previews = (run.label, part.evaluation.category), part.record.previews
            low, high = album.ranges[key] = value_range(maps_of(previews))
            album.display[key] = colour_range(maps_of(previews))
            for shown in previews:
                album.shown[*key, shown.path] = Shown(
                    jobs.add_once(shown.picture, partial(_picture, shown.picture, size)) if shown.picture else None,
                    jobs.add(partial(_map, shown.map, size[1], low, high)) if shown.map is not None else None,
                    jobs.add(partial(_picture, shown.reconstruction, size)) if shown.reconstruction else None,
                )
    files = list(map_ahead(lambda job: job(), jobs.all))
    album.addresses.extend(map(_address, files))
    return album, sum(map(len, files))


class _Jobs:
    """Files that are still to be made, each known by its index."""

    def __init__(self) -> None:
        self.all: list[Callable[[], bytes]] = []
        self._index_of: dict[bytes, int] = {}

    def add(self, job: Callable[[], bytes]) -> int:
        self.all.append(job)
        return len(self.all) - 1

    def add_once(self, content: bytes, job: Callable[[], bytes]) -> int:
        """The index of the file made of this content, which several runs may have kept of the same image."""
        if content not in self._index_of:
            self._index_of[content] = self.add(job)
        return self._index_of[content]


def _address(content: bytes) -> str:
    kind = "png" if content.startswith(SIGNATURE) else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _picture(content: bytes, size: tuple[int, int, int]) -> bytes:
    """A WebP file: half as large as JPEG at the same quality."""
    small = thumbnail(decoded(content), size[0])
    return cv2.imencode(".webp", small[:, :, ::-1], [cv2.IMWRITE_WEBP_QUALITY, size[2]])[1].tobytes()


def _map(values: NDArray[np.float32], side: int, low: float, high: float) -> bytes:
    """A PNG file of 8 bits; `low` is black and `high` white."""
    grey = np.round((small_map(values, side) - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)
    return cv2.imencode(".png", grey, [cv2.IMWRITE_PNG_COMPRESSION, 5])[1].tobytes()
