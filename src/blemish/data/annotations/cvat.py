"""CVAT for images 1.1: one XML file with polygons, boxes, ellipses and masks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from blemish.data.annotations.documents import Drawn
from blemish.data.annotations.run_lengths import marks_of_counts
from blemish.data.annotations.shapes import Labelled, Shape, box_points, ellipse_points, points_of
from blemish.data.layouts.layout import LARGEST_TABLE
from blemish.errors import BlemishError
from blemish.files import read_bytes

OTHERS = {"polyline", "points", "cuboid", "skeleton"}
"""Elements that are drawn, but no regions."""


def is_cvat(path: Path) -> bool:
    """Whether the path is an XML file whose root is called annotations."""
    return path.suffix.lower() == ".xml" and path.is_file() and _root(path).tag == "annotations"


def read_cvat(path: Path) -> Iterator[Labelled]:
    """Every image of the file, those without annotations too; raises BlemishError where the file cannot be read."""
    root = _root(path)
    if root.find("track") is not None:
        raise BlemishError(f"{path}: annotations of a video. Export them as CVAT for images 1.1.")
    for image in root.iter("image"):
        drawn = Drawn()
        for one in image:
            if one.tag in _SHAPES or one.tag in OTHERS:
                drawn.add(f"a {one.tag}", lambda one=one: _SHAPES[one.tag](one) if one.tag in _SHAPES else None)  # type: ignore[misc]
        sides = image.get("height", ""), image.get("width", "")
        size = (int(sides[0]), int(sides[1])) if all(side.isdecimal() for side in sides) else None
        yield Labelled(image.get("name", ""), tuple(drawn.shapes), size, tuple(drawn.refused))


def _root(path: Path) -> ElementTree.Element:
    data = read_bytes(path, LARGEST_TABLE)
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise BlemishError(f"{path}: has a document type, which annotations do not need. Export it anew.")
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise BlemishError(f"{path}: not XML ({error}). Export it anew.") from None


def _number(one: ElementTree.Element, name: str, default: str | None = None) -> float:
    value = one.get(name, default)
    if value is None:
        raise ValueError(f"without {name}")
    return float(value)


def _polygon(one: ElementTree.Element) -> Shape:
    values = [float(value) for point in one.get("points", "").split(";") for value in point.split(",")]
    return Shape(one.get("label", ""), (points_of(values),))


def _box(one: ElementTree.Element) -> Shape:
    left, top, right, bottom = (_number(one, name) for name in ("xtl", "ytl", "xbr", "ybr"))
    corners = box_points(left, top, right - left, bottom - top, _number(one, "rotation", "0"))
    return Shape(one.get("label", ""), (corners,), is_box=True)


def _ellipse(one: ElementTree.Element) -> Shape:
    x, y, radius_x, radius_y = (_number(one, name) for name in ("cx", "cy", "rx", "ry"))
    return Shape(one.get("label", ""), (ellipse_points(x, y, radius_x, radius_y, _number(one, "rotation", "0")),))


def _mask(one: ElementTree.Element) -> Shape:
    left, top, width, height = (int(_number(one, name)) for name in ("left", "top", "width", "height"))
    counts = [int(word) for word in one.get("rle", "").split(",")]
    marks = marks_of_counts(counts, (height, width), by_columns=False)
    return Shape(one.get("label", ""), marks=marks, at=(left, top))


_SHAPES = {"polygon": _polygon, "box": _box, "ellipse": _ellipse, "mask": _mask}
