"""Random shapes of synthetic defects, as opacities in a window of an image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.types import Size

Plane = NDArray[np.float32]
Scalar = TypeVar("Scalar", bound=np.generic)
Point = tuple[float, float]
"""(row, column) in pixels."""

SUBPIXEL = 4
"""Fractional bits of the coordinates that OpenCV draws at."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A window of an image, its rows and columns, and the opacity (h, w) in [0, 1] of a defect in it."""

    rows: slice
    columns: slice
    opacity: Plane

    def crop(self, image: NDArray[Scalar]) -> NDArray[Scalar]:
        """The window of an image (H, W) or (H, W, C), as a view."""
        return image[self.rows, self.columns]


def window(size: Size, top: float, left: float, bottom: float, right: float) -> tuple[slice, slice]:
    """Rows and columns of a box in an image of this (height, width), clipped to it and at least one pixel large."""
    first = (min(max(math.floor(top), 0), size[0] - 1), min(max(math.floor(left), 0), size[1] - 1))
    last = (min(max(math.ceil(bottom), 0), size[0] - 1), min(max(math.ceil(right), 0), size[1] - 1))
    return slice(first[0], last[0] + 1), slice(first[1], last[1] + 1)


def noise(rng: np.random.Generator, size: Size, cell: float, octaves: int = 2) -> Plane:
    """(h, w): smooth noise of about unit deviation; the coarsest octave has one random value per `cell` pixels."""
    total = np.zeros(size, np.float32)
    for octave in range(octaves):
        grid = [min(side, max(2, round(side * 2**octave / cell) + 1)) for side in size]
        grains = rng.standard_normal(grid, np.float32) * np.float32(1.4 * 0.6**octave)
        total += cv2.resize(grains, size[::-1], interpolation=cv2.INTER_CUBIC)
    return total


def blob(rng: np.random.Generator, size: Size, centre: Point, radius: float) -> Shape:
    """An elongated, ragged spot of about `radius` pixels; its edge is between sharp and as soft as the spot is wide."""
    stretch, angle = math.exp(rng.uniform(-0.8, 0.8)), rng.uniform(0, math.pi)
    half = 1.5 * radius * max(stretch, 1 / stretch) + 2
    rows, columns = window(size, centre[0] - half, centre[1] - half, centre[0] + half, centre[1] + half)
    step = max(1, int(radius / 12))  # the distance is smooth, so a coarse grid is enough
    y = np.arange(rows.start, rows.stop, step).astype(np.float32)[:, None] - np.float32(centre[0])
    x = np.arange(columns.start, columns.stop, step).astype(np.float32) - np.float32(centre[1])
    along = (x * math.cos(angle) + y * math.sin(angle)) / np.float32(radius * stretch)
    across = (y * math.cos(angle) - x * math.sin(angle)) * np.float32(stretch / radius)
    distance = np.sqrt(along * along + across * across)
    ragged = noise(rng, distance.shape, 0.7 * radius / step)
    distance = distance + np.float32(rng.uniform(0, 0.35)) * np.tanh(ragged)
    if step > 1:
        shape = columns.stop - columns.start, rows.stop - rows.start
        distance = cv2.resize(distance, shape, interpolation=cv2.INTER_LINEAR)
    softness = max(math.exp(rng.uniform(math.log(0.05), 0)), 1 / radius)
    return Shape(rows, columns, np.clip((1 - distance) / np.float32(softness), 0, 1))


def polygon(rng: np.random.Generator, size: Size, centre: Point, radius: float) -> Shape:
    """A rectangle, mostly parallel to the axes, or a polygon of three to seven corners, with sharp edges."""
    stretch = math.exp(rng.uniform(-1.0, 1.0))
    if rng.random() < 0.6:
        corners = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)], np.float64)
        angle = rng.uniform(0, math.pi) if rng.random() < 0.3 else 0.0
    else:
        around = np.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(3, 8))))
        corners = np.stack([np.sin(around), np.cos(around)], 1) * rng.uniform(0.7, 1.3, (len(around), 1))
        angle = rng.uniform(0, math.pi)
    corners = corners * (radius * stretch, radius / stretch)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    corners = corners @ turn.T + centre
    rows, columns = _around(size, corners, 2)
    drawn = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    cv2.fillPoly(drawn, [_to_subpixels(corners, rows, columns)], 255, cv2.LINE_AA, SUBPIXEL)
    return Shape(rows, columns, _opacity(drawn))


def path(rng: np.random.Generator, centre: Point, length: float, bend: float, jagged: float) -> NDArray[np.float64]:
    """Points (25, 2) of a line through `centre`, whose direction changes by about `bend` radians along its length.

    `jagged` is the standard deviation of random shifts of the points, relative to their distance.
    """
    steps = 24
    heading = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, bend / steps**0.5, steps))
    moves = length / steps * np.stack([np.sin(heading), np.cos(heading)], 1)
    points = np.concatenate([np.zeros((1, 2)), np.cumsum(moves, 0)])
    points += rng.normal(0, max(jagged, 1e-9) * length / steps, points.shape)
    return np.asarray(points - points[steps // 2] + centre, np.float64)


def line(size: Size, points: NDArray[np.float64], widths: NDArray[np.float64]) -> Shape:
    """A line along `points` (n, 2) with widths (n - 1,) in pixels; where it is thinner than a pixel, it is fainter."""
    rows, columns = _around(size, points, float(widths.max()) + 2)
    drawn = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    corners = _to_subpixels(points, rows, columns)
    for start, end, width in zip(corners[:-1].tolist(), corners[1:].tolist(), widths.tolist(), strict=True):
        cv2.line(drawn, start, end, 255 * min(1.0, width), max(1, round(width)), cv2.LINE_AA, SUBPIXEL)
    return Shape(rows, columns, _opacity(drawn))


def specks(rng: np.random.Generator, size: Size, centre: Point, radius: float, count: int) -> Shape:
    """`count` grains at most `radius` pixels from `centre`, each narrower than 1 % of the image."""
    angle, away = rng.uniform(0, 2 * math.pi, count), radius * np.sqrt(rng.random(count))
    spots = np.stack([np.sin(angle) * away, np.cos(angle) * away], 1) + centre
    largest = 0.008 * min(size)
    rows, columns = _around(size, spots, largest + 2)
    drawn = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    for spot in _to_subpixels(spots, rows, columns).tolist():
        grain = round(max(0.6, rng.uniform(0.2, 1) * largest) * 2**SUBPIXEL)
        cv2.circle(drawn, spot, grain, 255, -1, cv2.LINE_AA, SUBPIXEL)
    return Shape(rows, columns, _opacity(drawn))


def _around(size: Size, points: NDArray[np.float64], margin: float) -> tuple[slice, slice]:
    low, high = points.min(0) - margin, points.max(0) + margin
    return window(size, low[0], low[1], high[0], high[1])


def _to_subpixels(points: NDArray[np.float64], rows: slice, columns: slice) -> NDArray[np.int32]:
    """(n, 2): x and y within the window, in the fixed-point format of OpenCV."""
    inside = points[:, ::-1] - (columns.start, rows.start)
    return np.asarray(np.round(inside * 2**SUBPIXEL), np.int32)


def _opacity(drawn: NDArray[np.uint8]) -> Plane:
    return np.multiply(drawn, np.float32(1 / 255), dtype=np.float32)
