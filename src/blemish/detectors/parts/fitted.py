"""The base class of modules that are fitted in closed form."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn

logger = logging.getLogger("blemish")


class Fitted(nn.Module):
    """A module with learned buffers whose shapes depend on the data, and a record of the options that it chose."""

    def __init__(self) -> None:
        super().__init__()
        self.choices: dict[str, Any] = {}
        """Name of an option that was left open -> the value that `fit` chose."""
        self.reasons: list[str] = []
        """A sentence for each choice that says why."""
        self._learned: list[str] = []

    def _add_learned(self, name: str, dimensions: int, dtype: torch.dtype = torch.float32) -> None:
        """Registers an empty buffer that `fit` replaces; loading a state gives it the saved shape."""
        self.register_buffer(name, torch.empty((0,) * dimensions, dtype=dtype))
        self._learned.append(name)

    def _choose(self, choices: dict[str, Any], reason: str) -> None:
        """Records and logs a choice."""
        self.choices |= choices
        self.reasons.append(reason)
        logger.info("%s", reason)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in self._learned:
            saved, own = state_dict.get(prefix + name), getattr(self, name)
            if saved is not None and saved.ndim == own.ndim:  # otherwise torch raises its error for a wrong shape
                setattr(self, name, own.new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)
