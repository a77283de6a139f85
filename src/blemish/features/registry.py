"""The features, by name: the filter banks, and every network of timm."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import torch

from blemish.features.base import FILTER_BANKS, Backbone


def create_backbone(
    name: str, layers: Sequence[int] = (), weights: str = "hub", dtype: torch.dtype = torch.float32
) -> Backbone:
    """The backbone of this name, not fitted yet. Raises BlemishError where there is none, or none of these layers.

    The dtype is what a network computes in; filters have to cancel, so theirs is always float32.
    """
    if name in FILTER_BANKS:
        module, _, cls = FILTER_BANKS[name].partition(":")
        found: Backbone = getattr(import_module(module), cls)()
        return found
    from blemish.features.timm_features import NetworkFeatures

    return NetworkFeatures(name, layers, weights, dtype)
