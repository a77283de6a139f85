"""The evaluations of a run, or of several, as plain data, as tables and as files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.table import Table

import blemish
from blemish.errors import BlemishError
from blemish.files import write_json, write_text
from blemish.types import Evaluation

HEADLINE = ("pixel_auroc", "image_auroc")
"""The metrics that are printed for every run; the first one's average is the headline."""
AVERAGE = "average"


def categories_of(evaluations: Sequence[Evaluation]) -> list[str]:
    """The categories, in order of their names."""
    return sorted({evaluation.category for evaluation in evaluations})


def methods_of(evaluations: Sequence[Evaluation]) -> list[str]:
    """The methods, in the order in which they were run."""
    return list(dict.fromkeys(evaluation.method for evaluation in evaluations))


def value_of(evaluations: Sequence[Evaluation], method: str, category: str, metric: str) -> float | None:
    """A figure; None where there is none."""
    for evaluation in evaluations:
        if (evaluation.method, evaluation.category) == (method, category):
            return evaluation.metrics.get(metric)
    return None


def average_of(evaluations: Sequence[Evaluation], method: str, metric: str) -> float | None:
    """The mean over the categories in which the metric is applicable; None where there is none."""
    values = [value_of(evaluations, method, category, metric) for category in categories_of(evaluations)]
    applicable = [value for value in values if value is not None]
    return fmean(applicable) if applicable else None


def write_results(evaluations: Sequence[Evaluation], folder: Path) -> None:
    """Writes results.json (everything) and results.csv (a row per method and category, and the averages)."""
    averages = {method: _averages(evaluations, method) for method in methods_of(evaluations)}
    document = {
        "blemish": blemish.__version__,
        AVERAGE: averages,
        "evaluations": [asdict(evaluation) for evaluation in evaluations],
    }
    write_json(folder / "results.json", document)
    write_text(folder / "results.csv", _to_csv(evaluations))


def read_results(folder: Path) -> list[Evaluation]:
    """The evaluations in a folder's results.json; raises BlemishError where it cannot be read."""
    return [read_evaluation(row, folder / "results.json") for row in _read(folder / "results.json")["evaluations"]]


def read_evaluation(row: dict[str, Any], path: Path) -> Evaluation:
    """The evaluation that `asdict` made plain; raises BlemishError where the fields are others."""
    try:
        return Evaluation(**row)
    except TypeError:
        raise BlemishError(f"{path}: not written by this version of blemish. Run it again.") from None


def comparison_table(evaluations: Sequence[Evaluation], metrics: Sequence[str] = HEADLINE) -> Table:
    """Category x method, one column per method and metric, and the averages as the last row."""
    table = Table(header_style="bold", show_footer=True, box=None, padding=(0, 2, 0, 0))
    columns = [(method, metric) for metric in metrics for method in methods_of(evaluations)]
    table.add_column("category", footer=f"[bold]{AVERAGE}")
    for method, metric in columns:
        footer = shown(average_of(evaluations, method, metric))
        table.add_column(f"{method}\n{metric.replace('_auroc', ' AUROC')}", f"[bold]{footer}", justify="right")
    for category in categories_of(evaluations):
        cells = [shown(value_of(evaluations, method, category, metric)) for method, metric in columns]
        table.add_row(category, *cells)
    return table


def shown(value: float | None) -> str:
    """A figure with three decimals, or a dash where there is none."""
    return "-" if value is None else f"{value:.3f}"


def _averages(evaluations: Sequence[Evaluation], method: str) -> dict[str, float | None]:
    names = dict.fromkeys(name for evaluation in evaluations for name in evaluation.metrics)
    return {name: average_of(evaluations, method, name) for name in names}


def _to_csv(evaluations: Sequence[Evaluation]) -> str:
    """A figure that does not exist is an empty cell."""
    names = list(dict.fromkeys(name for evaluation in evaluations for name in evaluation.metrics))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "category", *names])
    for evaluation in evaluations:
        values = [evaluation.metrics.get(name) for name in names]
        writer.writerow([evaluation.method, evaluation.category, *("" if value is None else value for value in values)])
    for method in methods_of(evaluations):
        averages = _averages(evaluations, method)
        writer.writerow([method, AVERAGE, *("" if averages[name] is None else averages[name] for name in names)])
    return text.getvalue()


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise BlemishError(f"{path}: {error.strerror}. Give the folder of a run.") from None
    except ValueError as error:
        raise BlemishError(f"{path}: not JSON ({error}). Run it again.") from None
