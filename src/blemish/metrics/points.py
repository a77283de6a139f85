"""The points of the exact curves of a ranking, from the highest threshold to the lowest.

Between two scores of anomalous pixels only the number of good pixels changes, so the curve is horizontal from (x, y) to
the x just above the next anomalous score. At that score it rises: vertically, or along a slope if good pixels have the
same score. These points determine the whole curve, without sampling of thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from blemish.metrics.formulas import Points
from blemish.metrics.ranking import Ranking, RegionPixels
from blemish.metrics.scores import Array, NotApplicable, from_keys

CurveName = Literal["counts", "pro", "spro", "pimo", "decision"]
"""counts: true over false positives; pro, spro: (saturated) region overlap over the false-positive rate (FPR); pimo:
mean overlap per image over the FPR shared by the good images; decision: counts at one threshold."""


def exact_points(ranking: Ranking, curve: CurveName, threshold: float | None = None) -> tuple[Points, Points]:
    """Return x and y of all points of a curve, each (P,).

    Args:
        ranking: The sorted scores.
        curve: The name of the curve.
        threshold: A pixel with at least this score is predicted anomalous; only for the curve "decision".

    Raises:
        NotApplicable: The curve is not defined for this set; the message says why.
    """
    ranking.require_both_classes()
    if curve == "decision":
        return _decision_points(ranking, threshold)
    if curve == "pimo" and not ranking.good_image_sizes:
        raise NotApplicable("no good image, which the shared false-positive rate needs")
    counts = ranking.counts
    if curve == "pimo":
        return corners(counts.shared_above, counts.shared, _mean_image_overlap(ranking), 1.0, 1.0)
    if curve == "counts":
        ends = float(ranking.num_good), float(ranking.num_anomalous)
        return corners(counts.good_above, counts.good, counts.anomalous, *ends)
    overlap = _overlap(_regions(ranking, curve), counts.thresholds)
    return corners(counts.good_above / ranking.num_good, counts.good / ranking.num_good, overlap, 1.0, 1.0)


def corners(above: Array, at: Array, y: Array, last_x: float, last_y: float) -> tuple[Points, Points]:
    """Return the points (0, 0), then two per threshold (just above it, and at it), then the last, each (2 K + 2,).

    Args:
        above: (K,) x just above each descending threshold.
        at: (K,) x at each threshold.
        y: (K,) y at each threshold.
        last_x: x if everything is predicted anomalous.
        last_y: y if everything is predicted anomalous.
    """
    xs, ys = np.zeros(2 * at.size + 2), np.zeros(2 * at.size + 2)
    xs[1:-1:2], xs[2::2], xs[-1] = above, at, last_x
    ys[2::2], ys[3::2], ys[-1] = y, y, last_y
    return xs, ys


def corner_thresholds(ranking: Ranking) -> Points:
    """Return (P,) the threshold of each point of a curve, from inf to -inf."""
    keys = ranking.counts.thresholds
    at = from_keys(keys, ranking.dtype).astype(np.float64)
    # "Just above a score" is the next score that the dtype can represent.
    above = from_keys(keys + 1, ranking.dtype).astype(np.float64) if ranking.dtype.kind == "f" else at + 1
    return np.concatenate([[np.inf], np.column_stack([above, at]).ravel(), [-np.inf]])


def image_pimo_points(ranking: Ranking) -> list[tuple[int, Points, Points]]:
    """Return for each anomalous image its index, and x and y of its overlap over the shared FPR."""
    exact_points(ranking, "pimo")
    counts, rising = ranking.counts, ranking.counts.thresholds[::-1]
    found = []
    for index, image in enumerate(ranking.images):
        if not image.is_good:
            own, first = np.unique(image.anomalous, return_index=True)
            place = (rising.size - 1 - rising.searchsorted(own))[::-1]
            overlap = 1.0 - first[::-1] / image.anomalous.size
            x, y = corners(counts.shared_above[place], counts.shared[place], overlap, 1.0, 1.0)
            found.append((index, x, y))
    return found


def _regions(ranking: Ranking, curve: CurveName) -> list[RegionPixels]:
    if curve == "pro":
        return [image.components for image in ranking.images]
    if not ranking.has_saturation_areas:
        raise NotApplicable("no saturation areas are given for the defects")
    return [image.saturated for image in ranking.images]


def _overlap(regions: Sequence[RegionPixels], thresholds: Array) -> Points:
    """Return (K,) the mean over the regions of the fraction that scores at least each threshold."""
    keys = np.concatenate([region.keys for region in regions])
    weights = np.concatenate([region.weights for region in regions])
    order = np.argsort(keys)
    sums = np.concatenate([[0.0], np.cumsum(weights[order[::-1]])])
    found = keys.size - keys[order].searchsorted(thresholds)
    return np.minimum(sums[found] / sum(region.num_regions for region in regions), 1.0)


def _mean_image_overlap(ranking: Ranking) -> Points:
    """Return (K,) the mean over the anomalous images of the fraction of their anomalous pixels that is detected."""
    images = [image for image in ranking.images if not image.is_good]
    parts = [(i.anomalous, np.full(i.anomalous.size, 1.0 / i.anomalous.size), 1) for i in images]
    return _overlap([RegionPixels(*part) for part in parts], ranking.counts.thresholds)


def _decision_points(ranking: Ranking, threshold: float | None) -> tuple[Points, Points]:
    if threshold is None:
        raise NotApplicable("no threshold is given")
    good, anomalous = ranking.count_at(threshold).sum(axis=0).astype(np.float64)
    x = np.array([good, float(ranking.num_good)])
    return x, np.array([anomalous, float(ranking.num_anomalous)])
