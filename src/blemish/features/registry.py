"""Backbones by name: the filter banks, and every network of timm."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import torch

from blemish.features.base import FILTER_BANKS, Backbone


def create_backbone(
    name: str, layers: Sequence[int] = (), weights: str = "hub", dtype: torch.dtype = torch.float32
) -> Backbone:
    """A backbone of this name, not fitted yet; raises BlemishError for an unknown name, and for layers it lacks.

    A network computes in `dtype`; filter banks always in float32, since their responses are differences.
    """
    if name in FILTER_BANKS:
        module, _, cls = FILTER_BANKS[name].partition(":")
        found: Backbone = getattr(import_module(module), cls)()
        return found
    from blemish.features.timm_features import NetworkFeatures

    return NetworkFeatures(name, layers, weights, dtype)
