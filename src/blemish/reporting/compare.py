"""Comparing runs: paired tests on the bootstrap resamples that the runs stored."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from rich.table import Table
from rich.text import Text

from blemish.evaluation.columns import OFFICIAL, column, columns, value_in
from blemish.evaluation.results import average_of, format_value
from blemish.metrics import Comparison, NotApplicable, Resamples, compare_categories, compare_resamples, holm
from blemish.metrics.ranks import FEWEST_CATEGORIES
from blemish.reporting.read_runs import Part, Run, categories_of

SIGNIFICANCE = 0.05


@dataclass(frozen=True, slots=True)
class Verdict:
    """The comparison of two runs in one metric, averaged over their common categories."""

    metric: str
    labels: tuple[str, str]
    first: float | None
    second: float | None
    images: Comparison | str
    """By paired bootstrap over the images; or the reason why it is not possible."""
    categories: Comparison | str
    """By the Wilcoxon signed-rank test over the categories; or the reason why it is not possible."""
    p_images: float | None
    p_categories: float | None
    """The p-values of the two tests, by Holm's method corrected for the number of pairs; None where not possible."""

    @property
    def better(self) -> str:
        """The label of the run that is significantly better by images; empty without a significant difference."""
        if isinstance(self.images, str) or self.p_images is None or self.p_images >= SIGNIFICANCE:
            return ""
        return self.labels[(self.images.difference > 0) == (column(self.metric).direction == "higher")]


def compare_runs(runs: Sequence[Run]) -> list[Verdict]:
    """A verdict for each metric and official figure, and each pair of runs that both have it in some category."""
    shown = columns([part.evaluation for run in runs for part in run.parts])
    return [verdict for one in shown for verdict in _corrected(_verdicts(one.name, runs))]


def _verdicts(metric: str, runs: Sequence[Run]) -> list[Verdict]:
    found = ((_shared(metric, *pair), pair) for pair in combinations(runs, 2))
    return [_verdict(metric, pairs, *both) for pairs, both in found if pairs]


def _corrected(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts of one metric, with the p-values of each test corrected for their number."""
    by_images = _holm([verdict.images for verdict in verdicts])
    by_categories = _holm([verdict.categories for verdict in verdicts])
    return [
        replace(verdict, p_images=images, p_categories=categories)
        for verdict, images, categories in zip(verdicts, by_images, by_categories, strict=True)
    ]


def _holm(comparisons: Sequence[Comparison | str]) -> list[float | None]:
    made = [comparison for comparison in comparisons if not isinstance(comparison, str)]
    corrected = iter(holm([comparison.p_value for comparison in made]))
    return [None if isinstance(comparison, str) else next(corrected) for comparison in comparisons]


def compare_parts(first: Part, second: Part, metric: str) -> Comparison | str:
    """The difference between the second and the first run on one category, by paired bootstrap over the images."""
    return _compare([(first, second)], metric)


def compare_averages(first: Run, second: Run, metric: str) -> Comparison | str:
    """The difference of the averages over the categories in which both have the metric, by paired bootstrap."""
    return _compare(_shared(metric, first, second), metric)


def is_better(metric: str, comparison: Comparison | str) -> bool:
    """Whether the second run is significantly better than the first."""
    if isinstance(comparison, str) or comparison.p_value >= SIGNIFICANCE:
        return False
    return (comparison.difference > 0) == (column(metric).direction == "higher")


def best_of(metric: str, runs: Sequence[Run], category: str | None = None) -> str:
    """The label of the run that is significantly better than each of the others; empty if there is none.

    It is for one category, or the average if `category` is None. There is no correction for multiple tests, because all
    of a run's tests must succeed.
    """
    for candidate in runs if len(runs) > 1 else ():
        others = [run for run in runs if run is not candidate]
        if all(is_better(metric, _compared(metric, other, candidate, category)) for other in others):
            return candidate.label
    return ""


def verdicts_table(verdicts: Sequence[Verdict]) -> Table:
    """A table with a row per verdict: both values, their difference and its interval, p-values, and the better run.

    The labels of the runs head the columns if all verdicts are of one pair, and else stand above the values.
    """
    pairs = list(dict.fromkeys(verdict.labels for verdict in verdicts))
    table = Table(header_style="bold", box=None, padding=(0, 1, 0, 0))
    table.add_column("metric", no_wrap=True)
    for name in pairs[0] if len(pairs) == 1 else ("first", "second"):
        table.add_column(name, justify="right")
    table.add_column("difference\n95 % interval", justify="right", no_wrap=True)
    table.add_column("p by\nimages", justify="right")
    table.add_column("p by\ncat.", justify="right")
    table.add_column("better")
    for verdict in verdicts:
        values = [format_value(value) for value in (verdict.first, verdict.second)]
        named = (f"{label}\n{value}" for label, value in zip(verdict.labels, values, strict=True))
        table.add_row(
            column(verdict.metric).title.replace("FPR at full recall", "FPR at full\nrecall"),
            *(values if len(pairs) == 1 else map(Text, named)),
            _difference(verdict.images),
            format_value(verdict.p_images),
            format_value(verdict.p_categories),
            Text(verdict.better, "bold") if verdict.better else _undecided(verdict.images),
        )
    return table


def _verdict(metric: str, pairs: Sequence[tuple[Part, Part]], first: Run, second: Run) -> Verdict:
    evaluations = [[part.evaluation for part in side] for side in zip(*pairs, strict=True)]
    values = [average_of(side, side[0].method, metric) for side in evaluations]
    images, categories = _compare(pairs, metric), _by_categories(metric, pairs)
    return Verdict(metric, (first.label, second.label), values[0], values[1], images, categories, None, None)


def _by_categories(metric: str, pairs: Sequence[tuple[Part, Part]]) -> Comparison | str:
    if len(pairs) < FEWEST_CATEGORIES:
        return "fewer than six categories"
    try:
        first, second = (
            [value_in(part.evaluation, metric) or 0.0 for part in side] for side in zip(*pairs, strict=True)
        )
        return compare_categories(first, second)
    except NotApplicable as reason:
        return str(reason)


def _compared(metric: str, first: Run, second: Run, category: str | None) -> Comparison | str:
    if category is None:
        return compare_averages(first, second, metric)
    parts = first.part(category), second.part(category)
    if parts[0] is None or parts[1] is None:
        return "a run lacks this category"
    return compare_parts(parts[0], parts[1], metric)


def _compare(pairs: Sequence[tuple[Part, Part]], metric: str) -> Comparison | str:
    if not pairs:
        return "no category in which both runs have the metric"
    if metric.startswith(OFFICIAL):
        return "official figures are not resampled"
    for first, second in pairs:
        if [_known(row) for row in first.evaluation.images] != [_known(row) for row in second.evaluation.images]:
            return f"different test images in {first.evaluation.category}"
        if any(metric not in part.report_data.resamples for part in (first, second)):
            return f"no stored resamples of {first.evaluation.category}"
        if first.report_data.resamples[metric].values.size != second.report_data.resamples[metric].values.size:
            return f"{first.evaluation.category} has different numbers of resamples"
    first_average, second_average = (_averaged(side, metric) for side in zip(*pairs, strict=True))
    return compare_resamples(
        first_average, second_average, sum(len(first.evaluation.images) for first, _ in pairs), 1 - SIGNIFICANCE
    )


def _known(row: dict[str, object]) -> tuple[object, object]:
    return row["path"], row["label"]


def _averaged(parts: Sequence[Part], metric: str) -> Resamples:
    """The resamples of the mean over the categories.

    The resamples of each category are shuffled with a seed from its name: so they are independent between categories,
    and stay paired between runs.
    """
    found = [part.report_data.resamples[metric] for part in parts]
    if len(parts) == 1:
        return found[0]
    seeds = [zlib.crc32(part.evaluation.category.encode()) for part in parts]
    shuffled = [np.random.default_rng(seed).permutation(own.values) for seed, own in zip(seeds, found, strict=True)]
    return Resamples(float(np.mean([own.value for own in found])), np.mean(shuffled, axis=0))


def _pairs(first: Run, second: Run) -> list[tuple[Part, Part]]:
    parts = [(first.part(category), second.part(category)) for category in categories_of([first, second])]
    return [(a, b) for a, b in parts if a and b]


def _shared(metric: str, first: Run, second: Run) -> list[tuple[Part, Part]]:
    """The results of two runs on each category in which both have the metric."""
    return [
        pair for pair in _pairs(first, second) if all(value_in(part.evaluation, metric) is not None for part in pair)
    ]


def _difference(comparison: Comparison | str) -> Text:
    if isinstance(comparison, str):
        return Text("-")
    interval = f"{comparison.low:+.3f} to {comparison.high:+.3f}"
    return Text.assemble(f"{comparison.difference:+.3f}\n", (interval, "dim"))


def _undecided(comparison: Comparison | str) -> str:
    return "not compared" if isinstance(comparison, str) else "not significant"
