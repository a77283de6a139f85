"""Curves for plots: exact curves, reduced to few points with a bounded error.

The exact curve of a category has up to millions of points. It is divided into sections of the length `tolerance`,
measured as |change in x| + |change in y|, and the first and last point of each section are kept. Each point of the
exact curve then lies within the tolerance of the reduced curve, and vice versa. If the curve is monotonic, the area
changes by at most tolerance / 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.metrics.formulas import Points, f1
from blemish.metrics.points import corner_thresholds, exact_points
from blemish.metrics.ranking import Ranking

TOLERANCE = 1e-3
COARSE = 0.01
"""The tolerance for reports, which contain many curves for display only."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A piecewise linear curve, from the highest threshold to the lowest; all arrays are (P,)."""

    x: Points
    y: Points
    thresholds: Points
    """A pixel or image with at least this score is predicted anomalous."""


@dataclass(frozen=True, slots=True)
class OperatingPoints:
    """Rates at descending thresholds; all arrays are (P,). Two of them make a ROC, PR or PRO curve."""

    thresholds: Points
    """A pixel with at least this score is predicted anomalous; finite."""
    false_positive_rate: Points
    recall: Points
    precision: Points
    overlap: Points
    """The mean over the regions of the fraction of each that is predicted anomalous."""


def operating_points(ranking: Ranking, tolerance: float = COARSE) -> OperatingPoints:
    """Return the rates at selected thresholds; the sum of the errors of all rates is at most the tolerance."""
    good, found = exact_points(ranking, "counts")
    _, overlap = exact_points(ranking, "pro")
    predicted = good + found
    precision = np.divide(found, predicted, out=np.ones_like(found), where=predicted > 0)
    rates = np.stack([good / good[-1], found / found[-1], precision, overlap])
    kept = _ends_of_sections(np.abs(np.diff(rates[:, 1:-1])).sum(axis=0), tolerance)
    thresholds = corner_thresholds(ranking)[1:-1][kept]
    return OperatingPoints(thresholds, *rates[:, 1:-1][:, kept])


def roc_curve(ranking: Ranking, tolerance: float = TOLERANCE) -> Curve:
    """Return the true-positive rate over the false-positive rate."""
    x, y = exact_points(ranking, "counts")
    return _thin(x / x[-1], y / y[-1], corner_thresholds(ranking), tolerance)


def precision_recall_curve(ranking: Ranking, tolerance: float = TOLERANCE) -> Curve:
    """Return the precision (y) over the recall (x), beginning at recall 0 with the precision of the highest score."""
    x, y = exact_points(ranking, "counts")
    predicted = x + y
    precision = np.divide(y, predicted, out=np.zeros_like(y), where=predicted > 0)
    first = int(np.argmax(predicted > 0))
    precision[:first] = precision[first]
    return _thin(y / y[-1], precision, corner_thresholds(ranking), tolerance)


def pro_curve(ranking: Ranking, tolerance: float = TOLERANCE) -> Curve:
    """Return the per-region overlap over the false-positive rate."""
    x, y = exact_points(ranking, "pro")
    return _thin(x, y, corner_thresholds(ranking), tolerance)


def pimo_curve(ranking: Ranking, tolerance: float = TOLERANCE) -> Curve:
    """Return the mean image overlap over the shared false-positive rate, for a plot over log10 of the rate.

    Only rates above 0 are included, and the tolerance holds for log10 of the rate and the overlap.
    """
    x, y = exact_points(ranking, "pimo")
    shown = x > 0
    thinned = _thin(np.log10(x[shown]), y[shown], corner_thresholds(ranking)[shown], tolerance)
    return Curve(10.0**thinned.x, thinned.y, thinned.thresholds)


def best_f1(ranking: Ranking) -> tuple[float, float]:
    """Return the highest F1, and the highest threshold at which it is reached."""
    x, y = exact_points(ranking, "counts")
    values = f1(x, y)
    best = int(np.argmax(values))
    return float(values[best]), float(corner_thresholds(ranking)[best])


def _thin(x: Points, y: Points, thresholds: Points, tolerance: float) -> Curve:
    kept = _ends_of_sections(np.abs(np.diff(x)) + np.abs(np.diff(y)), tolerance)
    return Curve(x[kept], y[kept], thresholds[kept])


def _ends_of_sections(steps: Points, tolerance: float) -> NDArray[np.bool_]:
    """Mark (P,) the first and last point of every section of the length `tolerance`, given the (P - 1,) steps."""
    section = np.floor(np.concatenate([[0.0], np.cumsum(steps)]) / tolerance)
    turn = section[1:] != section[:-1]
    kept: NDArray[np.bool_] = np.concatenate([[True], turn]) | np.concatenate([turn, [True]])
    return kept
