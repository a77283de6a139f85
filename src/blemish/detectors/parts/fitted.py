"""What every module has that is fitted in closed form."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn

logger = logging.getLogger("blemish")


class Fitted(nn.Module):
    """A module whose learned buffers have shapes that depend on the data, and that records what it chose and why."""

    def __init__(self) -> None:
        super().__init__()
        self.choices: dict[str, Any] = {}
        """Options that were left open, and what `fit` chose for them."""
        self.reasons: list[str] = []
        """Why, a sentence for each choice."""
        self._learned: list[str] = []

    def _add_learned(self, name: str, dimensions: int, dtype: torch.dtype = torch.float32) -> None:
        """Registers an empty buffer that `fit` fills; loading takes the shape that was saved."""
        self.register_buffer(name, torch.empty((0,) * dimensions, dtype=dtype))
        self._learned.append(name)

    def _choose(self, choices: dict[str, Any], reason: str) -> None:
        self.choices |= choices
        self.reasons.append(reason)
        logger.info("%s", reason)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in self._learned:
            saved, own = state_dict.get(prefix + name), getattr(self, name)
            if saved is not None and saved.ndim == own.ndim:  # otherwise torch says what does not fit
                setattr(self, name, own.new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)
