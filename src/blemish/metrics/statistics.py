"""Confidence intervals of metrics, and tests of the difference between two methods.

The images of a test set are its random sample; the pixels of one image are not independent. Therefore the bootstrap
resamples images, not pixels. It resamples good and anomalous images separately, so that every resample has both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.metrics.formulas import Points
from blemish.metrics.ranking import Ranking
from blemish.metrics.registry import METRICS, Metric, metric_named
from blemish.metrics.resampling import ImageCounts, count_images, draw_images
from blemish.metrics.scores import MetricInputError, NotApplicable

GRID_SIZE = 2048
_BATCH = 128


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval of one metric."""

    value: float
    """The exact value of the metric."""
    low: float
    high: float
    level: float
    """The confidence, such as 0.95."""
    num_resamples: int
    grid_error: float
    """A bound on the error of any resample due to the grid of thresholds; 0 if exact."""


@dataclass(frozen=True, slots=True)
class Resamples:
    """A metric and its values on bootstrap resamples of the images, for intervals and comparisons."""

    value: float
    """The exact value of the metric."""
    values: NDArray[np.float64]
    """(R,) the value on each resample; with one seed and one test set the resamples are the same."""
    grid_error: float = 0.0
    """A bound on the error of any resample due to the grid of thresholds; 0 if exact."""

    def interval(self, level: float = 0.95) -> Interval:
        """The percentile interval of the resamples at the confidence level `level`."""
        low, high = np.quantile(self.values, [(1 - level) / 2, (1 + level) / 2])
        return Interval(self.value, float(low), float(high), level, self.values.size, self.grid_error)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference between two methods in one metric, on the same images or categories."""

    difference: float
    """Second minus first: the difference of values, or the median difference over the categories."""
    low: float
    """The lower end of the confidence interval; for categories the smallest difference."""
    high: float
    """The upper end; for categories the largest difference."""
    p_value: float
    """Two-sided p-value of no difference."""
    num_pairs: int
    """Number of compared images or categories."""


def bootstrap(
    ranking: Ranking,
    metrics: Iterable[str] | None = None,
    *,
    threshold: float | None = None,
    num_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    grid_size: int = GRID_SIZE,
) -> dict[str, Interval]:
    """Return the bootstrap percentile interval of each metric.

    Args:
        ranking: From `rank_pixels` or `rank_images`.
        metrics: Names from METRICS, of the ranking's level; None: all applicable ones.
        threshold: A pixel with at least this score is predicted anomalous, for SegF1.
        num_resamples: Number of resamples.
        level: The confidence level, in (0, 1).
        seed: The seed of the resamples.
        grid_size: Number of thresholds; see `resample`.

    Raises:
        NotApplicable: A named metric is undefined for this data set.
        MetricInputError: A name or its level is wrong, or `level` is not in (0, 1).
    """
    _check_options(level, num_resamples)
    options: Any = {"threshold": threshold, "num_resamples": num_resamples, "seed": seed, "grid_size": grid_size}
    return {name: found.interval(level) for name, found in resample(ranking, metrics, **options).items()}


def resample(
    ranking: Ranking,
    metrics: Iterable[str] | None = None,
    *,
    threshold: float | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
    grid_size: int = GRID_SIZE,
) -> dict[str, Resamples]:
    """Return each metric and its values on bootstrap resamples of the images.

    The metric itself is exact. Resamples are computed on a grid of thresholds and corrected by the error of the grid on
    the full data set; `grid_error` bounds the remaining error. With the default grid it is at most a few thousandths,
    which is small compared with an interval of 100 images.

    Args:
        ranking: From `rank_pixels` or `rank_images`.
        metrics: Names from METRICS, of the ranking's level; None: all applicable ones.
        threshold: A pixel with at least this score is predicted anomalous, for SegF1.
        num_resamples: Number of resamples.
        seed: The seed of the resamples.
        grid_size: Number of thresholds; with at most as many distinct scores the resamples are exact.

    Raises:
        NotApplicable: A named metric is undefined for this data set.
        MetricInputError: There is no metric of this name, or it is of the other level.
    """
    values = _exact_values(ranking, metrics, threshold)
    if not values:
        return {}
    counts = count_images(ranking, grid_size, threshold)
    weights = draw_images([image.is_good for image in ranking.images], num_resamples, seed)
    found = {name: _resample(METRICS[name], counts, weights, value) for name, value in values.items()}
    return {name: Resamples(values[name], resampled, error) for name, (resampled, error) in found.items()}


def paired_bootstrap(
    metric: str,
    first: Ranking,
    second: Ranking,
    *,
    thresholds: tuple[float, float] | None = None,
    num_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    grid_size: int = GRID_SIZE,
) -> Comparison:
    """Return the difference of two methods on the images of one category, with the same resamples for both.

    With k the number of resamples in which the difference is zero or has the opposite sign, the p-value is
    2 (1 + k) / (1 + num_resamples), at most 1. The dtypes and scales of the two methods may differ.

    Args:
        metric: A name from METRICS.
        first: The ranking of the first method.
        second: The ranking of the second method, of the same images in the same order.
        thresholds: The thresholds of the first and the second, for SegF1.
        num_resamples: Number of resamples.
        level: The confidence level of the interval.
        seed: The seed of the resamples.
        grid_size: See `resample`.

    Raises:
        NotApplicable: The metric is undefined for this data set.
        MetricInputError: The rankings are not of the same images.
    """
    _check_options(level, num_resamples)
    _check_same_images(first, second)
    found = [
        resample(ranking, [metric], threshold=threshold, num_resamples=num_resamples, seed=seed, grid_size=grid_size)[
            metric
        ]
        for ranking, threshold in zip((first, second), thresholds or (None, None), strict=True)
    ]
    return compare_resamples(found[0], found[1], len(first.images), level)


def compare_resamples(first: Resamples, second: Resamples, num_pairs: int, level: float = 0.95) -> Comparison:
    """Return the difference of two methods from their values on the same resamples; see `paired_bootstrap`.

    Args:
        first: The metric of the first method.
        second: The metric of the second method, on the same resamples.
        num_pairs: Number of images.
        level: The confidence level of the interval.
    """
    differences = second.values - first.values
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    rarer = min((differences <= 0).sum(), (differences >= 0).sum())
    p_value = min(1.0, 2 * (1 + float(rarer)) / (1 + differences.size))
    return Comparison(second.value - first.value, float(low), float(high), p_value, num_pairs)


def compare_categories(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Return the difference of two methods over categories, with the Wilcoxon signed-rank test.

    Categories in which both are equal are left out. The p-value is exact up to 50 categories without equal
    differences. With fewer than six categories no p-value can be below 0.05.

    Args:
        first: The metric of the first method for each category.
        second: The metric of the second method, in the same order.

    Raises:
        NotApplicable: Both are equal in every category.
        MetricInputError: The lengths differ or are zero, or a value is not finite.

    Source: J. Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 2006.
    """
    from scipy.stats import wilcoxon

    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or a.size == 0:
        raise MetricInputError(
            f"the figures have the shapes {a.shape} and {b.shape}; one per category of each is needed"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise MetricInputError("a figure is NaN or infinite; leave out categories where the metric is not applicable")
    differences = b - a
    differing = differences[differences != 0]
    if differing.size == 0:
        raise NotApplicable(f"the two are equal on all {a.size} categories")
    p_value = float(wilcoxon(differing).pvalue)
    return Comparison(
        float(np.median(differences)), float(differences.min()), float(differences.max()), p_value, a.size
    )


def _exact_values(ranking: Ranking, metrics: Iterable[str] | None, threshold: float | None) -> dict[str, float]:
    if metrics is not None:
        named = {name: metric_named(name) for name in metrics}
        wrong = [name for name, metric in named.items() if metric.level != ranking.unit]
        if wrong:
            raise MetricInputError(f"'{wrong[0]}' is not a metric of {ranking.unit}s, which is what was ranked")
        return {name: metric(ranking, threshold) for name, metric in named.items()}
    values = {}
    for name, metric in METRICS.items():
        if metric.level == ranking.unit:
            try:
                values[name] = metric(ranking, threshold)
            except NotApplicable:
                continue
    return values


def _resample(metric: Metric, counts: ImageCounts, weights: Points, value: float) -> tuple[NDArray[np.float64], float]:
    """Return the value on every resample (R,), and the bound on the error of the grid."""
    if not np.all(weights @ counts.good[:, -1] > 0):
        raise NotApplicable("a resample of the images has no good pixel")
    full = metric.formula(*counts.points(metric.curve, np.ones((1, weights.shape[1]))))
    resampled, errors = [], [0.0]
    for start in range(0, len(weights), _BATCH):
        x, y = counts.points(metric.curve, weights[start : start + _BATCH])
        resampled.append(metric.formula(x, y))
        if not counts.exact and metric.curve != "decision":
            errors.append(float(_box_error(metric, x, y).max()))
    moved = np.concatenate(resampled) + (value - float(full[0]))
    return np.clip(moved, 0.0, 1.0), max(errors)


def _box_error(metric: Metric, x: Points, y: Points) -> Points:
    """Return the difference between the metric of the highest and of the lowest curve through these points.

    Between two points the exact curve lies in the box that they span. Shifting x by one point gives the curve through
    the upper left or the lower right corners of the boxes. Every metric is monotonic in the curve.
    """
    upper = metric.formula(_earlier(x), _later(y))
    lower = metric.formula(_later(x), _earlier(y))
    return np.abs(upper - lower)


def _earlier(points: Points) -> Points:
    """Shift all points but the first and the last to the value before."""
    return np.concatenate([points[..., :1], points[..., :-1], points[..., -1:]], axis=-1)


def _later(points: Points) -> Points:
    """Shift all points but the first and the last to the value after."""
    return np.concatenate([points[..., :1], points[..., 1:], points[..., -1:]], axis=-1)


def _check_options(level: float, num_resamples: int) -> None:
    if not 0 < level < 1:
        raise MetricInputError(f"the confidence level is {level}; more than 0 and less than 1 is needed")
    if num_resamples < 1:
        raise MetricInputError(f"{num_resamples} resamples are asked for; 1 at least is needed")


def _check_same_images(first: Ranking, second: Ranking) -> None:
    if len(first.images) != len(second.images):
        raise MetricInputError(f"the first method has {len(first.images)} images, the second {len(second.images)}")
    for index, (a, b) in enumerate(zip(first.images, second.images, strict=True)):
        if (a.good.size, a.anomalous.size) != (b.good.size, b.anomalous.size):
            raise MetricInputError(f"image {index} differs between the two methods in its size or its mask")
