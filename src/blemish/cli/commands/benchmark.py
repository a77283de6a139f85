"""`blemish benchmark` and `blemish compare`: methods side by side, with tests of their differences."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.cli.terminal import Runs, console, errors
from blemish.errors import BlemishError, number_of, short_repr
from blemish.progress import shown_progress

if TYPE_CHECKING:
    from blemish.reporting.benchmark import Compared

logger = logging.getLogger("blemish")


def benchmark_command(config_path: Path | None, fields: dict[str, Any], options: dict[str, Any]) -> None:  # noqa: ARG001
    """Fit and evaluate methods on every category, with several seeds and sizes, and compare them.

    Each method, category, seed and size is a cell, named by the hash of its settings and data. The same command
    continues after an interruption, and computes only the cells that are missing. Exit code 2 also if a cell has no
    result; the tables then show all others.
    """
    from blemish.cli.flags import merged_several
    from blemish.runs.benchmark.benchmark import benchmark
    from blemish.runs.benchmark.config import BenchmarkConfig, read_benchmark_toml

    if "maps" in fields:
        fields = fields | {"maps": dict(map(_named_folder, fields["maps"]))}
    merged = merged_several("benchmark", config_path, fields, read_benchmark_toml)
    config = BenchmarkConfig.create(**merged)
    with shown_progress("", errors) as phases:
        found = benchmark(config, phases)
    show(found.compared)
    reused = f", {found.num_reused} of them from before" if found.num_reused else ""
    console.print(f"{number_of(found.num_cells, 'cell')}{reused}; the page is {found.page}", soft_wrap=True)
    if found.failed:
        errors.print(f"error {len(found.failed)} without a result: {found.failed[0].error}", soft_wrap=True)
        raise typer.Exit(2)


EPILOG = "Underscores are taken: --data_path. Settings of one method alone: see docs/compare-methods.md"
"""The last line of the help."""


def compare_command(
    runs: Runs,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the tables, figures and a page; default: not written.")
    ] = None,
) -> None:
    """Compare runs on the same test images, each a folder of `train` or `benchmark`: values, ranks, tests, cost.

    By images: a paired bootstrap over the test images, averaged over categories; it decides, at p < 0.05. By
    categories: the Wilcoxon signed-rank test, with at least six categories. Both are corrected for the number of pairs.
    """
    from blemish.reporting.benchmark import compare_approaches
    from blemish.reporting.benchmark_page import write_comparison
    from blemish.reporting.doubts import doubts
    from blemish.reporting.read_runs import read_approaches

    if out is not None and out.is_file():
        raise BlemishError(f"out {out}: a file. Name a folder.")
    approaches = read_approaches(runs)
    if len(approaches) < 2:
        raise BlemishError(f"{runs[0]}: holds one method alone. Give another folder to compare it with.")
    compared = compare_approaches(approaches)
    if not compared.verdicts:
        raise BlemishError(f"{runs[0]}, {runs[-1]}: no category has metrics of two. Run both on the same data set.")
    show(compared)
    for line in doubts(approaches):
        logger.warning("%s", line)
    if out is not None:
        console.print(f"the page is {write_comparison(compared, approaches, out)}", soft_wrap=True)


def show(compared: Compared) -> None:
    """Prints the tables of a comparison."""
    from blemish.reporting.benchmark import tables_for_terminal

    for table in tables_for_terminal(compared):
        console.print(table)
        console.print()


def _named_folder(text: str) -> tuple[str, Path]:
    name, mark, folder = text.partition("=")
    if not (name and mark and folder):
        raise BlemishError(f"maps: {short_repr(text)} was given. Give NAME=FOLDER, the program and its maps.")
    return name, Path(folder)
