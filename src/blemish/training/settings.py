"""How a detector is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blemish.features.devices import DeviceName, Precision

Schedule = Callable[[float], float]
"""From the part of the training that is done, in [0, 1], to what the learning rate is multiplied by."""


def constant(done: float) -> float:  # noqa: ARG001 - a schedule's signature
    """The schedule of a learning rate that stays as it is."""
    return 1.0


@dataclass(frozen=True, slots=True)
class Training:
    """How a detector is trained, and where its state is kept meanwhile."""

    epochs: int = 100
    batch_size: int = 32
    """Images per step, over all processes."""
    learning_rate: float = 1e-3
    patience: int = 0
    """Epochs without a lower validation loss before stopping; 0: never."""
    max_steps: int | None = None
    """Steps of the optimiser after which the training ends, within an epoch too; None: as many as the epochs have."""
    max_seconds: float | None = None
    """Seconds after which the training ends, those before a resumption counted in; None: no limit."""
    clip_norm: float | None = None
    """Largest norm of all gradients together, above which they are scaled down to it; None: never."""
    device: DeviceName = "auto"
    precision: Precision = "auto"
    """bfloat16, float32, or auto: bfloat16 where the hardware computes in it."""
    checkpoint: Path | None = None
    """File that the state is saved to as training goes on, and on Ctrl-C; None: none."""
    resume: bool = False
    """Go on from the checkpoint where it is there."""
