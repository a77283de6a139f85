"""What kind of images a detector learned from, and whether another is like them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from blemish.data.source import FileInfo

SPREAD = 1.25
"""How many times a side may be longer or shorter than all that were learned from."""
DEPTHS = {"uint8": "8-bit", "uint16": "16-bit", "float32": "float"}
"""Type of pixels -> what it is to a user."""


def learned_images(files: Iterable[FileInfo], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The colours, depths and sizes of the files, as plain data; together with those of `before`, if it is given."""
    usable = [info for info in files if not info.error]
    known = before or {}
    sides = [list(info.size) for info in usable] + [list(size) for size in known.get("sizes", ())]
    return {
        "colours": sorted({*map(_colour, usable), *known.get("colours", ())}),
        "depths": sorted({*(info.depth for info in usable), *known.get("depths", ())}),
        "sizes": [[pick(side[axis] for side in sides) for axis in (0, 1)] for pick in (min, max)] if sides else [],
    }


def differences(info: FileInfo, learned: Mapping[str, Any]) -> dict[str, str]:
    """In what an image is unlike all that were learned from: what differs -> both sides in words.

    Nothing where it is not known what was learned from, as in models of earlier versions.
    """
    found = {}
    colours, depths, sizes = (learned.get(name) for name in ("colours", "depths", "sizes"))
    if colours and _colour(info) not in colours:
        found["colour"] = f"{_colour(info)}, and {' and '.join(colours)} was learned from"
    if depths and info.depth not in depths:
        known = " and ".join(DEPTHS.get(depth, depth) for depth in depths)
        found["depth"] = f"{DEPTHS.get(info.depth, info.depth)}, and {known} was learned from"
    if sizes and not _is_between(info.size, *sizes):
        low, high = (f"{height}x{width}" for height, width in sizes)
        known = low if low == high else f"{low} to {high}"
        found["size"] = f"{info.size[0]}x{info.size[1]} (height x width), and {known} was learned from"
    return found


def _colour(info: FileInfo) -> str:
    return "colour" if info.is_colour else "grey"


def _is_between(size: tuple[int, int], smallest: tuple[int, int], largest: tuple[int, int]) -> bool:
    return all(low / SPREAD <= side <= high * SPREAD for side, low, high in zip(size, smallest, largest, strict=True))
