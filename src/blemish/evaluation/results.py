"""Averages over categories, and evaluations as tables and as JSON, CSV and LaTeX files."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.table import Table
from rich.text import Text

import blemish
from blemish.errors import BlemishError
from blemish.evaluation.columns import (
    OFFICIAL,
    applicable,
    column,
    columns,
    official_names,
    value_in,
)
from blemish.files import csv_cells, read_bytes, write_json, write_text
from blemish.metrics import METRICS
from blemish.types import Evaluation

HEADLINE = ("pixel_auroc", "image_auroc")
"""The metrics that are printed for every run."""
AVERAGE = "average"
"""The name of the row of averages."""
EVALUATION = "evaluation.json"
"""The file with the evaluation, in the folder of a category."""


def categories_of(evaluations: Sequence[Evaluation]) -> list[str]:
    """The names of the categories, sorted."""
    return sorted({evaluation.category for evaluation in evaluations})


def methods_of(evaluations: Sequence[Evaluation]) -> list[str]:
    """The names of the methods, in order of their first evaluation."""
    return list(dict.fromkeys(evaluation.method for evaluation in evaluations))


def value_of(evaluations: Sequence[Evaluation], method: str, category: str, metric: str) -> float | None:
    """The value of a metric or official figure; None if it does not exist."""
    for evaluation in evaluations:
        if (evaluation.method, evaluation.category) == (method, category):
            return value_in(evaluation, metric)
    return None


def average_of(evaluations: Sequence[Evaluation], method: str, metric: str) -> float | None:
    """The mean of a metric over the categories in which it is applicable; None without any.

    An official figure is that of a whole data set, so its mean is None where one category has none.
    """
    values = [value_of(evaluations, method, category, metric) for category in categories_of(evaluations)]
    known = [value for value in values if value is not None]
    is_whole = len(known) == len(values) or not metric.startswith(OFFICIAL)
    return fmean(known) if known and is_whole else None


def average_interval(evaluations: Sequence[Evaluation], method: str, metric: str) -> tuple[float, float] | None:
    """The confidence interval of `average_of`: independent categories, so the squares of half-widths add up.

    None if a category has a value without an interval.
    """
    value = average_of(evaluations, method, metric)
    own = [e for e in evaluations if e.method == method and value_in(e, metric) is not None]
    if value is None or not all(metric in evaluation.intervals for evaluation in own):
        return None
    bounds = [(value_in(e, metric) or 0.0, *e.intervals[metric]) for e in own]
    below = math.hypot(*(center - low for center, low, _ in bounds)) / len(own)
    above = math.hypot(*(high - center for center, _, high in bounds)) / len(own)
    return value - below, value + above


def write_results(evaluations: Sequence[Evaluation], folder: Path) -> None:
    """Writes results.json (all data), results.csv (a row per method and category, and the averages) and results.tex
    (the same as LaTeX tables with booktabs) to a folder.
    """
    averages = {method: asdict(_average(evaluations, method)) for method in methods_of(evaluations)}
    document = {
        "blemish": blemish.__version__,
        AVERAGE: {method: average["metrics"] for method, average in averages.items()},
        "average_intervals": {method: average["intervals"] for method, average in averages.items()},
        "evaluations": [asdict(evaluation) for evaluation in evaluations],
    }
    write_json(folder / "results.json", document)
    write_text(folder / "results.csv", _to_csv(evaluations))
    write_text(folder / "results.tex", to_latex(evaluations))


def read_results(folder: Path) -> list[Evaluation]:
    """The evaluations in a folder's results.json; raises BlemishError if it cannot be read."""
    return [read_evaluation(row, folder / "results.json") for row in _read(folder / "results.json")["evaluations"]]


def read_evaluation(row: dict[str, Any], path: Path) -> Evaluation:
    """The evaluation from its plain data, read from `path`; raises BlemishError if the fields do not match."""
    try:
        return Evaluation(**row)
    except TypeError:
        raise BlemishError(f"{path}: not written by this version of blemish. Run it again.") from None


def comparison_tables(evaluations: Sequence[Evaluation]) -> list[Table]:
    """One table per HEADLINE metric: a row per category, a column per method, and the averages in the last row."""
    return [_comparison(evaluations, metric) for metric in HEADLINE]


def _comparison(evaluations: Sequence[Evaluation], metric: str) -> Table:
    methods = methods_of(evaluations)
    table = _titled(column(metric).title, show_footer=True)
    table.add_column("category", footer=Text(AVERAGE, "bold"), no_wrap=True)
    for method in methods:
        footer = format_value(average_of(evaluations, method, metric))
        table.add_column(method, Text(footer, "bold"), justify="right")
    for category in categories_of(evaluations):
        table.add_row(category, *(format_value(value_of(evaluations, method, category, metric)) for method in methods))
    return table


def metrics_tables(evaluations: Sequence[Evaluation], method: str) -> list[Table]:
    """The tables of image metrics and of pixel metrics of one method: a row per category, and one for the average.

    A value's confidence interval stands below it.
    """
    own = [evaluation for evaluation in evaluations if evaluation.method == method]
    levels = {level: [name for name in applicable(own) if METRICS[name].level == level] for level in ("image", "pixel")}
    return [
        _level_table([*own, _average(own, method)], names, f"{method}, {level}s") for level, names in levels.items()
    ]


def official_tables(evaluations: Sequence[Evaluation], method: str) -> list[Table]:
    """The table of the official figures of one method, as `metrics_tables` has the metrics; empty without any."""
    own = [evaluation for evaluation in evaluations if evaluation.method == method]
    names = official_names(own)
    table = _titled(f"{method}, official figures")
    table.add_column("category", no_wrap=True)
    for name in names:
        table.add_column(name.removeprefix(OFFICIAL), justify="right")
    for row in [*own, _average(own, method)]:
        cells = [format_value(value_in(row, name)) for name in names]
        table.add_row(row.category, *cells, style="bold" if row.category == AVERAGE else "")
    return [table] if names else []


def _level_table(rows: Sequence[Evaluation], names: Sequence[str], title: str) -> Table:
    table = _titled(title)
    table.padding = 0, 1, 0, 0  # seven columns with intervals fit 80 characters
    table.add_column("category", no_wrap=True)
    for name in names:
        short = METRICS[name].title.removeprefix(f"{METRICS[name].level} ")
        table.add_column(short, justify="right", overflow="fold")
    for evaluation in rows:
        cells = [_with_interval(evaluation.metrics.get(name), evaluation.intervals.get(name)) for name in names]
        table.add_row(evaluation.category, *cells, style="bold" if evaluation.category == AVERAGE else "")
    return table


def _titled(title: str, show_footer: bool = False) -> Table:
    padding = 0, 2, 0, 0
    return Table(
        title=title, title_justify="left", header_style="bold", show_footer=show_footer, box=None, padding=padding
    )


def format_value(value: float | None) -> str:
    """A value with three decimals; a dash for None."""
    return "-" if value is None else f"{value:.3f}"


def to_latex(evaluations: Sequence[Evaluation]) -> str:
    """LaTeX code (booktabs) of a table per method: a row per category, a column per metric, values in per cent."""
    shown = columns(evaluations)
    names = [one.name for one in shown]
    titles = " & ".join(latex_escaped(one.title) for one in shown)
    parts = []
    for method in methods_of(evaluations):
        own = [evaluation for evaluation in evaluations if evaluation.method == method]
        rows = [row for evaluation in own for row in _latex_rows(evaluation, names)]
        parts += [
            f"% {method}",
            rf"\begin{{tabular}}{{l{'r' * len(names)}}}",
            r"\toprule",
            rf"category & {titles} \\",
            r"\midrule",
            *rows,
            r"\midrule",
            *_latex_rows(_average(own, method), names),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    return "\n".join(parts) + "\n"


def latex_escaped(text: str) -> str:
    """The text with LaTeX's special characters escaped."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(letter, rf"\{letter}" if letter in "&%$#_{}" else letter) for letter in text)


def _latex_rows(evaluation: Evaluation, names: Sequence[str]) -> list[str]:
    """A row of values, and below it a row of intervals if there are any."""
    values = [value_in(evaluation, name) for name in names]
    figures = ["--" if value is None else f"{100 * value:.1f}" for value in values]
    rows = [[latex_escaped(evaluation.category), *figures]]
    if evaluation.intervals:
        ends = [evaluation.intervals.get(name) for name in names]
        rows.append(["", *(rf"\scriptsize {100 * e[0]:.1f}--{100 * e[1]:.1f}" if e else "" for e in ends)])
    return [" & ".join(row) + r" \\" for row in rows]


def _with_interval(value: float | None, interval: tuple[float, float] | None) -> Text:
    if value is None or interval is None:
        return Text(format_value(value))
    low, high = (f"{end:.3f}".removeprefix("0") for end in interval)
    return Text.assemble(f"{format_value(value)}\n", (f"{low}-{high}", "dim not bold"))


def _average(evaluations: Sequence[Evaluation], method: str) -> Evaluation:
    """The averages over the categories of one method, as the evaluation of a category named AVERAGE."""
    names = dict.fromkeys(name for evaluation in evaluations for name in evaluation.metrics)
    values = {name: average_of(evaluations, method, name) for name in names}
    intervals = {name: average_interval(evaluations, method, name) for name in names}
    own = [evaluation for evaluation in evaluations if evaluation.method == method]
    official = {name.removeprefix(OFFICIAL): average_of(own, method, name) for name in official_names(own)}
    known = {name: ends for name, ends in intervals.items() if ends}
    return Evaluation(method, AVERAGE, values, intervals=known, official=official)


def _to_csv(evaluations: Sequence[Evaluation]) -> str:
    """CSV with three columns per metric: value, lower and upper end; a value that does not exist is an empty cell.

    Official figures have no ends.
    """
    names = [one.name for one in columns(evaluations)]
    ends = {name: ("",) if name.startswith(OFFICIAL) else ("", "_low", "_high") for name in names}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "category", *(f"{name}{end}" for name in names for end in ends[name])])
    for evaluation in [*evaluations, *(_average(evaluations, method) for method in methods_of(evaluations))]:
        cells: list[float | str] = []
        for name in names:
            value = value_in(evaluation, name)
            interval = evaluation.intervals.get(name, ("", ""))
            cells += ["" if value is None else value, *interval[: len(ends[name]) - 1]]
        writer.writerow(csv_cells([evaluation.method, evaluation.category, *cells]))
    return text.getvalue()


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(read_bytes(path)))
    except ValueError as error:
        raise BlemishError(f"{path}: not JSON ({error}). Run it again.") from None
