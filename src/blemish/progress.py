"""Progress reports: how much is done, how fast, and the remaining time; bars in a terminal, plain lines elsewhere."""

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
"""Seconds between the lines of a long phase, where there is no terminal."""


class Progress(Protocol):
    """A function that is called after each step of a long operation."""

    def __call__(self, done: int, total: int, *, unit: str = "images", **shown: float) -> None:
        """Reports that `done` of `total` are done. `unit` is the plural of what is counted; `shown` are other numbers
        to show, by name.
        """


Phases = Callable[[str], Progress]
"""Name of a phase of the work -> the function that reports its progress."""


def no_progress(done: int, total: int, *, unit: str = "images", **shown: float) -> None:
    """A `Progress` that shows nothing."""


def no_phases(name: str) -> Progress:  # noqa: ARG001 - as `Phases` takes it
    """Shows the progress of no phase."""
    return no_progress


def with_progress(items: Iterable[Item], total: int, progress: Progress, unit: str = "images") -> Iterator[Item]:
    """Yields the items and reports progress after each."""
    for done, item in enumerate(items, start=1):
        progress(done, total, unit=unit)
        yield item


@contextmanager
def shown_progress(title: str, console: Console) -> Iterator[Phases]:
    """Shows the progress of phases while the block runs; the value of the context is a `Phases` function.

    Nothing is shown with `--quiet` (where the log level of blemish is above INFO), and in all but the first of several
    processes.
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


@contextmanager
def log_level(level: int) -> Iterator[None]:
    """A context in which blemish logs what has this level or a higher one."""
    logger = logging.getLogger("blemish")
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


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
    """The speed of a phase; it is measured again from the start where the total or the unit changes."""

    done: int = 0
    total: int = 0
    unit: str = ""
    _first: int = 0
    _since: float = 0.0
    started: float = field(default_factory=lambda: time.monotonic())

    def update(self, done: int, total: int, unit: str) -> None:
        if (total, unit) != (self.total, self.unit) or done < self.done:
            self._first, self._since = done, time.monotonic()
        self.done, self.total, self.unit = done, total, unit

    @property
    def rate(self) -> float | None:
        """Steps per second; None before the first step."""
        seconds = time.monotonic() - self._since
        return (self.done - self._first) / seconds if self.done > self._first and seconds > 0 else None

    @property
    def words(self) -> str:
        """Speed and remaining time, such as '12.3 images/s, 5 s left'; empty before the first step."""
        if (rate := self.rate) is None:
            return ""
        left = f", {duration((self.total - self.done) / rate)} left" if self.done < self.total else ""
        return f"{_speed(rate, self.unit)}{left}"


def _speed(rate: float, unit: str) -> str:
    """The speed in words: '12.3 images/s', or '20 s per cell' for slow ones."""
    if rate < 0.1:
        return f"{duration(1 / rate)} per {unit.removesuffix('s')}"
    return f"{rate:.1f} {unit}/s" if rate < 100 else f"{rate:.0f} {unit}/s"


def _figures(shown: dict[str, float]) -> str:
    return " ".join(f"{key} {value:.4g}" for key, value in shown.items())


@contextmanager
def _in_bars(title: str, console: Console) -> Iterator[Phases]:
    """Shows a bar for each phase; all bars disappear at the end."""
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
                pace.update(done, total, unit)
                words = f"{done}/{total}  {pace.words or unit}  {_figures(shown)}".rstrip()
                bars.update(task, completed=done, total=total, words=words)

            return report

        yield phase


class _Lines:
    """Prints a line at the end of each phase, and every BETWEEN_LINES seconds; no control characters."""

    def __init__(self, title: str, console: Console) -> None:
        self._title, self._console = title, console
        self._name, self._pace, self._said = "", _Pace(), 0.0

    def phase(self, name: str) -> Progress:
        """Ends the current phase and begins one of this name."""
        self.end()
        self._name, self._pace = f"{self._title} {name}".strip(), (pace := _Pace())
        self._said = pace.started

        def report(done: int, total: int, *, unit: str = "images", **shown: float) -> None:
            pace.update(done, total, unit)
            if done < total and time.monotonic() - self._said > BETWEEN_LINES:
                self._said = time.monotonic()
                figures = f" ({_figures(shown)})" if shown else ""
                self._print(f"{done} of {total} {unit}, {pace.words}".removesuffix(", ") + figures)

        return report

    def end(self) -> None:
        """Prints the duration of the phase, if it made any progress."""
        pace = self._pace
        if pace.total:
            seconds, unit = (
                time.monotonic() - pace.started,
                pace.unit.removesuffix("s") if pace.done == 1 else pace.unit,
            )
            rate = f", {_speed(pace.done / seconds, pace.unit)}" if pace.done > 1 and seconds >= 0.1 else ""
            self._print(f"{pace.done} {unit} in {duration(seconds)}{rate}")
        self._pace = _Pace()

    def _print(self, text: str) -> None:
        self._console.print(f"{self._name}: {text}", soft_wrap=True)
