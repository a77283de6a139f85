"""The detectors, by name. A new one is a file here and a line in DETECTORS."""

from __future__ import annotations

from importlib import import_module
from inspect import Parameter
from typing import TYPE_CHECKING

from blemish.errors import BlemishError, check_new_name, shown

if TYPE_CHECKING:
    from blemish.detectors.base import Detector

DETECTORS: dict[str, str | type[Detector]] = {
    "ae": "blemish.detectors.autoencoder:Autoencoder",
    "ensemble": "blemish.detectors.ensemble:Ensemble",
    "padim": "blemish.detectors.padim:PaDiM",
    "patchcore": "blemish.detectors.patchcore:PatchCore",
    "selfsup": "blemish.detectors.selfsup:SelfSupervised",
    "vae": "blemish.detectors.vae:VariationalAutoencoder",
}
"""Name -> its class, or where that is, so that the names are known without importing torch."""


def detector_class(name: str) -> type[Detector]:
    """The class registered under `name`; raises BlemishError for a name that is not."""
    if name not in DETECTORS:
        raise BlemishError(f"model {name}: not a detector. Choose from: {', '.join(sorted(DETECTORS))}.")
    registered = DETECTORS[name]
    if not isinstance(registered, str):
        return registered
    module, attribute = registered.split(":")
    found: type[Detector] = getattr(import_module(module), attribute)
    return found


def register_detector(name: str, cls: type[Detector]) -> None:
    """Makes a detector known by a name, to `fit`, to the commands, and to models that are loaded.

    Raises BlemishError where the name is taken, or the class is no detector whose options all have a type and a
    default.
    """
    from blemish.detectors.base import Detector

    check_new_name("detector", name, DETECTORS)
    if not isinstance(cls, type) or not issubclass(cls, Detector):
        raise BlemishError(f"detector {name}: {shown(cls)} is no class of blemish.detectors.base.Detector.")
    if missing := sorted(cls.__abstractmethods__):
        raise BlemishError(f"detector {name}: {cls.__name__} has no {', '.join(missing)}. Write what is missing.")
    try:
        fields = cls.option_fields()
    except KeyError as error:
        raise BlemishError(f"detector {name}: {cls.__name__} has an option without a type: {error}.") from None
    if bare := [option for option, (_, default) in fields.items() if default is Parameter.empty]:
        raise BlemishError(f"detector {name}: {cls.__name__} has options without a default: {', '.join(bare)}.")
    DETECTORS[name] = cls
