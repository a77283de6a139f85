"""The formulas of the metrics: each computes its value from the points of a curve.

A curve is given as x and y of shape (..., P): all points of the exact curve, from the highest threshold to the lowest.
Leading axes are resamples of the images, so that the bootstrap and the exact value share the code.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


def area_under(x: Points, y: Points, limit: float = 1.0) -> Points:
    """Return the area under the straight lines between the points up to x = limit, divided by the limit."""
    return _clipped_area(x, y, 0.0, limit) / limit


def log_area_under(
    x: Points, y: Points, bounds: tuple[float, float], integrated: tuple[float, float] | None = None
) -> Points:
    """Return the area under y over log(x) between two positive bounds, divided by log(high / low); at most 1.

    The curve is linear in log(x) between points. Between x = 0 and the first positive x it is constant.

    Args:
        x: Points of the curve.
        y: Points of the curve.
        bounds: (low, high) of the divisor.
        integrated: (low, high) of the integral; None: equal to `bounds`.
    """
    low, high = np.log(integrated or bounds)
    with np.errstate(divide="ignore"):
        area = _clipped_area(np.log(x), y, low, high)
    mean: Points = np.minimum(area / np.log(bounds[1] / bounds[0]), 1.0)
    return mean


def _clipped_area(x: Points, y: Points, low: float, high: float) -> Points:
    left, right = x[..., :-1], x[..., 1:]
    start, stop = np.clip(left, low, high), np.clip(right, low, high)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (y[..., 1:] - y[..., :-1]) / (right - left)
    slope[~(np.isfinite(slope) & np.isfinite(left))] = 0.0  # the area under a vertical line is zero
    middle = np.where(np.isfinite(left), (start + stop) / 2 - left, 0.0)
    area: Points = ((stop - start) * (y[..., :-1] + slope * middle)).sum(axis=-1)
    return area


def area_under_roc(false_positives: Points, true_positives: Points) -> Points:
    """Return the AUROC from counts. Ties count half, because the curve is linear between points."""
    scale = np.maximum(false_positives[..., -1] * true_positives[..., -1], 1.0)
    lengths = np.diff(false_positives, axis=-1)
    heights = true_positives[..., 1:] + true_positives[..., :-1]
    area: Points = (lengths * heights).sum(axis=-1) / 2 / scale
    return area


def average_precision(false_positives: Points, true_positives: Points) -> Points:
    """Return the sum over the points of the increase of recall times the precision."""
    found = true_positives + false_positives
    precision = np.divide(true_positives, found, out=np.zeros_like(found), where=found > 0)
    gain = np.diff(true_positives, axis=-1)
    total: Points = (gain * precision[..., 1:]).sum(axis=-1) / true_positives[..., -1]
    return total


def f1(false_positives: Points, true_positives: Points) -> Points:
    """Return F1 at every point: 2 TP / (TP + FP + anomalous)."""
    values: Points = 2 * true_positives / (true_positives + false_positives + true_positives[..., -1:])
    return values


def f1_max(false_positives: Points, true_positives: Points) -> Points:
    """Return the highest F1 of all points."""
    best: Points = f1(false_positives, true_positives).max(axis=-1)
    return best


def first_f1(false_positives: Points, true_positives: Points) -> Points:
    """Return F1 at the first point."""
    chosen: Points = f1(false_positives, true_positives)[..., 0]
    return chosen


def false_alarms_at_full_recall(false_positives: Points, true_positives: Points) -> Points:
    """Return the false-positive rate at the highest threshold with recall 1."""
    full = np.argmax(true_positives >= true_positives[..., -1:], axis=-1)[..., np.newaxis]
    alarms = np.take_along_axis(false_positives, full, axis=-1)[..., 0]
    rate: Points = alarms / false_positives[..., -1]
    return rate
