"""The training loop of all detectors that learn by gradient descent: epochs, validation, checkpoints, resuming.

No random state is carried from step to step: the order of the examples, and all that a detector draws at random, depend
only on (seed, epoch, image). So a resumed training gives the same bits as one without interruption, and several
processes draw the same numbers as one.
"""

from __future__ import annotations

import hashlib
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from blemish.data.source import ImageSource, in_batches
from blemish.errors import BlemishError
from blemish.features.devices import accelerator_on, uses_bfloat16
from blemish.imaging.preprocess import Preprocess
from blemish.parallel import map_ahead
from blemish.progress import Progress, no_progress

if TYPE_CHECKING:
    from blemish.detectors.base import LearningDetector
from blemish.training.checkpoint import Checkpoint, History, Saver, State
from blemish.training.settings import Schedule, Training

_Examples = tuple[Tensor, ...]


def train(
    detector: LearningDetector,
    images: ImageSource,
    validation: ImageSource | None = None,
    settings: Training | None = None,
    *,
    seed: int = 0,
    progress: Progress = no_progress,
) -> History:
    """Trains the detector from new random weights and returns its losses.

    The detector gets the weights of the epoch with the lowest validation loss, or the lowest training loss without
    `validation`. Raises BlemishError where the loss is no longer finite, and where the checkpoint belongs to another
    training; raises KeyboardInterrupt on Ctrl-C and SIGTERM, after saving the checkpoint.
    """
    settings = settings or Training()
    accelerator = accelerator_on(settings.device)
    initialise(detector.cpu(), seed)  # on the CPU, since a GPU draws other numbers
    detector.to(accelerator.device).prepare(images, validation, seed)
    module = _Losses(detector).to(accelerator.device)
    optimizer, schedule = detector.configure_optimizer(settings.learning_rate)
    loop = _Loop(detector, optimizer, schedule, images, validation, settings, seed, accelerator)
    checkpoint = Checkpoint(settings.checkpoint, loop.fingerprint()) if settings.checkpoint else None
    if settings.resume and checkpoint and checkpoint.path.exists():
        loop.state = checkpoint.restore(detector.trained, optimizer)
    module, _ = accelerator.prepare(module, optimizer)
    with torch.backends.cudnn.flags(enabled=True, deterministic=True):
        loop.run(module, checkpoint if accelerator.is_main_process else None, progress)
    detector.trained.load_state_dict(loop.state.best)
    detector.eval()
    detector.finish()
    detector.is_fitted = True
    return loop.state.history


def initialise(detector: nn.Module, seed: int) -> None:
    """Draws new random weights of all layers from the seed, so that a second fit does not depend on the first."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in detector.modules():
            reset = getattr(module, "reset_parameters", None)
            if reset is not None:
                reset()


class _Losses(nn.Module):
    """Computes the detector's losses in `forward`, whose gradients torch averages over several processes."""

    def __init__(self, detector: LearningDetector):
        super().__init__()
        self.detector = detector

    def forward(self, *examples: Tensor) -> Tensor:
        return self.detector.losses(*examples)


class _Loop:
    """One training: its state, and the steps that change it."""

    def __init__(
        self,
        detector: LearningDetector,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        images: ImageSource,
        validation: ImageSource | None,
        settings: Training,
        seed: int,
        accelerator: Accelerator,
    ):
        self.detector, self.accelerator = detector, accelerator
        self.optimizer, self.schedule = optimizer, schedule
        self.learning_rates = [float(group["lr"]) for group in optimizer.param_groups]
        self.images, self.validation = images, validation
        self.num_examples = detector.num_examples(images)
        self.settings, self.seed = settings, seed
        self.bfloat16 = uses_bfloat16(settings.precision, accelerator.device)
        self.num_steps = -(-self.num_examples // settings.batch_size)
        """Number of steps per epoch."""
        self.total_steps = min(settings.epochs * self.num_steps, settings.max_steps or sys.maxsize)
        self.state = State()

    def run(self, module: nn.Module, checkpoint: Checkpoint | None, progress: Progress) -> None:
        """Trains from the current state to the end, and saves checkpoints."""
        state = self.state
        saver = Saver(partial(self._save, checkpoint))
        with _interrupts() as interrupted:
            while not self._is_over():
                for rows, examples in map_ahead(self._examples, self._batches(), workers=1):
                    started = time.monotonic()
                    state.total += self._step(module, rows, examples)
                    state.step += 1
                    state.seconds += time.monotonic() - started
                    progress(self._steps_done, self.total_steps, unit="steps", loss=self._mean_loss)
                    if self._any(bool(interrupted)):
                        saver.save()
                        raise KeyboardInterrupt
                    if self._is_spent():
                        break
                self._end_epoch()
                saver.save_if_due()
        if saver.due_at_end:
            saver.save()

    @property
    def _steps_done(self) -> int:
        return self.state.epoch * self.num_steps + self.state.step

    @property
    def _mean_loss(self) -> float:
        """The mean loss of the epoch's examples so far."""
        return self.state.total / min(self.state.step * self.settings.batch_size, self.num_examples)

    @property
    def _share_done(self) -> float:
        """The share of the training that is done, in [0, 1], by steps or by seconds, whichever is larger."""
        by_steps, limit = self._steps_done / self.total_steps, self.settings.max_seconds
        return min(1.0, by_steps if limit is None else max(by_steps, self.state.seconds / limit))

    def _is_spent(self) -> bool:
        """Whether the limit of steps or of seconds is reached, in any process."""
        limit = self.settings.max_seconds
        is_late = limit is not None and self._any(self.state.seconds >= limit)
        return is_late or self._steps_done >= self.total_steps

    def _save(self, checkpoint: Checkpoint | None) -> None:
        if checkpoint is not None:
            checkpoint.write(self.detector.trained, self.optimizer, self.state)

    def _is_over(self) -> bool:
        settings, state = self.settings, self.state
        waited = state.epoch - 1 - state.history.best_epoch if state.epoch else 0
        return state.epoch >= settings.epochs or self._is_spent() or 0 < settings.patience <= waited

    def _batches(self) -> Iterator[list[int]]:
        """The remaining batches of the epoch, each a list of rows."""
        order = np.random.default_rng((self.seed, self.state.epoch)).permutation(self.num_examples).tolist()
        done = self.state.step * self.settings.batch_size
        return in_batches(order[done:], self.settings.batch_size)

    def _examples(self, rows: list[int]) -> tuple[list[int], _Examples]:
        """A batch's rows, and the examples of this process's share of them (of one row where it has none)."""
        share = rows[self.accelerator.process_index :: self.accelerator.num_processes]
        return rows, self._draw_examples(self.images, share or rows[:1], self.state.epoch)

    @torch.no_grad()
    def _draw_examples(self, source: ImageSource, rows: list[int], epoch: int) -> _Examples:
        """The examples of these rows; each epoch, one in `detector.redraw` of the examples gets a new seed."""
        numbers = [(epoch + row) // self.detector.redraw for row in rows]
        seeds = [image_seed(self.seed, number, row) for number, row in zip(numbers, rows, strict=True)]
        return self.detector.examples(source, rows, seeds)

    def _step(self, module: nn.Module, rows: list[int], examples: _Examples) -> float:
        """One optimiser step on a batch, of which each process computes its share; returns the sum of its losses."""
        accelerator = self.accelerator
        has_share = accelerator.process_index < len(rows)
        # A process without a share still takes part in averaging the gradients, with gradients of zero.
        weight = accelerator.num_processes / len(rows) if has_share else 0.0
        losses = self._losses(module, examples)
        accelerator.backward(losses.sum() * weight)
        self._update_weights()
        total = float(accelerator.reduce(losses.detach().sum() * has_share, "sum"))
        if not np.isfinite(total):
            raise BlemishError(
                f"the loss is no longer finite in epoch {self.state.epoch + 1}. "
                f"Lower learning_rate (it is {self.settings.learning_rate}), or use precision float32."
            )
        return total

    def _losses(self, module: nn.Module, examples: _Examples) -> Tensor:
        """The loss of each example, in training mode and in the precision of the settings."""
        device = self.accelerator.device
        self.detector.train()
        moved = [values.to(device, non_blocking=True) for values in examples]
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16):
            losses: Tensor = module(*moved)
        return losses

    def _update_weights(self) -> None:
        """Clips the gradients, steps the optimiser at the scheduled learning rate, and updates the moving average."""
        if self.settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.detector.trained.parameters(), self.settings.clip_norm)
        self._set_learning_rates()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._update_average()

    def _set_learning_rates(self) -> None:
        factor = self.schedule(self._share_done)
        for group, rate in zip(self.optimizer.param_groups, self.learning_rates, strict=True):
            group["lr"] = rate * factor

    @torch.no_grad()
    def _update_average(self) -> None:
        """Updates the exponential moving average of the weights, with a smaller decay during the first steps."""
        if self.detector.ema_decay == 0:
            return
        average = self.state.average
        kept = min(self.detector.ema_decay, (1 + self._steps_done) / (10 + self._steps_done))
        for name, value in self.detector.trained.named_parameters():
            average[name] = average.get(name, value).to(value).lerp(value, 1 - kept)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Within the block the parameters have the values of their moving average, where the detector uses one."""
        parameters = dict(self.detector.trained.named_parameters())
        last = {name: parameters[name].data for name in self.state.average}
        for name, value in self.state.average.items():
            parameters[name].data = value
        yield
        for name, value in last.items():
            parameters[name].data = value

    @torch.no_grad()
    def _validate(self) -> float:
        """The mean loss of the validation examples, which are the same in every epoch."""
        self.detector.eval()
        source, total = self.validation, 0.0
        assert source is not None
        num_examples = self.detector.num_examples(source)
        for rows in in_batches(range(num_examples), self.settings.batch_size):
            examples = (values.to(self.accelerator.device) for values in self._draw_examples(source, rows, 0))
            total += float(self.detector.losses(*examples).sum())
        return total / num_examples

    def _end_epoch(self) -> None:
        """Validates, keeps the weights where the validation loss is the lowest so far, and starts the next epoch."""
        state = self.state
        train_loss = self._mean_loss
        has_validation = self.validation is not None and len(self.validation) > 0
        with self._averaged():
            state.history += (train_loss, self._validate() if has_validation else train_loss)
            if state.history.best_epoch == state.epoch:
                for name, value in self.detector.trained.state_dict().items():
                    state.best.setdefault(name, torch.empty_like(value)).copy_(value)
        state.epoch, state.step, state.total = state.epoch + 1, 0, 0.0

    def _any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.accelerator.num_processes == 1:
            return flag
        return bool(self.accelerator.reduce(torch.tensor(float(flag), device=self.accelerator.device), "sum") > 0)

    def fingerprint(self) -> dict[str, Any]:
        """The settings, options and data that a checkpoint and a training that continues from it have in common."""
        settings = asdict(replace(self.settings, device="", checkpoint=None, resume=False))
        digests = [info.sha256 for info in self.images.files]
        data = f"{len(digests)} images, {sum(int(digest[:12], 16) for digest in digests):x}"
        identity = {"model": type(self.detector).__name__, "seed": self.seed, "data": data}
        found = settings | identity | _preprocess_fingerprint(self.images.preprocess) | self.detector.options
        return dict(json.loads(json.dumps(found)))  # the same types as when read from a checkpoint


def _preprocess_fingerprint(preprocess: Preprocess) -> dict[str, Any]:
    files = {"roi": preprocess.roi, "reference": preprocess.alignment}
    digests = {name: hashlib.sha256(file.png).hexdigest() if file else None for name, file in files.items()}
    return {"aspect": preprocess.aspect, "tile": preprocess.tile, "overlap": preprocess.overlap} | digests


def image_seed(seed: int, epoch: int, row: int) -> int:
    """The random seed of an image in an epoch, below 2^63; different for each image and epoch."""
    return int(np.random.SeedSequence((seed, epoch, row)).generate_state(1, np.uint64)[0] >> 1)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """A list that receives the numbers of SIGINT (Ctrl-C) and SIGTERM, so that the current step can be finished.

    A second signal raises KeyboardInterrupt at once.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a handler's signature
        if received:
            raise KeyboardInterrupt
        received.append(number)

    try:
        previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # only the main thread can handle signals
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
