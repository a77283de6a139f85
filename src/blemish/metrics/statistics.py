"""Which figures, and which differences between methods, are real.

The images are what is random: a test set is a draw of images, and the pixels of one image stand or fall
together. So images are resampled, never pixels; good and anomalous images separately, so that every resample
has both.
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
    """A confidence interval of one figure."""

    value: float
    """The figure itself, exact."""
    low: float
    high: float
    level: float
    """The confidence, such as 0.95."""
    num_resamples: int
    grid_error: float
    """The most by which the grid of thresholds can have moved any resample; 0 where it is exact."""


@dataclass(frozen=True, slots=True)
class Resamples:
    """A figure, and what it is on each of many resamples of the images: what intervals and comparisons are made of."""

    value: float
    """The figure itself, exact."""
    values: NDArray[np.float64]
    """(R,) the figure of each resample; equal seeds draw equal resamples of equal test sets."""
    grid_error: float = 0.0
    """The most by which the grid of thresholds can have moved any resample; 0 where it is exact."""

    def interval(self, level: float = 0.95) -> Interval:
        """The confidence interval: percentiles of the resamples."""
        low, high = np.quantile(self.values, [(1 - level) / 2, (1 + level) / 2])
        return Interval(self.value, float(low), float(high), level, self.values.size, self.grid_error)


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a figure of a second method differs from a first one's, on the same images or categories."""

    difference: float
    """Second minus first: of the figures, or the median over the categories."""
    low: float
    """The confidence interval of the difference; for categories its least and its largest value."""
    high: float
    p_value: float
    """Two-sided, of no difference."""
    num_pairs: int
    """Images, or categories, compared."""


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
    """Return a confidence interval per metric: percentiles over resamples of the images.

    Args:
        ranking: As in `resample`, and so are all others but the level.
        metrics: Names from METRICS, of the ranking's level; None: all that apply.
        threshold: The score from which on a pixel is reported, for SegF1.
        num_resamples: Resamples.
        level: The confidence.
        seed: One seed, one result.
        grid_size: Thresholds of the grid.

    Raises:
        NotApplicable: A metric that was named is not defined for this set.
        MetricInputError: There is no such metric, or it is of the other level, or the level is not in (0, 1).
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
    """Return each metric on resamples of the images.

    The value is exact. A resample is measured on a grid of thresholds and then moved by what the grid moves
    the value itself; `grid_error` bounds what is left, from the boxes between neighbouring points of the curve.
    With the default grid it is a few thousandths at most, small against the width of an interval over 100 images.

    Args:
        ranking: From `rank_pixels` or `rank_images`.
        metrics: Names from METRICS, of the ranking's level; None: all that apply.
        threshold: The score from which on a pixel is reported, for SegF1.
        num_resamples: Resamples.
        seed: One seed, one result.
        grid_size: Thresholds of the grid. At up to so many distinct scores the resamples are exact too.

    Raises:
        NotApplicable: A metric that was named is not defined for this set.
        MetricInputError: There is no such metric, or it is of the other level.
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
    """Return how two methods differ on the images of one category, each resample being the same for both.

    The p-value is twice the part of the resamples in which the difference is not on its own side of zero, one
    resample being counted as such from the start: (1 + number) / (1 + num_resamples), at most 1. The dtypes
    and scales of the two methods may differ.

    Args:
        metric: A name from METRICS.
        first: The ranking of the first method.
        second: That of the second, of the same images in the same order.
        thresholds: The thresholds of the first and the second, for SegF1.
        num_resamples: Resamples.
        level: The confidence of the interval.
        seed: One seed, one result.
        grid_size: As in `bootstrap`.

    Raises:
        NotApplicable: The metric is not defined for this set.
        MetricInputError: The two were not made from the same images.
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
    """Return how two methods differ whose figures were resampled alike; see `paired_bootstrap`.

    Args:
        first: The figure of the first method.
        second: That of the second on the same resamples.
        num_pairs: Images compared.
        level: The confidence of the interval.
    """
    differences = second.values - first.values
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    rarer = min((differences <= 0).sum(), (differences >= 0).sum())
    p_value = min(1.0, 2 * (1 + float(rarer)) / (1 + differences.size))
    return Comparison(second.value - first.value, float(low), float(high), p_value, num_pairs)


def compare_categories(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Return whether two methods differ over categories: the Wilcoxon signed-rank test on one figure of each.

    Categories on which the two are equal are left out. The p-value is exact up to 50 categories without equal
    differences. With fewer than six categories no p-value can be below 0.05.

    Args:
        first: The figure of the first method per category.
        second: That of the second, in the same order.

    Raises:
        NotApplicable: The two are equal on every category.
        MetricInputError: They differ in length, there is none, or one is not finite.

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
    """Return the figure of every resample (R,), and the bound on what the grid did to it."""
    if not np.all(weights @ counts.good[:, -1] > 0):
        raise NotApplicable("a resample of the images has no good pixel")
    full = metric.figure(*counts.points(metric.curve, np.ones((1, weights.shape[1]))))
    resampled, errors = [], [0.0]
    for start in range(0, len(weights), _BATCH):
        x, y = counts.points(metric.curve, weights[start : start + _BATCH])
        resampled.append(metric.figure(x, y))
        if not counts.exact and metric.curve != "decision":
            errors.append(float(_box_error(metric, x, y).max()))
    moved = np.concatenate(resampled) + (value - float(full[0]))
    return np.clip(moved, 0.0, 1.0), max(errors)


def _box_error(metric: Metric, x: Points, y: Points) -> Points:
    """Return the figure of the highest curve that has these points less that of the lowest.

    Between two points the exact curve stays in the box that they span. Taking x one point earlier runs along
    the upper left corners of the boxes, one point later along the lower right ones; every figure grows as the
    curve does.
    """
    upper = metric.figure(_earlier(x), _later(y))
    lower = metric.figure(_later(x), _earlier(y))
    return np.abs(upper - lower)


def _earlier(points: Points) -> Points:
    """Give every point but the first and the last the value of the one before it."""
    return np.concatenate([points[..., :1], points[..., :-1], points[..., -1:]], axis=-1)


def _later(points: Points) -> Points:
    """Give every point but the first and the last the value of the one after it."""
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
