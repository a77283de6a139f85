"""Progress: how much is done, how fast, and how long the rest takes. Bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

Item = TypeVar("Item")

BETWEEN_LINES = 30.0
"""Seconds after which a phase that goes on says how far it is, where there is no terminal."""


class Progress(Protocol):
    """Is called after each step with how many of how many are done, and with numbers to show beside it."""

    def __call__(self, done: int, total: int, *, unit: str = "images", **shown: float) -> None:
        """Shows that `done` of `total` are done; `unit` is the plural of what is counted."""


Phases = Callable[[str], Progress]
"""From the name of a phase of the work to the function that takes its progress."""


def no_progress(done: int, total: int, *, unit: str = "images", **shown: float) -> None:
    """Shows nothing."""


def no_phases(name: str) -> Progress:  # noqa: ARG001 - as `Phases` takes it
    """Shows the progress of no phase."""
    return no_progress


def told(items: Iterable[Item], total: int, progress: Progress, unit: str = "images") -> Iterator[Item]:
    """The items as they come, each counted."""
    for done, item in enumerate(items, start=1):
        progress(done, total, unit=unit)
        yield item


@contextmanager
def shown_progress(title: str, console: Console) -> Iterator[Phases]:
    """Gives a function that takes the name of a phase and shows its progress while the block runs.

    Nothing is shown where the log of blemish leaves out what is not a warning (`--quiet`), or by the helping processes
    of a training on several.
    """
    if not logging.getLogger("blemish").isEnabledFor(logging.INFO) or os.environ.get("RANK", "0") != "0":
        yield lambda _: no_progress
    elif console.is_terminal and not console.is_dumb_terminal:
        with _in_bars(title, console) as phases:
            yield phases
    else:
        lines = _Lines(title, console)
        yield lines.phase
        lines.end()


def duration(seconds: float) -> str:
    """A time span in words: '0.4 s', '12 s', '3 min', '2 h 5 min'."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


@dataclass
class _Pace:
    """How fast a phase goes; counted anew where it begins to count something else."""

    done: int = 0
    total: int = 0
    unit: str = ""
    _first: int = 0
    _since: float = 0.0
    started: float = field(default_factory=lambda: time.monotonic())

    def tell(self, done: int, total: int, unit: str) -> None:
        if (total, unit) != (self.total, self.unit) or done < self.done:
            self._first, self._since = done, time.monotonic()
        self.done, self.total, self.unit = done, total, unit

    @property
    def rate(self) -> float | None:
        """Steps a second, None as long as that is not known."""
        seconds = time.monotonic() - self._since
        return (self.done - self._first) / seconds if self.done > self._first and seconds > 0 else None

    @property
    def words(self) -> str:
        """Such as '12.3 images/s, 5 s left'; empty as long as it is not known."""
        if (rate := self.rate) is None:
            return ""
        left = f", {duration((self.total - self.done) / rate)} left" if self.done < self.total else ""
        return f"{_per_second(rate)} {self.unit}/s{left}"


def _per_second(rate: float) -> str:
    return f"{rate:.1f}" if rate < 100 else f"{rate:.0f}"


def _figures(shown: dict[str, float]) -> str:
    return " ".join(f"{key} {value:.4g}" for key, value in shown.items())


@contextmanager
def _in_bars(title: str, console: Console) -> Iterator[Phases]:
    """A bar for each phase, all of which vanish at the end."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[words]}", markup=False),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        starting: list[TaskID] = [bars.add_task(f"{title} starting".strip(), total=None, words="")]

        def phase(name: str) -> Progress:
            while starting:
                bars.remove_task(starting.pop())
            task, pace = bars.add_task(f"{title} {name}".strip(), total=None, words=""), _Pace()

            def report(done: int, total: int, *, unit: str = "images", **shown: float) -> None:
                pace.tell(done, total, unit)
                words = f"{done}/{total}  {pace.words or unit}  {_figures(shown)}".rstrip()
                bars.update(task, completed=done, total=total, words=words)

            return report

        yield phase


class _Lines:
    """A line for each phase when it is over, and in between where it takes long. No control characters."""

    def __init__(self, title: str, console: Console) -> None:
        self._title, self._console = title, console
        self._name, self._pace, self._said = "", _Pace(), 0.0

    def phase(self, name: str) -> Progress:
        """Ends the phase before and begins one of this name."""
        self.end()
        self._name, self._pace = f"{self._title} {name}".strip(), (pace := _Pace())
        self._said = pace.started

        def report(done: int, total: int, *, unit: str = "images", **shown: float) -> None:
            pace.tell(done, total, unit)
            if done < total and time.monotonic() - self._said > BETWEEN_LINES:
                self._said = time.monotonic()
                figures = f" ({_figures(shown)})" if shown else ""
                self._print(f"{done} of {total} {unit}, {pace.words}".removesuffix(", ") + figures)

        return report

    def end(self) -> None:
        """Says how long the phase took, where it did anything."""
        pace = self._pace
        if pace.total:
            seconds, unit = (
                time.monotonic() - pace.started,
                pace.unit.removesuffix("s") if pace.done == 1 else pace.unit,
            )
            rate = f", {_per_second(pace.done / seconds)} {pace.unit}/s" if pace.done > 1 and seconds >= 0.1 else ""
            self._print(f"{pace.done} {unit} in {duration(seconds)}{rate}")
        self._pace = _Pace()

    def _print(self, text: str) -> None:
        self._console.print(f"{self._name}: {text}", soft_wrap=True)
