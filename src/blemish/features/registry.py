"""The features, by name: the filter banks, and every network of timm."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import torch

from blemish.errors import BlemishError, check_new_name, shown
from blemish.features.base import FILTER_BANKS, Backbone


def create_backbone(
    name: str, layers: Sequence[int] = (), weights: str = "hub", dtype: torch.dtype = torch.float32
) -> Backbone:
    """The backbone of this name, not fitted yet. Raises BlemishError where there is none, or none of these layers.

    The dtype is what a network computes in; filters have to cancel, so theirs is always float32.
    """
    if name in FILTER_BANKS:
        registered = FILTER_BANKS[name]
        if not isinstance(registered, str):
            return registered()
        module, _, cls = registered.partition(":")
        found: Backbone = getattr(import_module(module), cls)()
        return found
    from blemish.features.timm_features import NetworkFeatures

    return NetworkFeatures(name, layers, weights, dtype)


def register_features(name: str, cls: type[Backbone]) -> None:
    """Makes features known by a name, as the `backbone` of the detectors that compare features.

    They are made without arguments, and are fitted to good images or need no fitting. Raises BlemishError where the
    name is taken, or the class is none of features.
    """
    check_new_name("features", name, FILTER_BANKS)
    if not isinstance(cls, type) or not issubclass(cls, Backbone):
        raise BlemishError(f"features {name}: {shown(cls)} is no class of blemish.features.base.Backbone.")
    if missing := sorted(cls.__abstractmethods__):
        raise BlemishError(f"features {name}: {cls.__name__} has no {', '.join(missing)}. Write what is missing.")
    FILTER_BANKS[name] = cls
