"""Translates the tensor names that earlier versions of blemish saved into the names of today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

BANK = ("centre", "bank", "weight", "radius")
ON_FEATURES = "ensemble", "padim", "patchcore", "selfsup"
"""The detectors of blemish that have a backbone."""
GAUSSIANS = ("projection", "mean", "factor", "count", "offset", "loudness")
"""Buffers that a PatchCore and a PaDiM once had themselves, before `memory` and `gaussians` held them."""
PARTS = {
    "patchcore.features.": "features.",
    "patchcore.": "memories.0.",
    "memory.": "memories.0.",
    "padim.": "gaussians.",
}
"""Prefix in an ensemble that was made of two detectors, or had one memory bank -> prefix today."""


def renamed(model: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the detector `model` under the names of today.

    What earlier versions did not save is added with the value that they computed with. Names of today stay as they are.
    """
    if model == "patchcore":
        return _bank_renamed(tensors)
    if model == "padim":
        return _gaussians_renamed({_in_gaussians(name): value for name, value in tensors.items()})
    if model == "ensemble":
        return _ensemble_renamed(tensors)
    if model == "selfsup":
        return _selfsup_renamed(tensors)
    return dict(tensors)


def completed(model: str, options: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The options of a detector; those that did not exist yet have the values that it computed with.

    `auto` as backbone, or none, was written by versions for which it was gabor.
    """
    prefix = {"padim": "", "ensemble": "padim.", "selfsup": "known.padim."}.get(model)
    is_of_one_scale = prefix is not None and f"{prefix}mean" in tensors and f"{prefix}offset" not in tensors
    found = dict(options) | ({"scales": (0.0,)} if is_of_one_scale and not options.get("scales") else {})
    if model in ("ensemble", "selfsup"):
        found.setdefault("top_share", 0.0)
    if found.get("backbone", "auto" if model in ON_FEATURES else None) == "auto":
        found["backbone"] = "gabor"
    return found


def _bank_renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {f"memory.{name}" if name in BANK else name: value for name, value in tensors.items()}
    if "projection" in found:  # format 1, in which the filter bank's projection was the detector's own
        found |= {f"features.{name}": found.pop(name) for name in ("mean", "projection")}
        found |= {"memory.centre": torch.zeros(found["features.projection"].shape[1]), "memory.radius": torch.zeros(())}
    return found


def _in_gaussians(name: str) -> str:
    return f"gaussians.{name}" if name in GAUSSIANS else name


def _gaussians_renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Calls the normalisation's scale so, and adds offset and scale where there was a single Gaussian scale."""
    found = dict(tensors)
    if "gaussians.loudness" in found:
        found["gaussians.scale"] = found.pop("gaussians.loudness")
    if "gaussians.mean" in found:
        found.setdefault("gaussians.offset", torch.zeros(1))
        found.setdefault("gaussians.scale", torch.ones(1))
    return found


def _ensemble_renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        old = next((part for part in PARTS if name.startswith(part)), None)
        found[PARTS[old] + name.removeprefix(old) if old else name] = value
    if "offset" in found:  # before there were weights, both distances were added
        found.setdefault("weight", torch.ones(2))
    return _gaussians_renamed(found)


def _selfsup_renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The ensemble within the detector was once called `known`."""
    own: dict[str, Tensor] = {}
    ensemble: dict[str, Tensor] = {}
    for name, value in tensors.items():
        prefix, _, rest = name.partition(".")
        if prefix in ("known", "ensemble"):
            ensemble[rest] = value
        else:
            own[name] = value
    return own | {f"ensemble.{name}": value for name, value in _ensemble_renamed(ensemble).items()}
