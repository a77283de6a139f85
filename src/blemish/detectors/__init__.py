"""Detectors by name. A new detector takes a module here and a line in DETECTORS."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from blemish.errors import BlemishError

if TYPE_CHECKING:
    from blemish.detectors.base import Detector

DETECTORS = {
    "ae": "blemish.detectors.autoencoder:Autoencoder",
    "ensemble": "blemish.detectors.ensemble:Ensemble",
    "padim": "blemish.detectors.padim:PaDiM",
    "patchcore": "blemish.detectors.patchcore:PatchCore",
    "selfsup": "blemish.detectors.selfsup:SelfSupervised",
    "vae": "blemish.detectors.vae:VariationalAutoencoder",
}
"""Name -> module:class, as strings, so that the names can be listed without importing torch."""


def detector_class(name: str) -> type[Detector]:
    """The class registered under `name`; raises BlemishError where there is none."""
    if name not in DETECTORS:
        raise BlemishError(f"model {name}: not a detector. Choose from: {', '.join(sorted(DETECTORS))}.")
    module, attribute = DETECTORS[name].split(":")
    found: type[Detector] = getattr(import_module(module), attribute)
    return found
