"""Checkpoints: the state of a training in one safetensors file, from which `--resume` continues."""

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
"""Largest share of the time that is spent on writing checkpoints (the last one not counted)."""


@dataclass(frozen=True, slots=True)
class History:
    """The mean losses of each epoch. The trained detector has the weights after `best_epoch` (counted from 0)."""

    train: tuple[float, ...] = ()
    validation: tuple[float, ...] = ()
    """Equal to `train` where there are no validation images."""

    @property
    def best_epoch(self) -> int:
        """The epoch with the lowest validation loss; of equal ones the first."""
        return int(np.argmin(self.validation))

    def to_plain(self) -> dict[str, Any]:
        """A dict for JSON: train, validation, best_epoch."""
        return {"train": self.train, "validation": self.validation, "best_epoch": self.best_epoch}

    def __add__(self, losses: tuple[float, float]) -> History:
        return History((*self.train, losses[0]), (*self.validation, losses[1]))


@dataclass(slots=True)
class State:
    """The state of a training, beside the weights and the optimiser's state."""

    epoch: int = 0
    """Number of finished epochs."""
    step: int = 0
    """Number of finished steps of the current epoch."""
    total: float = 0.0
    """Sum of the losses of the current epoch so far."""
    seconds: float = 0.0
    """Time spent on training steps so far."""
    history: History = field(default_factory=History)
    best: dict[str, Tensor] = field(default_factory=dict)
    """The weights after the best epoch."""
    average: dict[str, Tensor] = field(default_factory=dict)
    """The exponential moving average of each parameter; empty for a detector without one."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint file of one training."""

    path: Path
    fingerprint: dict[str, Any]
    """The settings and the data of the training, as JSON values: a training continues only from a checkpoint with the
    same fingerprint."""

    def write(self, module: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
        """Writes the file; it is replaced as a whole or, on an error, not at all."""
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
        """Loads the weights into the module and the optimiser's state into the optimiser, and returns the rest.

        Raises BlemishError where the file is damaged, or its fingerprint differs.
        """
        check_file(self.path)
        try:
            with safe_open(self.path, "pt") as file:
                header = json.loads((file.metadata() or {})["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            self._check(header["fingerprint"])
            module.load_state_dict(_with_prefix("model.", tensors))
            _restore_optimizer(optimizer, _with_prefix("optimizer.", tensors))
            history = History(tuple(header["train"]), tuple(header["validation"]))
            best, average = _with_prefix("best.", tensors), _with_prefix("average.", tensors)
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
                    "Use the same settings, or leave resume out to start over."
                )


def fingerprint_in(path: Path) -> dict[str, Any]:
    """The fingerprint of the checkpoint in this file; empty where none is readable, of which `restore` says why."""
    try:
        with safe_open(path, "pt") as file:
            return dict(json.loads((file.metadata() or {})["state"])["fingerprint"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return {}


class Saver:
    """Saves as often as possible while saving takes at most SAVING_SHARE of the time."""

    def __init__(self, save: Callable[[], None]):
        self._save = save
        self._last, self._cost = time.monotonic(), 0.0
        self.due_at_end = False
        """Whether there is progress that is not saved yet."""

    def save_if_due(self) -> None:
        """Saves where enough time has passed since the last save, relative to the time that it took."""
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
    """The optimiser's state as tensors named `<number of the parameter>.<key>`."""
    state: dict[int, dict[str, Tensor]] = optimizer.state_dict()["state"]
    return {f"{number}.{key}": value for number, values in state.items() for key, value in values.items()}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Loads the tensors of `_optimizer_tensors` into the optimiser."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, key = name.split(".")
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
