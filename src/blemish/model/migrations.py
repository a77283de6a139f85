"""What older versions of blemish wrote, brought to what this one reads: model.json by its version, tensors by names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

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
    """A file lay under its own name, the category was the folder's name, and the first Gaussians had one scale."""
    options = {"scales": [0.0]} if document["model"] in ("padim", "ensemble") else {}
    files = {name: name for name in document["sha256"]}
    category = folder.resolve().name
    return {"files": files, "category": category} | document | {"options": options | document["options"]}


STEPS: tuple[Callable[[Document, Path], Document], ...] = (_from_1, _from_2, _from_3)
"""What brings version 1 to 2, 2 to 3, and so on."""


def migrated_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a detector as it has them now.

    By their names, not by the version of model.json: a folder whose model.json was written anew keeps its tensors.
    """
    for migrate in (_own_features, _one_scale, _no_weights):
        tensors = migrate(tensors)
    return tensors


def _own_features(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """PatchCore held what its features had learned, took no mean off them, and could not take in further images."""
    found = dict(tensors)
    for prefix in _prefixes(found, "bank"):
        if f"{prefix}projection" in found:
            for name in ("mean", "projection"):
                found[f"{prefix}features.{name}"] = found.pop(f"{prefix}{name}")
            projection = found[f"{prefix}features.projection"]
            found[f"{prefix}centre"] = projection.new_zeros(projection.shape[1])
            found[f"{prefix}radius"] = projection.new_zeros(())
    return found


def _one_scale(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """PaDiM's Gaussians were of one scale, which needs no loudness."""
    found = dict(tensors)
    for prefix in _prefixes(found, "factor"):
        found.setdefault(f"{prefix}offset", found[f"{prefix}factor"].new_zeros(1))
        found.setdefault(f"{prefix}loudness", found[f"{prefix}factor"].new_ones(1))
    return found


def _no_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The ensemble added both distances as they were."""
    found = dict(tensors)
    for prefix in _prefixes(found, "padim.factor"):
        found.setdefault(f"{prefix}weight", found[f"{prefix}padim.factor"].new_ones(2))
    return found


def _prefixes(tensors: dict[str, Tensor], name: str) -> list[str]:
    """What stands before the tensors of this name: "" where it is the detector's own."""
    return [full.removesuffix(name) for full in tensors if full == name or full.endswith(f".{name}")]
