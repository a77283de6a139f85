"""Supervisely: a folder ann with a JSON file per image, of polygons, boxes and bitmaps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blemish.data.annotations.documents import Drawn, embedded_mask, listed, size_of
from blemish.data.annotations.shapes import Labelled, Shape, box_points, points_of
from blemish.data.layouts.layout import read_document


def is_supervisely(path: Path) -> bool:
    """Whether the path is a folder with a folder ann below it, or such a folder, whose files have size and objects."""
    first = next(iter(_documents(path)), None)
    document = read_document(first) if first else None
    return isinstance(document, dict) and {"size", "objects"} <= set(document)


def read_supervisely(path: Path) -> Iterator[Labelled]:
    """The image of every file in a folder ann; raises BlemishError where one cannot be read."""
    for file in _documents(path):
        document, drawn = read_document(file), Drawn()
        for one in listed(document, "objects"):
            kind = str(one.get("geometryType")) if isinstance(one, dict) else "entry"
            drawn.add(f"a {kind}", lambda one=one, kind=kind: _shape(one, kind))  # type: ignore[misc]
        size = size_of(document.get("size") if isinstance(document, dict) else None, "height", "width")
        parts = [part for part in file.relative_to(path).parent.parts if part != "ann"]
        yield Labelled("/".join([*parts, file.stem]), tuple(drawn.shapes), size, tuple(drawn.refused))


def _documents(path: Path) -> list[Path]:
    if path.name == "ann":
        return sorted(path.glob("*.json"))
    return sorted(path.rglob("ann/*.json")) if path.is_dir() else []


def _shape(one: dict[str, Any], kind: str) -> Shape | None:
    label = str(one["classTitle"])
    if kind == "bitmap":
        x, y = one["bitmap"]["origin"]
        return Shape(label, marks=embedded_mask(one["bitmap"]["data"], compressed=True), at=(int(x), int(y)))
    if kind not in ("polygon", "rectangle"):
        return None
    outer, *holes = (
        points_of([value for point in ring for value in point])
        for ring in (one["points"]["exterior"], *one["points"].get("interior", ()))
    )
    if kind == "polygon":
        return Shape(label, (outer,), tuple(holes))
    (left, top), (right, bottom) = outer.min(axis=0).tolist(), outer.max(axis=0).tolist()
    return Shape(label, (box_points(left, top, right - left, bottom - top),), is_box=True)
