"""A benchmark: computes the cells that are missing, and writes tables, figures and the page."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

import blemish
from blemish.errors import BlemishError, number_of
from blemish.evaluation.results import HEADLINE, format_value
from blemish.files import make_folder, write_json
from blemish.metrics import METRICS
from blemish.progress import Phases, duration, no_phases
from blemish.reporting.benchmark import Compared, compare_approaches
from blemish.reporting.benchmark_page import write_comparison
from blemish.reporting.read_runs import BENCHMARK, read_approaches
from blemish.runs.benchmark.cells import DECODED, Cell, by_category, cells_of
from blemish.runs.benchmark.config import BenchmarkConfig
from blemish.runs.benchmark.workers import Outcome, compute_all

logger = logging.getLogger("blemish")


@dataclass(frozen=True)
class Benchmarked:
    """The results of a benchmark."""

    compared: Compared
    page: Path
    """The HTML page."""
    num_cells: int
    num_reused: int
    """Cells that an earlier call had finished."""
    failed: list[Outcome]


def benchmark(config: BenchmarkConfig, phases: Phases = no_phases) -> Benchmarked:
    """Computes every cell that is not finished yet, and writes the comparison of all to `config.out`.

    A call that was stopped or killed at any moment can be repeated: finished cells are reused, and one that trains
    continues from its checkpoint. A cell that cannot be computed is named in the results. Raises BlemishError where the
    settings or the data cannot be used, or no cell has a result.
    """
    make_folder(config.out)
    cells = cells_of(config, phases)
    write_json(config.out / BENCHMARK, {"blemish": blemish.__version__, "cells": [cell.row for cell in cells]})
    missing = [cell for cell in cells if not cell.is_finished]
    if len(missing) < len(cells):
        logger.info("%d of %s are finished already", len(cells) - len(missing), number_of(len(cells), "cell"))
    failed = _compute(missing, config, phases)
    if len(failed) == len(cells):
        raise BlemishError(failed[0].error)
    rows = [outcome.cell.row | {"error": outcome.error} for outcome in failed]
    approaches = read_approaches([config.out])
    compared = compare_approaches(approaches, rows)
    page = write_comparison(compared, approaches, config.out)
    return Benchmarked(compared, page, len(cells), len(cells) - len(missing), failed)


def _compute(cells: Sequence[Cell], config: BenchmarkConfig, phases: Phases) -> list[Outcome]:
    """Computes the cells, keeps the decoded images of a category until its end, and returns cells without a result."""
    rmtree(config.out / DECODED, ignore_errors=True)  # of a call that was killed
    left = {folder: len(own) for folder, own in by_category(cells)}
    progress, failed = phases("benchmark"), []
    try:
        for done, outcome in enumerate(compute_all(cells, config.jobs, config.ray), start=1):
            logger.info("%s", _line(outcome))
            progress(done, len(cells), unit="cells")
            if outcome.error:
                failed.append(outcome)
            folder = outcome.cell.decoded()
            left[folder] -= 1
            if not left[folder]:
                rmtree(folder, ignore_errors=True)
    finally:
        rmtree(config.out / DECODED, ignore_errors=True)
    return failed


def _line(outcome: Outcome) -> str:
    """What became of a cell, in one line."""
    if outcome.error:
        return f"{outcome.cell.words}: {outcome.error}"
    metrics: dict[str, Any] = outcome.metrics or {}
    values = ", ".join(f"{METRICS[name].title} {format_value(metrics.get(name))}" for name in HEADLINE)
    return f"{outcome.cell.words}: {values}; {duration(outcome.seconds)}"
