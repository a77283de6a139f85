"""blemish finds defects in images of manufactured parts, having seen only good ones.

    model = blemish.fit("parts/good")
    result = model.predict("part.png")
    result.score, result.is_defect, result.map

What is imported here is loaded when it is first used: `import blemish` imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blemish.data.category import register_layout
    from blemish.detectors import register_detector
    from blemish.errors import BlemishError
    from blemish.features.registry import register_features
    from blemish.library.learning import fit
    from blemish.library.measuring import benchmark, evaluate, report
    from blemish.library.model import Model, load
    from blemish.library.result import Result
    from blemish.metrics.table import register_metric

__version__ = "0.1.0"

_PLACES = {
    "BlemishError": "blemish.errors",
    "Model": "blemish.library.model",
    "Result": "blemish.library.result",
    "benchmark": "blemish.library.measuring",
    "evaluate": "blemish.library.measuring",
    "fit": "blemish.library.learning",
    "load": "blemish.library.model",
    "register_detector": "blemish.detectors",
    "register_features": "blemish.features.registry",
    "register_layout": "blemish.data.category",
    "register_metric": "blemish.metrics.table",
    "report": "blemish.library.measuring",
}
"""Public name -> the module that it is in."""
__all__ = [
    "BlemishError",
    "Model",
    "Result",
    "benchmark",
    "evaluate",
    "fit",
    "load",
    "register_detector",
    "register_features",
    "register_layout",
    "register_metric",
    "report",
]


if not TYPE_CHECKING:  # which knows every name, and tells of one that is not

    def __getattr__(name: str) -> Any:
        """A public name, loaded when it is first used; BlemishError where a package that it needs is not installed."""
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from blemish.errors import extras

        with extras():
            found = globals()[name] = getattr(import_module(_PLACES[name]), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
