"""Large pictures in tiles: cutting them, and blending what was found in each so that no seam is seen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.types import Size


def starts(length: int, side: int, overlap: int) -> list[int]:
    """Where tiles of `side` pixels begin along `length`: evenly, the first and the last at the ends, sharing at least
    `overlap` pixels with their neighbours.
    """
    if length <= side:
        return [0]
    number = -(-(length - side) // (side - overlap)) + 1
    return [round(index * (length - side) / (number - 1)) for index in range(number)]


def corners(size: Size, side: int, overlap: int) -> list[tuple[int, int]]:
    """(top, left) of each tile of a picture, row by row."""
    return list(product(starts(size[0], side, overlap), starts(size[1], side, overlap)))


def cut(image: NDArray[Any], side: int, overlap: int) -> Iterator[NDArray[Any]]:
    """The tiles of an image, each (side, side) or (side, side, 3); a smaller image is continued by its border."""
    height, width = image.shape[:2]
    below, right = max(0, side - height), max(0, side - width)
    if below or right:
        image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE)
    for top, left in corners((height, width), side, overlap):
        yield image[top : top + side, left : left + side]


def blend(maps: Iterable[NDArray[np.float32]], size: Size, side: int, overlap: int) -> NDArray[np.float32]:
    """(H, W) = `size`: the maps (side, side) of all tiles as one.

    The outer quarter of an overlap counts nothing, its middle half fades from one tile into the next. So where a map is
    computed from at most overlap / 4 pixels around, the result is that of the whole picture.
    """
    rows, columns = (_weights(length, side, overlap) for length in size)
    total, weight = np.zeros(size, np.float64), np.zeros(size, np.float64)
    for values, (top, left) in zip(maps, corners(size, side, overlap), strict=True):
        own = slice(top, top + side), slice(left, left + side)
        height, width = total[own].shape
        share = np.outer(rows[top][:height], columns[left][:width])
        total[own] += share * values[:height, :width]
        weight[own] += share
    return (total / weight).astype(np.float32)


def contributions(size: Size, side: int, overlap: int) -> Iterator[NDArray[np.float32]]:
    """For each tile (side, side): 1 where `blend` takes something from it, else 0."""
    rows, columns = (_weights(length, side, overlap) for length in size)
    for top, left in corners(size, side, overlap):
        yield np.outer(rows[top] > 0, columns[left] > 0).astype(np.float32)


def _weights(length: int, side: int, overlap: int) -> dict[int, NDArray[np.float64]]:
    """Start of a tile -> how much each of its rows counts; at the ends of the picture there is no other tile."""
    found = starts(length, side, overlap)
    fading = np.clip((np.arange(side) + 0.5 - overlap / 4) / max(overlap / 2, 0.5), 0, 1)
    whole = np.ones(side)
    return {
        start: (whole if start == found[0] else fading) * (whole if start == found[-1] else fading[::-1])
        for start in found
    }
