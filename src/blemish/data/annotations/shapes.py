"""Regions that someone drew on an image: polygons, boxes and masks; and the pixels that they mark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, cos, floor, pi, radians, sin
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.errors import BlemishError
from blemish.imaging.masks import Marks
from blemish.types import Size

Points = NDArray[np.float64]
"""(N, 2) x and y of corners; (0, 0) is the upper left corner of the upper left pixel, whose centre is (0.5, 0.5)."""
CORNERS = 128
"""Corners of the polygon that stands for a circle or an ellipse."""


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A region with a label: the union of its polygons without its holes, or a mask."""

    label: str
    polygons: tuple[Points, ...] = ()
    holes: tuple[Points, ...] = ()
    unit: Literal["pixel", "image"] = "pixel"
    """image: x and y are parts of the image's width and height."""
    marks: Marks | None = None
    """(h, w): the mask, in place of polygons."""
    at: tuple[int, int] = (0, 0)
    """x and y of the mask's upper left pixel in the image."""
    is_box: bool = False
    """Whether it is a box around the region, not the region itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """An image and everything that was drawn on it."""

    name: str
    """As the annotations name it: a path, a file's name, or its stem."""
    shapes: tuple[Shape, ...] = ()
    size: Size | None = None
    """(height, width) of the image as the annotations say; None where they do not."""
    refused: tuple[str, ...] = ()
    """What was drawn on it and cannot be taken, such as "a line"."""


def marks_of_shapes(shapes: Iterable[Shape], size: Size) -> Marks:
    """(H, W): True where a shape covers the centre of a pixel. What is finer than pixels marks those on its outline.

    Raises BlemishError where a mask does not lie within the image.
    """
    found = np.zeros(size, bool)
    for shape in shapes:
        found |= _marks(shape, size)
    return found


def _marks(shape: Shape, size: Size) -> Marks:
    found = np.zeros(size, bool)
    if shape.marks is not None:
        (x, y), (height, width) = shape.at, shape.marks.shape
        if x < 0 or y < 0 or y + height > size[0] or x + width > size[1]:
            raise BlemishError("a mask that leaves the image")
        found[y : y + height, x : x + width] = shape.marks
        return found
    scale = np.array([size[1], size[0]]) if shape.unit == "image" else np.ones(2)
    polygons = [points * scale for points in shape.polygons]
    for points in polygons:
        found |= fill_polygon(points, size)
    for points in shape.holes:
        found &= ~fill_polygon(points * scale, size)
    return found if found.any() else _outlines(polygons, size)


def fill_polygon(points: Points, size: Size) -> Marks:
    """(H, W): True where the centre of a pixel lies inside the polygon, by the even-odd rule."""
    found = np.zeros(size, bool)
    if len(points) < 3:
        return found
    x, y = points[:, 0], points[:, 1]
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    for row in range(max(0, floor(y.min())), min(size[0], ceil(y.max()))):
        level = row + 0.5
        crosses = (y <= level) != (next_y <= level)
        part = (level - y[crosses]) / (next_y[crosses] - y[crosses])
        at = np.sort(x[crosses] + part * (next_x[crosses] - x[crosses]))
        edges = np.clip(np.ceil(at - 0.5), 0, size[1]).astype(int)
        for start, end in edges.reshape(-1, 2):
            found[row, start:end] = True
    return found


def _outlines(polygons: Sequence[Points], size: Size) -> Marks:
    canvas = np.zeros(size, np.uint8)
    limit = 4.0 * max(size)
    corners = [np.clip(np.floor(points), -limit, limit).astype(np.int32) for points in polygons if len(points)]
    cv2.polylines(canvas, corners, True, 1)
    return canvas > 0


def points_of(values: Sequence[float]) -> Points:
    """Corners from x and y in turn; raises ValueError where one is missing, or they are not finite numbers."""
    found = np.asarray(values, np.float64).reshape(-1, 2)
    if not np.isfinite(found).all() or np.abs(found).max(initial=0) > 1e7:
        raise ValueError("coordinates that are not those of an image")
    return found


def box_points(x: float, y: float, width: float, height: float, rotation: float = 0, about: str = "centre") -> Points:
    """Corners of a box, turned clockwise by `rotation` degrees about its centre, or about its upper left corner."""
    corners = points_of([x, y, x + width, y, x + width, y + height, x, y + height])
    middle = np.array([x, y]) + (np.array([width, height]) / 2 if about == "centre" else 0)
    return (corners - middle) @ _turn(rotation).T + middle


def ellipse_points(x: float, y: float, radius_x: float, radius_y: float, rotation: float = 0) -> Points:
    """Corners of an ellipse about (x, y), turned clockwise by `rotation` degrees."""
    angles = np.arange(CORNERS) * 2 * pi / CORNERS
    around = np.column_stack([radius_x * np.cos(angles), radius_y * np.sin(angles)])
    return points_of((around @ _turn(rotation).T + [x, y]).ravel().tolist())


def _turn(degrees: float) -> Points:
    angle = radians(degrees)
    return np.array([[cos(angle), -sin(angle)], [sin(angle), cos(angle)]])
