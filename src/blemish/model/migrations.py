"""The model.json that older versions of blemish wrote, brought to what this one reads, a step for each version.

Tensors are brought to theirs by their names (`state_keys`): where model.json was written anew they are as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Document = dict[str, Any]


def migrated(document: Document, folder: Path) -> Document:
    """The content of a model.json of any version in `folder`, as the newest version has it; `document` is unchanged.

    Raises KeyError, TypeError, ValueError or AttributeError where it is damaged.
    """
    for step in STEPS[document["format_version"] - 1 :]:
        document = step(document, folder)
    return document


def _from_1(document: Document, folder: Path) -> Document:  # noqa: ARG001 - a step's signature
    """There were no calibration, figures, tiles and regions of interest."""
    preprocess = {"tile": None, "overlap": 0, "roi": None} | document["preprocess"]
    return {"calibration": None, "metrics": {}, "exports": {}} | document | {"preprocess": preprocess}


def _from_2(document: Document, folder: Path) -> Document:  # noqa: ARG001
    """Images were taken as they lie."""
    return document | {"preprocess": {"reference": None} | document["preprocess"]}


def _from_3(document: Document, folder: Path) -> Document:
    """A file lay under its own name, and the folder's name stood for the category."""
    return {"files": {name: name for name in document["sha256"]}, "category": folder.resolve().name} | document


STEPS: tuple[Callable[[Document, Path], Document], ...] = (_from_1, _from_2, _from_3)
"""What brings version 1 to 2, 2 to 3, and so on."""
