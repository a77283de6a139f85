"""Progress: what is done, how much is left and how long that will take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

Item = TypeVar("Item")


class Progress(Protocol):
    """Told after each step how many of how many are done, and figures worth showing beside it."""

    def __call__(self, done: int, total: int, **shown: float) -> None:
        """Shows that `done` of `total` are done."""


Phases = Callable[[str], Progress]
"""From the name of a phase of the work to where its progress is told."""


def no_progress(done: int, total: int, **shown: float) -> None:
    """Shows nothing."""


def told(items: Iterable[Item], total: int, progress: Progress) -> Iterator[Item]:
    """The items as they come, each counted."""
    for done, item in enumerate(items, start=1):
        progress(done, total)
        yield item


@contextmanager
def shown_progress(title: str, console: Console) -> Iterator[Phases]:
    """Gives a function from a phase's name to what shows its progress, a bar each, while the block runs."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[shown]}"),
    )
    with Bars(*columns, console=console, transient=True) as bars:

        def phase(name: str) -> Progress:
            task = bars.add_task(f"{title} {name}".strip(), total=None, shown="")

            def report(done: int, total: int, **shown: float) -> None:
                text = " ".join(f"{key} {value:.4g}" for key, value in shown.items())
                bars.update(task, completed=done, total=total, shown=text)

            return report

        yield phase
