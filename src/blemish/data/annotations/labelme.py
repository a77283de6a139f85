"""LabelMe: a JSON file per image with polygons, boxes, circles and masks."""

from __future__ import annotations

from collections.abc import Iterator
from math import dist
from pathlib import Path, PureWindowsPath
from typing import Any

from blemish.data.annotations.documents import Drawn, embedded_mask, listed, size_of
from blemish.data.annotations.shapes import Labelled, Shape, box_points, ellipse_points, points_of
from blemish.data.layouts.layout import read_document


def is_labelme(path: Path) -> bool:
    """Whether the path is a JSON file of LabelMe, or a folder with one."""
    first = next(iter(_documents(path)), None)
    document = read_document(first) if first else None
    return isinstance(document, dict) and {"shapes", "imagePath"} <= set(document)


def read_labelme(path: Path) -> Iterator[Labelled]:
    """The image of every JSON file; raises BlemishError where one cannot be read."""
    for file in _documents(path):
        document, drawn = read_document(file), Drawn()
        for one in listed(document, "shapes"):
            kind = one.get("shape_type") or "polygon" if isinstance(one, dict) else "entry"
            drawn.add(f"a {kind}", lambda one=one, kind=kind: _shape(one, kind))  # type: ignore[misc]
        named = document.get("imagePath") if isinstance(document, dict) else None
        name = PureWindowsPath(named).name if isinstance(named, str) else file.stem  # also splits at /
        place = file.parent.relative_to(path) if path.is_dir() else Path()
        size = size_of(document, "imageHeight", "imageWidth")
        yield Labelled((place / name).as_posix(), tuple(drawn.shapes), size, tuple(drawn.refused))


def _documents(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*.json") if not file.name.startswith("."))
    return [path] if path.suffix.lower() == ".json" else []


def _shape(one: dict[str, Any], kind: str) -> Shape | None:
    label, points = str(one["label"]), points_of([value for point in one["points"] for value in point])
    if kind == "polygon":
        return Shape(label, (points,))
    if kind == "rectangle":
        (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        return Shape(label, (box_points(left, top, right - left, bottom - top),), is_box=True)
    if kind == "circle":
        (x, y), edge = points.tolist()
        radius = dist((x, y), edge)
        return Shape(label, (ellipse_points(x, y, radius, radius),))
    if kind == "mask":
        left, top = points.min(axis=0).round().astype(int).tolist()
        return Shape(label, marks=embedded_mask(one["mask"]), at=(left, top))
    return None
