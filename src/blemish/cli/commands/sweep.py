"""`blemish sweep`: searching the options of a method."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blemish.cli.commands.benchmark import show
from blemish.cli.terminal import console, errors
from blemish.errors import number_of
from blemish.progress import shown_progress

if TYPE_CHECKING:
    from blemish.runs.sweep.config import SweepConfig
    from blemish.runs.sweep.sweep import Swept


def sweep_command(config_path: Path | None, fields: dict[str, Any], options: dict[str, Any]) -> None:  # noqa: ARG001
    """Search the options of a method, and test what was chosen against the defaults.

    No category is reported with a configuration that its own test images chose. --objective validation chooses one
    configuration by defects drawn on held-out good images. --objective leave-one-out chooses one for each category by
    the test images of the others. The same command continues after an interruption.
    """
    from blemish.cli.flags import merged_several
    from blemish.runs.sweep.config import SweepConfig, read_sweep_toml

    show_sweep(SweepConfig.create(**merged_several("sweep", config_path, fields, read_sweep_toml)))


def show_sweep(config: SweepConfig) -> None:
    """Runs a sweep and prints its tables and what was chosen."""
    from blemish.runs.sweep.sweep import sweep

    with shown_progress("", errors) as phases:
        found = sweep(config, phases)
    show(found.compared)
    for line in _chosen(found):
        console.print(line, soft_wrap=True)
    console.print(f"{number_of(len(found.trials), 'trial')}; the page is {found.page}", soft_wrap=True)


def _chosen(found: Swept) -> Iterator[str]:
    """A line for each configuration that was chosen, with its categories."""
    from blemish.reporting.benchmark_page import short

    numbers = {trial.number: trial for trial in found.chosen.values()}
    for number, trial in sorted(numbers.items()):
        names = [name for name, own in found.chosen.items() if own.number == number]
        values = ", ".join(f"{name} {short(value)}" for name, value in trial.values.items())
        where = "all categories" if len(names) == len(found.chosen) else ", ".join(names)
        yield f"tuned for {where}: {values} (trial {number})"


EPILOG = "Underscores are taken: --data_path. A space of one's own: see docs/compare-methods.md"
"""The last line of the help."""
