"""Approaches side by side, as plain data and as tables: what `blemish benchmark` and `blemish compare` show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

import blemish
from blemish.evaluation.columns import column, columns, value_in
from blemish.evaluation.results import AVERAGE, HEADLINE, format_value
from blemish.metrics import average_ranks, friedman, groups_alike
from blemish.reporting.compare import SIGNIFICANCE, Verdict, compare_runs, verdicts_table
from blemish.reporting.read_runs import Approach, Run, categories_of
from blemish.reporting.seeds import mean_of, spread_of
from blemish.reporting.summarize import FIRST, cost, overview

JsonDict = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Compared:
    """Approaches side by side."""

    summary: JsonDict
    """All data, ready for JSON: values, ranks, tests and cost."""
    verdicts: list[Verdict]
    """For each metric and each pair of approaches."""


def compare_approaches(approaches: Sequence[Approach], failed: Sequence[JsonDict] = ()) -> Compared:
    """The approaches side by side; `failed` are the cells of a benchmark without a result."""
    means = [mean_of(approach) for approach in approaches]
    shown = columns([part.evaluation for run in means for part in run.parts])
    names = [one.name for one in shown]
    verdicts = compare_runs(means)
    summary = {
        "blemish": blemish.__version__,
        "methods": [approach.label for approach in approaches],
        "categories": categories_of(means),
        "num_seeds": [len(approach.runs) for approach in approaches],
        "metrics": [one.plain for one in shown],
        "first_metric": FIRST if FIRST in names else next(iter(names), None),
        "overview": {name: _with_spread(name, overview(name, means), approaches) for name in names},
        "ranks": {name: _ranks(name, means, verdicts) for name in names},
        "pairs": {name: [_pair(verdict) for verdict in verdicts if verdict.metric == name] for name in names},
        "cost": [cost(run) for run in means],
        "failed": list(failed),
    }
    return Compared(summary, verdicts)


def _with_spread(metric: str, rows: list[JsonDict], approaches: Sequence[Approach]) -> list[JsonDict]:
    """The rows of `overview`, each cell with the standard deviation over the seeds."""
    for row in rows:
        category = None if row is rows[-1] else row["category"]
        for cell, approach in zip(row["cells"], approaches, strict=True):
            cell["spread"] = spread_of(approach, metric, category)
    return rows


def _ranks(metric: str, means: Sequence[Run], verdicts: Sequence[Verdict]) -> JsonDict | None:
    """The average ranks over the categories in which all have the metric; None without any, or for one approach.

    `groups` are rows of `methods` that do not differ significantly by categories.
    """
    rows = ([_value(run, category, metric) for run in means] for category in categories_of(means))
    complete = [known for row in rows if len(known := [value for value in row if value is not None]) == len(means)]
    if len(means) < 2 or not complete:
        return None
    ranks = average_ranks(complete, lower_is_better=column(metric).direction == "lower").tolist()
    p_values = {verdict.labels: verdict.p_categories for verdict in verdicts if verdict.metric == metric}
    differ = np.zeros((len(means), len(means)), bool)
    for (at, first), (other, second) in combinations(enumerate(means), 2):
        p_value = p_values.get((first.label, second.label))
        differ[at, other] = differ[other, at] = p_value is not None and p_value < SIGNIFICANCE
    return {
        "ranks": ranks,
        "num_categories": len(complete),
        "friedman": friedman(complete),
        "groups": groups_alike(ranks, differ),
    }


def _value(run: Run, category: str, metric: str) -> float | None:
    part = run.part(category)
    return value_in(part.evaluation, metric) if part else None


def _pair(verdict: Verdict) -> JsonDict:
    images, categories = verdict.images, verdict.categories
    return {
        "first": verdict.labels[0],
        "second": verdict.labels[1],
        "values": [verdict.first, verdict.second],
        "difference": None if isinstance(images, str) else images.difference,
        "interval": None if isinstance(images, str) else [images.low, images.high],
        "p_images": verdict.p_images,
        "p_categories": verdict.p_categories,
        "reasons": list(dict.fromkeys(reason for reason in (images, categories) if isinstance(reason, str))),
        "better": verdict.better,
    }


def tables_for_terminal(compared: Compared) -> Iterator[Table | Text]:
    """The values of the HEADLINE metrics with average and rank, the tests of each pair, and the computing time.

    Two approaches are tested in every metric and official figure, more of them in the HEADLINE metrics.
    """
    summary = compared.summary
    for name in HEADLINE:
        if name in summary["overview"]:
            yield _values(summary, name)
    is_pair = len(summary["methods"]) == 2
    verdicts = [verdict for verdict in compared.verdicts if is_pair or verdict.metric in HEADLINE]
    if verdicts:
        yield verdicts_table(verdicts)
    for reason in dict.fromkeys(verdict.images for verdict in verdicts if isinstance(verdict.images, str)):
        yield Text(f"not compared: {reason}", "dim")
    if any(row["milliseconds"] is not None for row in summary["cost"]):
        yield _costs(summary)


def _values(summary: JsonDict, metric: str) -> Table:
    """A row per category, a column per approach; the averages and ranks are last."""
    table = _titled(column(metric).title)
    table.add_column("category", no_wrap=True)
    for method in summary["methods"]:
        table.add_column(method, justify="right")
    for row in summary["overview"][metric]:
        style = "bold" if row["category"] == AVERAGE else ""
        table.add_row(row["category"], *(value_with_spread(cell) for cell in row["cells"]), style=style)
    if ranks := summary["ranks"][metric]:
        table.add_row("mean rank", *(f"{rank:.2f}" for rank in ranks["ranks"]))
    return table


def _costs(summary: JsonDict) -> Table:
    table = _titled("Computing time")
    for name in ("method", "training per category", "per image"):
        table.add_column(name, justify="left" if name == "method" else "right", no_wrap=True)
    for row in summary["cost"]:
        fit, image = seconds_per_category(row), row["milliseconds"]
        table.add_row(
            row["method"], "-" if fit is None else f"{fit:.1f} s", "-" if image is None else f"{image:.1f} ms"
        )
    return table


def seconds_per_category(row: JsonDict) -> float | None:
    """The training time of a row of `cost`, per category that the approach has; None where it is not known."""
    return None if row["fit_seconds"] is None else float(row["fit_seconds"] / row["num_categories"])


def value_with_spread(cell: JsonDict, factor: float = 1.0, digits: int = 3) -> str:
    """The value of a cell with its standard deviation over the seeds, such as '0.973 ± 0.004'; a dash without one."""
    if cell["value"] is None:
        return "-"
    value = format_value(cell["value"]) if factor == 1 else f"{factor * cell['value']:.{digits}f}"
    return value if cell.get("spread") is None else f"{value} ± {factor * cell['spread']:.{digits}f}"


def _titled(title: str) -> Table:
    return Table(title=title, title_justify="left", header_style="bold", box=None, padding=(0, 2, 0, 0))


def mean_accuracy(summary: JsonDict, metric: str) -> list[float | None]:
    """The average of a metric over the categories for each approach."""
    return [cell["value"] for cell in summary["overview"][metric][-1]["cells"]]


def pareto(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """The rows than which no other is both at most as expensive and better, or cheaper and as good; the cheapest first.

    `costs` are positive, lower is better; of `values` higher is better.
    """
    best: list[int] = []
    for row in sorted(range(len(costs)), key=lambda row: (costs[row], -values[row])):
        if not best or values[row] > values[best[-1]]:
            best.append(row)
    return best
