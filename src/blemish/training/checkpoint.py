"""Where a training stands, as one safetensors file whose header carries plain data: what `--resume` goes on from."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from blemish.errors import BlemishError
from blemish.files import check_file, write_tensors

SAVING_SHARE = 0.05
"""At most this part of the time goes into checkpoints (beside the last one)."""


@dataclass(frozen=True, slots=True)
class History:
    """Losses per epoch. The weights that were kept are those after `best_epoch` (counted from 0)."""

    train: tuple[float, ...] = ()
    validation: tuple[float, ...] = ()
    """The training losses again where there are no validation images."""

    @property
    def best_epoch(self) -> int:
        """The epoch with the lowest validation loss, the first of equals."""
        return int(np.argmin(self.validation))

    def to_plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"train": self.train, "validation": self.validation, "best_epoch": self.best_epoch}

    def __add__(self, losses: tuple[float, float]) -> History:
        return History((*self.train, losses[0]), (*self.validation, losses[1]))


@dataclass(slots=True)
class State:
    """All that a checkpoint holds beside the weights and the optimiser."""

    epoch: int = 0
    step: int = 0
    """Steps done in this epoch."""
    total: float = 0.0
    """Sum of this epoch's losses so far."""
    seconds: float = 0.0
    """That the steps took so far."""
    history: History = field(default_factory=History)
    best: dict[str, Tensor] = field(default_factory=dict)
    """The weights after the best epoch."""
    average: dict[str, Tensor] = field(default_factory=dict)
    """The mean of each parameter over the last steps, of a detector that takes it."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A file for the state of one training, and what has to be equal for another one to go on from it."""

    path: Path
    fingerprint: dict[str, Any]
    """As JSON gives it back."""

    def write(self, module: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
        """Writes it, whole or not at all."""
        header = {
            "fingerprint": self.fingerprint,
            "epoch": state.epoch,
            "step": state.step,
            "total": state.total,
            "seconds": state.seconds,
            "train": state.history.train,
            "validation": state.history.validation,
        }
        tensors = {f"model.{name}": value for name, value in module.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in state.best.items()}
        tensors |= {f"average.{name}": value for name, value in state.average.items()}
        tensors |= {f"optimizer.{name}": value for name, value in _optimizer_tensors(optimizer).items()}
        write_tensors(self.path, tensors, {"state": json.dumps(header)})

    def restore(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> State:
        """Brings module and optimiser to where the checkpoint left them, and gives the state.

        Raises BlemishError where the file is damaged or of another training.
        """
        check_file(self.path)
        try:
            with safe_open(self.path, "pt") as file:
                header = json.loads((file.metadata() or {})["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            self._check(header["fingerprint"])
            module.load_state_dict(_under("model.", tensors))
            _restore_optimizer(optimizer, _under("optimizer.", tensors))
            history = History(tuple(header["train"]), tuple(header["validation"]))
            best, average = _under("best.", tensors), _under("average.", tensors)
            return State(header["epoch"], header["step"], header["total"], header["seconds"], history, best, average)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise BlemishError(
                f"{self.path}: not a readable checkpoint ({reason}). Leave --resume out to start over."
            ) from None

    def _check(self, saved: dict[str, Any]) -> None:
        for name, value in self.fingerprint.items():
            if saved.get(name) != value:
                raise BlemishError(
                    f"{self.path}: was made with {name} = {saved.get(name)}, this run has {value}. "
                    "Use the same settings, or leave --resume out to start over."
                )


class Saver:
    """Calls `save` often enough to lose little, and seldom enough to cost little."""

    def __init__(self, save: Callable[[], None]):
        self._save = save
        self._last, self._cost = time.monotonic(), 0.0
        self.due_at_end = False

    def save_if_due(self) -> None:
        """Saves where the last time is long enough ago for what it cost."""
        self.due_at_end = True
        if time.monotonic() - self._last >= self._cost / SAVING_SHARE:
            self.save()

    def save(self) -> None:
        """Saves now."""
        start = time.monotonic()
        self._save()
        self._last = time.monotonic()
        self._cost = self._last - start
        self.due_at_end = False


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors: `<parameter's number>.<key>`."""
    state: dict[int, dict[str, Tensor]] = optimizer.state_dict()["state"]
    return {f"{number}.{key}": value for number, values in state.items() for key, value in values.items()}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts back what `_optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, key = name.split(".")
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
