"""Tiles: cuts a large image into overlapping squares, and blends the maps of the tiles into one without seams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.types import Size


def starts(length: int, side: int, overlap: int) -> list[int]:
    """The first pixel of each tile of `side` pixels along an axis of `length` pixels.

    The tiles are evenly spaced, the first begins at 0, the last ends at `length`, and neighbours share at least
    `overlap` pixels.
    """
    if length <= side:
        return [0]
    number = -(-(length - side) // (side - overlap)) + 1
    return [round(index * (length - side) / (number - 1)) for index in range(number)]


def corners(size: Size, side: int, overlap: int) -> list[tuple[int, int]]:
    """(top, left) of each tile of an image of this (height, width), row by row."""
    return list(product(starts(size[0], side, overlap), starts(size[1], side, overlap)))


def cut(image: NDArray[Any], side: int, overlap: int) -> Iterator[NDArray[Any]]:
    """The tiles of an image (H, W) or (H, W, 3), each `side` x `side`; the edge of a smaller image is repeated."""
    height, width = image.shape[:2]
    below, right = max(0, side - height), max(0, side - width)
    if below or right:
        image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE)
    for top, left in corners((height, width), side, overlap):
        yield image[top : top + side, left : left + side]


def blend(maps: Iterable[NDArray[np.float32]], size: Size, side: int, overlap: int) -> NDArray[np.float32]:
    """The map (H, W) = `size` that the maps (side, side) of all tiles make.

    Where tiles overlap, the weight of a tile is 0 in the outer quarter of the overlap and rises over its middle half.
    So a map whose values depend on at most overlap / 4 pixels around them is the same as that of the whole image.
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
    """For each tile an array (side, side): 1 where `blend` uses the tile's map, else 0."""
    rows, columns = (_weights(length, side, overlap) for length in size)
    for top, left in corners(size, side, overlap):
        yield np.outer(rows[top] > 0, columns[left] > 0).astype(np.float32)


def _weights(length: int, side: int, overlap: int) -> dict[int, NDArray[np.float64]]:
    """First pixel of a tile -> the weight of each of its rows: rising from 0, and falling to 0 at the other end.

    At the ends of the image there is no neighbour, and the weight stays 1.
    """
    found = starts(length, side, overlap)
    rising = np.clip((np.arange(side) + 0.5 - overlap / 4) / max(overlap / 2, 0.5), 0, 1)
    ones = np.ones(side)
    return {
        start: (ones if start == found[0] else rising) * (ones if start == found[-1] else rising[::-1])
        for start in found
    }
