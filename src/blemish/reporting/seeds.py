"""The mean of an approach over its seeds, as one run, and how far the seeds lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, stdev

import numpy as np

from blemish.evaluation.columns import value_in
from blemish.evaluation.report_data import ReportData
from blemish.evaluation.results import average_of
from blemish.metrics import Resamples
from blemish.reporting.read_runs import Approach, Part, Run, categories_of


def mean_of(approach: Approach) -> Run:
    """The run whose metrics, resamples and durations are the means over the seeds.

    A metric that one seed lacks is that of the others. Resamples are averaged one by one, as they are of the same
    images for every seed; so intervals and paired tests are those of the mean.
    """
    if len(approach.runs) == 1:
        return approach.runs[0]
    found = ([run.part(category) for run in approach.runs] for category in categories_of(approach.runs))
    parts = tuple(_mean_part([part for part in of_category if part]) for of_category in found)
    return replace(approach.runs[0], parts=parts, seed=None)


def spread_of(approach: Approach, metric: str, category: str | None = None) -> float | None:
    """The standard deviation of a metric over the seeds; None for fewer than two.

    It is that of a category, or of the averages over the categories where `category` is None.
    """
    if category is None:
        values = [average_of([part.evaluation for part in run.parts], run.label, metric) for run in approach.runs]
    else:
        parts = [run.part(category) for run in approach.runs]
        values = [value_in(part.evaluation, metric) for part in parts if part]
    known = [value for value in values if value is not None]
    return stdev(known) if len(known) > 1 else None


def _mean_part(parts: Sequence[Part]) -> Part:
    first = parts[0]
    resamples = _mean_resamples(parts)
    evaluation = replace(
        first.evaluation,
        metrics=_means([part.evaluation.metrics for part in parts]),
        official=_means([part.evaluation.official for part in parts]),
        intervals={name: (found.interval().low, found.interval().high) for name, found in resamples.items()},
        durations={
            name: value
            for name, value in _means([part.evaluation.durations for part in parts]).items()
            if value is not None
        },
    )
    return replace(first, evaluation=evaluation, report_data=ReportData(resamples=resamples))


def _means(rows: Sequence[dict[str, float | None]] | Sequence[dict[str, float]]) -> dict[str, float | None]:
    """Name -> the mean of its values in the rows; None where all of them are."""
    names = dict.fromkeys(name for row in rows for name in row)
    known = {name: [value for row in rows if (value := row.get(name)) is not None] for name in names}
    return {name: fmean(values) if values else None for name, values in known.items()}


def _mean_resamples(parts: Sequence[Part]) -> dict[str, Resamples]:
    """The resamples of each metric that all parts have with the same number of values."""
    common = set.intersection(*(set(part.report_data.resamples) for part in parts))
    means = {}
    for name in (name for name in parts[0].report_data.resamples if name in common):
        found = [part.report_data.resamples[name] for part in parts]
        if len({own.values.size for own in found}) == 1:
            values = np.mean([own.values for own in found], axis=0)
            means[name] = Resamples(fmean(own.value for own in found), values, max(own.grid_error for own in found))
    return means
