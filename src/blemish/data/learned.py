"""Colour, depth and size of the images that a detector learned from, and how another image differs from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from blemish.data.source import FileInfo

SPREAD = 1.25
"""Factor by which an image's side may be longer or shorter than those of all training images."""
DEPTHS = {"uint8": "8-bit", "uint16": "16-bit", "float32": "float"}
"""Type of pixels -> name of the depth for a user."""


def learned_images(files: Iterable[FileInfo], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The colours, depths and range of sizes of the files, as plain data.

    `before` is an earlier result, whose values are included: {"colours": ["grey"], "depths": ["uint8"], "sizes":
    [[smallest height, smallest width], [largest height, largest width]]}.
    """
    usable = [info for info in files if not info.error]
    earlier = before or {}
    sides = [list(info.size) for info in usable] + [list(size) for size in earlier.get("sizes", ())]
    return {
        "colours": sorted({*map(_colour, usable), *earlier.get("colours", ())}),
        "depths": sorted({*(info.depth for info in usable), *earlier.get("depths", ())}),
        "sizes": [[pick(side[axis] for side in sides) for axis in (0, 1)] for pick in (min, max)] if sides else [],
    }


def differences(info: FileInfo, learned: Mapping[str, Any]) -> dict[str, str]:
    """How an image differs from all training images: "colour", "depth" or "size" -> the difference in words.

    `learned` is the result of `learned_images`. Empty where nothing differs, or `learned` is empty.
    """
    found = {}
    colours, depths, sizes = (learned.get(name) for name in ("colours", "depths", "sizes"))
    if colours and _colour(info) not in colours:
        found["colour"] = f"{_colour(info)}, but the training images are {' and '.join(colours)}"
    if depths and info.depth not in depths:
        known = " and ".join(DEPTHS.get(depth, depth) for depth in depths)
        found["depth"] = f"{DEPTHS.get(info.depth, info.depth)}, but the training images are {known}"
    if sizes and not _is_between(info.size, *sizes):
        low, high = (f"{height}x{width}" for height, width in sizes)
        known = low if low == high else f"{low} to {high}"
        found["size"] = f"{info.size[0]}x{info.size[1]} (height x width), but the training images are {known}"
    return found


def _colour(info: FileInfo) -> str:
    return "colour" if info.is_colour else "grey"


def _is_between(size: tuple[int, int], smallest: tuple[int, int], largest: tuple[int, int]) -> bool:
    return all(low / SPREAD <= side <= high * SPREAD for side, low, high in zip(size, smallest, largest, strict=True))
