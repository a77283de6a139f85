"""The one loop for every detector that learns by gradient: epochs, validation, checkpoints, resuming.

Nothing random is carried from step to step. The order of the images and what a loss draws follow from (seed, epoch,
image), so a checkpoint holds no generator, a resumed run goes on with the same bits, and several processes draw what
one would.
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
    """Trains the detector and gives its losses; the weights of the epoch with the lowest validation loss are kept.

    Raises BlemishError where the loss is no longer finite and where the checkpoint is of another run, and
    KeyboardInterrupt after saving.
    """
    settings = settings or Training()
    accelerator = accelerator_on(settings.device)
    initialise(detector.cpu(), seed)  # a GPU would draw other numbers
    detector.to(accelerator.device).prepare(images, validation, seed)
    module = _Losses(detector).to(accelerator.device)
    optimizer, schedule = detector.configure_optimizer(settings.learning_rate)
    loop = _Loop(detector, optimizer, schedule, images, validation, settings, seed, accelerator)
    kept = Checkpoint(settings.checkpoint, loop.fingerprint()) if settings.checkpoint else None
    if settings.resume and kept and kept.path.exists():
        loop.state = kept.restore(detector.trained, optimizer)
    module, _ = accelerator.prepare(module, optimizer)
    with torch.backends.cudnn.flags(enabled=True, deterministic=True):
        loop.run(module, kept if accelerator.is_main_process else None, progress)
    detector.trained.load_state_dict(loop.state.best)
    detector.eval()
    detector.finish()
    detector.is_fitted = True
    return loop.state.history


def initialise(detector: nn.Module, seed: int) -> None:
    """Draws all weights anew from the seed, so that a second fit forgets the first."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in detector.modules():
            reset = getattr(module, "reset_parameters", None)
            if reset is not None:
                reset()


class _Losses(nn.Module):
    """The detector's losses as a forward pass, which is what the wrapper for several processes synchronises."""

    def __init__(self, detector: LearningDetector):
        super().__init__()
        self.detector = detector

    def forward(self, *examples: Tensor) -> Tensor:
        return self.detector.losses(*examples)


class _Loop:
    """The state of one training and the steps that change it."""

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
        """Steps of an epoch."""
        self.total_steps = min(settings.epochs * self.num_steps, settings.max_steps or sys.maxsize)
        self.state = State()

    def run(self, module: nn.Module, checkpoint: Checkpoint | None, progress: Progress) -> None:
        """Trains from where the state is to the last epoch, saving as it goes."""
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
        """Of the epoch's examples so far."""
        return self.state.total / min(self.state.step * self.settings.batch_size, self.num_examples)

    @property
    def _share_done(self) -> float:
        """The part of the training that is done, by the budget that is nearest to its end."""
        by_steps, limit = self._steps_done / self.total_steps, self.settings.max_seconds
        return min(1.0, by_steps if limit is None else max(by_steps, self.state.seconds / limit))

    def _is_spent(self) -> bool:
        """Whether a budget of steps or seconds is spent, in any process."""
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
        """The epoch's batches of row numbers, those already done left out."""
        order = np.random.default_rng((self.seed, self.state.epoch)).permutation(self.num_examples).tolist()
        done = self.state.step * self.settings.batch_size
        return in_batches(order[done:], self.settings.batch_size)

    def _examples(self, rows: list[int]) -> tuple[list[int], _Examples]:
        """A batch's rows, and the examples of those that are this process's share (of one where it has none)."""
        share = rows[self.accelerator.process_index :: self.accelerator.num_processes]
        return rows, self._drawn(self.images, share or rows[:1], self.state.epoch)

    @torch.no_grad()
    def _drawn(self, source: ImageSource, rows: list[int], epoch: int) -> _Examples:
        """The examples of these rows; where they serve several epochs, some of them are drawn anew in each."""
        numbers = [(epoch + row) // self.detector.redraw for row in rows]
        seeds = [image_seed(self.seed, number, row) for number, row in zip(numbers, rows, strict=True)]
        return self.detector.examples(source, rows, seeds)

    def _step(self, module: nn.Module, rows: list[int], examples: _Examples) -> float:
        """One step of the optimiser on the batch, of which each process takes its share; the sum of the losses."""
        accelerator = self.accelerator
        has_share = accelerator.process_index < len(rows)
        # A process without a share still has to take part in averaging the gradients: it adds nothing.
        weight = accelerator.num_processes / len(rows) if has_share else 0.0
        self.detector.train()
        moved = [values.to(accelerator.device, non_blocking=True) for values in examples]
        with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=self.bfloat16):
            losses: Tensor = module(*moved)
        accelerator.backward(losses.sum() * weight)
        if self.settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.detector.trained.parameters(), self.settings.clip_norm)
        self._follow_schedule()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._average()
        total = float(accelerator.reduce(losses.detach().sum() * has_share, "sum"))
        if not np.isfinite(total):
            raise BlemishError(
                f"the loss is no longer finite in epoch {self.state.epoch + 1}. "
                f"Lower learning_rate (it is {self.settings.learning_rate}), or use --precision float32."
            )
        return total

    def _follow_schedule(self) -> None:
        factor = self.schedule(self._share_done)
        for group, rate in zip(self.optimizer.param_groups, self.learning_rates, strict=True):
            group["lr"] = rate * factor

    @torch.no_grad()
    def _average(self) -> None:
        """Takes the step's weights into their mean, which forgets faster as long as there were few steps."""
        if self.detector.averaging == 0:
            return
        average = self.state.average
        kept = min(self.detector.averaging, (1 + self._steps_done) / (10 + self._steps_done))
        for name, value in self.detector.trained.named_parameters():
            average[name] = average.get(name, value).to(value).lerp(value, 1 - kept)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The mean of the weights is in their place, where the detector takes it."""
        parameters = dict(self.detector.trained.named_parameters())
        last = {name: parameters[name].data for name in self.state.average}
        for name, value in self.state.average.items():
            parameters[name].data = value
        yield
        for name, value in last.items():
            parameters[name].data = value

    @torch.no_grad()
    def _validate(self) -> float:
        """The mean loss of the validation images, each with the same draws in every epoch."""
        self.detector.eval()
        source, total = self.validation, 0.0
        assert source is not None
        num_examples = self.detector.num_examples(source)
        for rows in in_batches(range(num_examples), self.settings.batch_size):
            examples = (values.to(self.accelerator.device) for values in self._drawn(source, rows, 0))
            total += float(self.detector.losses(*examples).sum())
        return total / num_examples

    def _end_epoch(self) -> None:
        """Counts the epoch and keeps its weights where its validation loss is the lowest so far."""
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
        """What must be equal for a training to go on where another stopped."""
        settings = asdict(replace(self.settings, device="", checkpoint=None, resume=False))
        digests = [info.sha256 for info in self.images.files]
        data = f"{len(digests)} images, {sum(int(digest[:12], 16) for digest in digests):x}"
        preprocess = self.images.preprocess
        seen = {"aspect": preprocess.aspect, "tile": preprocess.tile, "overlap": preprocess.overlap}
        pictures = {"roi": preprocess.roi, "reference": preprocess.alignment}
        identity = {"model": type(self.detector).__name__, "seed": self.seed, "data": data}
        identity |= {name: hashlib.sha256(one.png).hexdigest() if one else None for name, one in pictures.items()}
        found = settings | identity | seen | self.detector.options
        return dict(json.loads(json.dumps(found)))  # as a checkpoint gives it back


def image_seed(seed: int, epoch: int, row: int) -> int:
    """A seed of its own for each image in each epoch."""
    return int(np.random.SeedSequence((seed, epoch, row)).generate_state(1, np.uint64)[0] >> 1)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collects Ctrl-C and a polite kill while a step is finished; a second one stops at once."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a handler's signature
        if received:
            raise KeyboardInterrupt
        received.append(number)

    try:
        previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are not ours to handle
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
