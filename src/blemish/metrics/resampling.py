"""Metrics on many resamples of the images at once.

Every curve is a weighted sum over the images. With the number of pixels of each image at or above each threshold of a
grid, a resample is a matrix product instead of a new ranking. The grid makes the result approximate, unless it contains
all distinct scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.metrics.formulas import Points
from blemish.metrics.points import CurveName
from blemish.metrics.ranking import Ranking, RegionPixels
from blemish.metrics.scores import Array


@dataclass(frozen=True, slots=True)
class ImageCounts:
    """Counts for each of n images at or above each of P descending thresholds."""

    good: Points
    """(n, P) good pixels."""
    anomalous: Points
    """(n, P) anomalous pixels."""
    overlap: Points
    """(n, P) sum over the components of the fraction that is detected."""
    saturated: Points
    """(n, P) the same for the defects with saturation areas."""
    decided: Points
    """(n, 2) good and anomalous pixels at or above the threshold of a decision."""
    exact: bool
    """Whether the grid contains every distinct score."""

    def points(self, curve: CurveName, weights: Points) -> tuple[Points, Points]:
        """Return x and y, (R, P), of a curve for R resamples.

        Args:
            curve: The name of the curve.
            weights: (R, n) how often each image is drawn.
        """
        if curve == "counts":
            return weights @ self.good, weights @ self.anomalous
        if curve == "decision":
            totals = np.stack([self.good[:, -1], self.anomalous[:, -1]], axis=1)
            stacked = np.stack([weights @ self.decided, weights @ totals], axis=-1)
            return stacked[:, 0], stacked[:, 1]
        if curve == "pimo":
            is_good = self.anomalous[:, -1] == 0
            shared = _mean_rate(weights[:, is_good], self.good[is_good])
            return shared, _mean_rate(weights[:, ~is_good], self.anomalous[~is_good])
        good, found = weights @ self.good, weights @ (self.overlap if curve == "pro" else self.saturated)
        return good / good[:, -1:], found / found[:, -1:]


def count_images(ranking: Ranking, grid_size: int, threshold: float | None = None) -> ImageCounts:
    """Count the pixels of every image on a grid of about `grid_size` thresholds."""
    grid, exact = choose_grid(ranking, grid_size)
    images = ranking.images
    decided = np.zeros((len(images), 2)) if threshold is None else ranking.count_at(threshold).astype(float)
    return ImageCounts(
        good=np.stack([_at_least(image.good, grid) for image in images]),
        anomalous=np.stack([_at_least(image.anomalous, grid) for image in images]),
        overlap=np.stack([_weight_at_least(image.components, grid) for image in images]),
        saturated=np.stack([_weight_at_least(image.saturated, grid) for image in images]),
        decided=decided,
        exact=exact,
    )


def choose_grid(ranking: Ranking, size: int) -> tuple[Array, bool]:
    """Return descending thresholds, and whether they include all distinct scores.

    If there are more distinct scores than `size`, three quarters of the thresholds are scores of anomalous pixels:
    quantiles with equal weights per pixel, per region and per image, so that no curve rises by much more than 4 / size
    between thresholds. The last quarter are scores of good pixels, half of them evenly spaced by rank, and half by the
    logarithm of the rank.
    """
    distinct = _few_distinct(ranking, size)
    if distinct is not None:
        return distinct[::-1], True
    images = [image for image in ranking.images if not image.is_good]
    keys = np.concatenate([image.anomalous for image in images])
    image_weights = np.concatenate([np.full(i.anomalous.size, 1.0 / i.anomalous.size) for i in images])
    parts = [_spread(keys, np.ones(keys.size), size // 4), _spread(keys, image_weights, size // 4)]
    regions = [[image.components for image in images]]
    if ranking.has_saturation_areas:
        regions.append([image.saturated for image in images])
    for group in regions:
        weights = np.concatenate([region.weights for region in group])
        parts.append(_spread(np.concatenate([r.keys for r in group]), weights, size // (4 * len(regions))))
    parts += _spread_good(ranking, size // 8)
    return np.unique(np.concatenate(parts))[::-1], False


def _few_distinct(ranking: Ranking, size: int) -> Array | None:
    """Return all distinct keys in ascending order; None if there are more than `size`."""
    found = ranking.images[0].good[:0]
    for image in ranking.images:
        for keys in (image.good, image.anomalous):
            if keys.size:
                new = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
                found = np.union1d(found, new) if new.size <= size else new
            if found.size > size:
                return None
    return found


def _spread(keys: Array, weights: Points, number: int) -> Array:
    """Choose keys that divide the total weight into equal parts; the lowest key is one of them."""
    order = np.argsort(keys)[::-1]
    reached = np.cumsum(weights[order])
    levels = np.linspace(0, reached[-1], number + 1)[1:]
    chosen: Array = keys[order[np.minimum(np.searchsorted(reached, levels), keys.size - 1)]]
    return chosen


def _spread_good(ranking: Ranking, number: int) -> list[Array]:
    """Choose keys of good pixels, evenly spaced by rank, and by the logarithm of the rank from the highest."""
    even: list[Array] = []
    tail: list[Array] = []
    for image in ranking.images:
        if image.good.size:
            last = image.good.size - 1
            even.append(image.good[np.linspace(0, last, 64).astype(np.int64)])
            tail.append(image.good[last - np.geomspace(1, last + 1, 64).astype(np.int64) + 1])
    pooled = [np.sort(np.concatenate(part)) for part in (even, tail)]
    return [keys[np.linspace(0, keys.size - 1, number).astype(np.int64)] for keys in pooled]


def _at_least(keys: Array, grid: Array) -> Points:
    """Return (P + 2,): 0, the number of keys at or above each threshold, and the number of all keys."""
    return np.concatenate([[0.0], keys.size - keys.searchsorted(grid), [keys.size]])


def _weight_at_least(region: RegionPixels, grid: Array) -> Points:
    order = np.argsort(region.keys)
    sums = np.concatenate([[0.0], np.cumsum(region.weights[order[::-1]])])
    found = region.keys.size - region.keys[order].searchsorted(grid)
    return np.concatenate([[0.0], sums[found], [float(region.num_regions)]])


def _mean_rate(weights: Points, counts: Points) -> Points:
    rates: Points = (weights @ (counts / counts[:, -1:])) / weights.sum(axis=1, keepdims=True)
    return rates


def draw_images(strata: Sequence[bool], num_resamples: int, seed: int) -> NDArray[np.float64]:
    """Return (R, n): how often each image is drawn with replacement, separately for both values of `strata`."""
    random = np.random.default_rng(seed)
    membership = np.asarray(strata)
    weights = np.zeros((num_resamples, membership.size))
    for stratum in (False, True):
        members = np.flatnonzero(membership == stratum)
        if members.size:
            even = np.full(members.size, 1.0 / members.size)
            weights[:, members] = random.multinomial(members.size, even, size=num_resamples)
    return weights
