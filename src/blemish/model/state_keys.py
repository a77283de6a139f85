"""Migrations of tensor names: state dicts of earlier versions, converted to the names of this one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

BANK = ("centre", "bank", "weight", "radius")
GAUSSIANS = ("projection", "mean", "factor", "count", "offset", "loudness")
PREFIXES = {"ensemble": "", "selfsup": "known."}
"""Detector -> prefix of its ensemble's tensors."""


def renamed(model: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the detector `model` under their present names; tensors that early versions lack are added."""
    if model == "patchcore":
        return _bank_renamed(tensors)
    if model == "padim":
        return _gaussians_renamed(tensors)
    if model in PREFIXES:
        return _ensemble_renamed(tensors, PREFIXES[model])
    return dict(tensors)


def completed(model: str, options: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The options of the detector `model`; a state without an offset per scale is of a version with one scale."""
    prefix = {"padim": "", "ensemble": "padim.", "selfsup": "known.padim."}.get(model)
    is_of_one_scale = prefix is not None and f"{prefix}mean" in tensors and f"{prefix}offset" not in tensors
    return dict(options) | ({"scales": (0.0,)} if is_of_one_scale and not options.get("scales") else {})


def _bank_renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {f"memory.{name}" if name in BANK else name: value for name, value in tensors.items()}
    if "projection" in found:  # format version 1
        found |= {f"features.{name}": found.pop(name) for name in ("mean", "projection")}
        found |= {"memory.centre": torch.zeros(found["features.projection"].shape[1]), "memory.radius": torch.zeros(())}
    return found


def _gaussians_renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {f"gaussians.{name}" if name in GAUSSIANS else name: value for name, value in tensors.items()}
    if "gaussians.mean" in found:  # written before there were several scales
        found.setdefault("gaussians.offset", torch.zeros(1))
        found.setdefault("gaussians.loudness", torch.ones(1))
    return found


def _ensemble_renamed(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    parts = {"patchcore.features.": "features.", "patchcore.": "memory.", "padim.": "gaussians."}
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        own = name.removeprefix(prefix)
        old = next((part for part in parts if name.startswith(prefix) and own.startswith(part)), None)
        found[f"{prefix}{parts[old]}{own.removeprefix(old)}" if old else name] = value
    if f"{prefix}gaussians.mean" in found:
        found.setdefault(f"{prefix}gaussians.offset", torch.zeros(1))
        found.setdefault(f"{prefix}gaussians.loudness", torch.ones(1))
    if f"{prefix}offset" in found:  # written before the distances had weights
        found.setdefault(f"{prefix}weight", torch.ones(2))
    return found
