"""COCO: one JSON file with images, categories and annotations, which are polygons or run lengths."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blemish.data.annotations.documents import Drawn, listed, size_of
from blemish.data.annotations.run_lengths import coco_counts, marks_of_counts
from blemish.data.annotations.shapes import Labelled, Shape, box_points, points_of
from blemish.data.layouts.layout import read_document


def is_coco(path: Path) -> bool:
    """Whether the path is a JSON file with the lists images and annotations."""
    document = read_document(path) if path.suffix.lower() == ".json" and path.is_file() else None
    return isinstance(document, dict) and {"images", "annotations"} <= set(document)


def read_coco(path: Path) -> Iterator[Labelled]:
    """Every image of the file, those without annotations too; raises BlemishError where the file cannot be read."""
    document = read_document(path)
    names = {one.get("id"): str(one.get("name")) for one in listed(document, "categories") if isinstance(one, dict)}
    of_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for annotation in listed(document, "annotations"):
        if isinstance(annotation, dict):
            of_image[annotation.get("image_id")].append(annotation)
    for image in listed(document, "images"):
        if isinstance(image, dict) and isinstance(image.get("file_name"), str):
            drawn = Drawn()
            for one in of_image.get(image.get("id"), []):
                label = names.get(one.get("category_id"), f"class_{one.get('category_id')}")
                drawn.add("a region", lambda one=one, label=label: _shape(one, label))  # type: ignore[misc]
            yield Labelled(
                image["file_name"], tuple(drawn.shapes), size_of(image, "height", "width"), tuple(drawn.refused)
            )


def _shape(annotation: dict[str, Any], label: str) -> Shape:
    found = annotation.get("segmentation")
    if isinstance(found, dict):
        counts, (height, width) = found["counts"], found["size"]
        counts = coco_counts(counts) if isinstance(counts, str) else counts
        return Shape(label, marks=marks_of_counts(counts, (height, width), by_columns=True))
    if found:
        return Shape(label, tuple(points_of(values) for values in found))
    return Shape(label, (box_points(*annotation["bbox"]),), is_box=True)
