"""Which differences between runs are real: paired statistics on the resamples that the runs left."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table
from rich.text import Text

from blemish.evaluation.results import average_of, shown
from blemish.metrics import METRICS, Comparison, NotApplicable, Resamples, compare_categories, compare_resamples
from blemish.reporting.read import Part, Run, categories_of

SIGNIFICANCE = 0.05


@dataclass(frozen=True, slots=True)
class Verdict:
    """How two runs compare in one metric, averaged over the categories that both have."""

    metric: str
    first: float | None
    second: float | None
    images: Comparison | str
    """By resampled images; or why it cannot be told."""
    categories: Comparison | str
    """By categories, the Wilcoxon signed-rank test; or why it cannot be told."""
    better: str = ""
    """The label of the run that is better; empty where no difference is significant."""


def compare_runs(first: Run, second: Run) -> list[Verdict]:
    """A verdict per metric that is applicable to both runs on some category."""
    return [
        _verdict(name, first, second)
        for name in METRICS
        if any(_both_have(name, *pair) for pair in _pairs(first, second))
    ]


def compare_parts(first: Part, second: Part, metric: str) -> Comparison | str:
    """How the second run differs on one category, each resample of its images being the same for both."""
    return _compare([(first, second)], metric)


def compare_averages(first: Run, second: Run, metric: str) -> Comparison | str:
    """The same for the average over the categories in which both have the metric."""
    return _compare([pair for pair in _pairs(first, second) if _both_have(metric, *pair)], metric)


def is_better(metric: str, comparison: Comparison | str) -> bool:
    """Whether the second is significantly better than the first."""
    if isinstance(comparison, str) or comparison.p_value >= SIGNIFICANCE:
        return False
    return (comparison.difference > 0) == (METRICS[metric].direction == "higher")


def best_of(metric: str, runs: Sequence[Run], category: str | None = None) -> str:
    """The label of the run that is significantly better than each of the others; empty where there is none.

    Each pair is tested at the same level: all tests have to succeed, so none is made too easy by there being several.
    """
    for candidate in runs if len(runs) > 1 else ():
        others = [run for run in runs if run is not candidate]
        if all(is_better(metric, _compared(metric, other, candidate, category)) for other in others):
            return candidate.label
    return ""


def verdicts_table(first: Run, second: Run, verdicts: Sequence[Verdict]) -> Table:
    """A row per metric: both figures, their difference with its interval, the p-values and the verdict."""
    table = Table(header_style="bold", box=None, padding=(0, 1, 0, 0))
    table.add_column("metric", no_wrap=True)
    for name in (first.label, second.label):
        table.add_column(name, justify="right")
    table.add_column("difference\n95 % interval", justify="right", no_wrap=True)
    table.add_column("p by\nimages", justify="right")
    table.add_column("p by\ncat.", justify="right")
    table.add_column("better")
    for verdict in verdicts:
        table.add_row(
            METRICS[verdict.metric].title.replace("FPR at full recall", "FPR at full\nrecall"),
            shown(verdict.first),
            shown(verdict.second),
            _difference(verdict.images),
            _p_value(verdict.images),
            _p_value(verdict.categories),
            Text(verdict.better, "bold") if verdict.better else _undecided(verdict.images),
        )
    return table


def _verdict(metric: str, first: Run, second: Run) -> Verdict:
    pairs = [pair for pair in _pairs(first, second) if _both_have(metric, *pair)]
    evaluations = [[part.evaluation for part in side] for side in zip(*pairs, strict=True)]
    values = [average_of(side, side[0].method, metric) for side in evaluations]
    images = _compare(pairs, metric)
    better = second.label if is_better(metric, images) else ""
    if not better and is_better(metric, _compare([(b, a) for a, b in pairs], metric)):
        better = first.label
    return Verdict(metric, values[0], values[1], images, _by_categories(metric, pairs), better)


def _by_categories(metric: str, pairs: Sequence[tuple[Part, Part]]) -> Comparison | str:
    if len(pairs) < 6:
        return "fewer than six categories"
    try:
        first, second = ([part.evaluation.metrics[metric] or 0.0 for part in side] for side in zip(*pairs, strict=True))
        return compare_categories(first, second)
    except NotApplicable as reason:
        return str(reason)


def _compared(metric: str, first: Run, second: Run, category: str | None) -> Comparison | str:
    if category is None:
        return compare_averages(first, second, metric)
    parts = first.part(category), second.part(category)
    if parts[0] is None or parts[1] is None:
        return "one of them has no such category"
    return compare_parts(parts[0], parts[1], metric)


def _compare(pairs: Sequence[tuple[Part, Part]], metric: str) -> Comparison | str:
    if not pairs:
        return "no category in which both have it"
    for first, second in pairs:
        if [_known(row) for row in first.evaluation.images] != [_known(row) for row in second.evaluation.images]:
            return f"other test images in {first.evaluation.category}"
        if any(metric not in part.record.resamples for part in (first, second)):
            return f"no resamples of {first.evaluation.category} on disk"
        if first.record.resamples[metric].values.size != second.record.resamples[metric].values.size:
            return f"{first.evaluation.category} was resampled another number of times"
    first_average, second_average = (_averaged(side, metric) for side in zip(*pairs, strict=True))
    return compare_resamples(
        first_average, second_average, sum(len(first.evaluation.images) for first, _ in pairs), 1 - SIGNIFICANCE
    )


def _known(row: dict[str, object]) -> tuple[object, object]:
    return row["path"], row["label"]


def _averaged(parts: Sequence[Part], metric: str) -> Resamples:
    """The mean over the categories. Each category's resamples are shuffled by its name, the same way for every run:
    the draws of one category are independent of those of another, those of two runs stay paired.
    """
    found = [part.record.resamples[metric] for part in parts]
    if len(parts) == 1:
        return found[0]
    seeds = [zlib.crc32(part.evaluation.category.encode()) for part in parts]
    shuffled = [np.random.default_rng(seed).permutation(own.values) for seed, own in zip(seeds, found, strict=True)]
    return Resamples(float(np.mean([own.value for own in found])), np.mean(shuffled, axis=0))


def _pairs(first: Run, second: Run) -> list[tuple[Part, Part]]:
    parts = [(first.part(category), second.part(category)) for category in categories_of([first, second])]
    return [(a, b) for a, b in parts if a and b]


def _both_have(metric: str, first: Part, second: Part) -> bool:
    return all(part.evaluation.metrics.get(metric) is not None for part in (first, second))


def _difference(comparison: Comparison | str) -> Text:
    if isinstance(comparison, str):
        return Text("-")
    interval = f"{comparison.low:+.3f} to {comparison.high:+.3f}"
    return Text.assemble(f"{comparison.difference:+.3f}\n", (interval, "dim"))


def _p_value(comparison: Comparison | str) -> str:
    return "-" if isinstance(comparison, str) else f"{comparison.p_value:.3f}"


def _undecided(comparison: Comparison | str) -> str:
    return "cannot tell" if isinstance(comparison, str) else "not significant"
