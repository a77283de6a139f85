"""Migrations of model.json: each step converts a format version to the next one.

Tensors are converted by their names in `state_keys`, because a rewritten model.json may refer to old tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Document = dict[str, Any]


def migrated(document: Document, folder: Path) -> Document:
    """A copy of `document`, the content of the model.json in `folder`, converted to the newest format version.

    Raises KeyError, TypeError, ValueError or AttributeError if it is damaged.
    """
    for step in STEPS[document["format_version"] - 1 :]:
        document = step(document, folder)
    return document


def _from_1(document: Document, folder: Path) -> Document:  # noqa: ARG001 - a step's signature
    """Adds the calibration, the metrics, tiles and the region of interest."""
    preprocess = {"tile": None, "overlap": 0, "roi": None} | document["preprocess"]
    return {"calibration": None, "metrics": {}, "exports": {}} | document | {"preprocess": preprocess}


def _from_2(document: Document, folder: Path) -> Document:  # noqa: ARG001
    """Adds the alignment."""
    return document | {"preprocess": {"reference": None} | document["preprocess"]}


def _from_3(document: Document, folder: Path) -> Document:
    """Adds the paths of files, which were equal to their names, and the category, which was the name of the folder."""
    return {"files": {name: name for name in document["sha256"]}, "category": folder.resolve().name} | document


STEPS: tuple[Callable[[Document, Path], Document], ...] = (_from_1, _from_2, _from_3)
"""The steps from version 1 to 2, 2 to 3, and so on."""
