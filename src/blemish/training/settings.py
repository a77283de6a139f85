"""The settings of a training: epochs, batch size, learning rate and its schedule, device, checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blemish.features.devices import DeviceName, Precision

Schedule = Callable[[float], float]
"""Share of the training that is done, in [0, 1] -> factor of the learning rate."""


def constant(done: float) -> float:  # noqa: ARG001 - a schedule's signature
    """The schedule of a constant learning rate."""
    return 1.0


@dataclass(frozen=True, slots=True)
class Training:
    """The settings of a training. `epochs`, `patience`, `max_steps` and `max_seconds` all limit its length."""

    epochs: int = 100
    batch_size: int = 32
    """Examples per step, over all processes together."""
    learning_rate: float = 1e-3
    patience: int = 0
    """Epochs without a lower validation loss after which training stops; 0: never."""
    max_steps: int | None = None
    """Optimiser steps after which training stops, also within an epoch; None: no limit."""
    max_seconds: float | None = None
    """Seconds after which training stops, including those before it was resumed; None: no limit."""
    clip_norm: float | None = None
    """Norm of all gradients together above which they are scaled down to it; None: no clipping."""
    device: DeviceName = "auto"
    precision: Precision = "auto"
    """bfloat16, float32, or auto: bfloat16 where the hardware supports it."""
    checkpoint: Path | None = None
    """File to which the state is saved during training and on Ctrl-C; None: no checkpoint."""
    resume: bool = False
    """Whether to continue from the checkpoint, where the file exists."""
