"""The detectors, by name. A new one is a file here and a line in DETECTORS."""

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
"""Name -> where its class is, so that the names are known without importing torch."""


def detector_class(name: str) -> type[Detector]:
    """The class registered under `name`; raises BlemishError for a name that is not."""
    if name not in DETECTORS:
        raise BlemishError(f"model {name}: not a detector. Choose from: {', '.join(sorted(DETECTORS))}.")
    module, attribute = DETECTORS[name].split(":")
    found: type[Detector] = getattr(import_module(module), attribute)
    return found
