"""Label Studio: one JSON file of tasks with brushes (run lengths), polygons, ellipses and boxes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from blemish.data.annotations.documents import Drawn, listed
from blemish.data.annotations.run_lengths import label_studio_marks
from blemish.data.annotations.shapes import Labelled, Shape, box_points, ellipse_points, points_of
from blemish.data.layouts.layout import read_document

REGIONS = ("brush", "polygon", "ellipse", "rectangle", "keypoint", "vector")
"""What is drawn; a result of another type, such as choices, is about the whole image."""


def is_label_studio(path: Path) -> bool:
    """Whether the path is a JSON file with a list of tasks."""
    document = read_document(path) if path.suffix.lower() == ".json" and path.is_file() else None
    return isinstance(document, list) and any(isinstance(one, dict) and "data" in one for one in document)


def read_label_studio(path: Path) -> Iterator[Labelled]:
    """The image of every task that was annotated; of several annotations the first that was not cancelled counts.

    Raises BlemishError where the file cannot be read.
    """
    document = read_document(path)
    for task in document if isinstance(document, list) else []:
        kept = [one for one in listed(task, "annotations") if isinstance(one, dict) and not one.get("was_cancelled")]
        name = _image_name(task.get("data") if isinstance(task, dict) else None)
        if not kept or not name:
            continue
        drawn, sizes = Drawn(), set()
        for result in listed(kept[0], "result"):
            kind = str(result.get("type", "")).removesuffix("labels") if isinstance(result, dict) else ""
            if kind in REGIONS:
                drawn.add(f"a {kind}", lambda result=result, kind=kind: _shape(result, kind))  # type: ignore[misc]
                sizes.add((result.get("original_height"), result.get("original_width")))
        size = sizes.pop() if len(sizes) == 1 else None
        yield Labelled(name, tuple(drawn.shapes), size, tuple(drawn.refused))


def _image_name(data: Any) -> str:
    """The image's path in a task; empty where there is none."""
    values = data.values() if isinstance(data, dict) else ()
    address = next((value for value in values if isinstance(value, str) and re.search(r"\.\w{3,4}$", value)), "")
    parts = urlsplit(address)
    return unquote(parse_qs(parts.query).get("d", [parts.path])[0]).lstrip("/")


def _shape(result: dict[str, Any], kind: str) -> Shape | None:
    value, height, width = result["value"], result["original_height"], result["original_width"]
    label = str(next(iter(value.get(f"{kind}labels") or ["defect"])))
    if kind == "brush":
        return Shape(label, marks=label_studio_marks(value["rle"], (height, width)))
    across, down = width / 100, height / 100  # all else is in per cent
    if kind == "polygon":
        return Shape(label, (points_of([part for x, y in value["points"] for part in (x * across, y * down)]),))
    if kind not in ("ellipse", "rectangle"):
        return None
    x, y, rotation = value["x"] * across, value["y"] * down, value.get("rotation", 0)
    if kind == "ellipse":
        radii = value["radiusX"] * across, value["radiusY"] * down
        return Shape(label, (ellipse_points(x, y, *radii, rotation),))
    corners = box_points(x, y, value["width"] * across, value["height"] * down, rotation, about="corner")
    return Shape(label, (corners,), is_box=True)
