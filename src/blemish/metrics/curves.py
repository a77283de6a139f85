"""Curves to draw: thinned, with a stated bound on the error.

A curve of a category has millions of corners. Kept are the first and the last corner of every stretch of the
curve that is `tolerance` long, measured as |step in x| + |step in y|. So every point of the exact curve lies
within the tolerance of the drawn one, in x and y together, and the other way round; where the curve rises
throughout, the area differs by at most tolerance / 2.
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
"""Tolerance where the eye is all that has to be content, and many curves go into one file."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve to draw with straight lines, from the highest threshold to the lowest; all arrays are (P,)."""

    x: Points
    y: Points
    thresholds: Points
    """The score from which on a pixel or image is reported."""


@dataclass(frozen=True, slots=True)
class OperatingPoints:
    """What happens at falling thresholds; all arrays are (P,). ROC, PR and PRO curves are two columns each."""

    thresholds: Points
    """The score from which on a pixel is reported; finite."""
    false_positive_rate: Points
    recall: Points
    precision: Points
    overlap: Points
    """The mean over the regions of the part of each that is reported."""


def operating_points(ranking: Ranking, tolerance: float = COARSE) -> OperatingPoints:
    """Return thresholds with the rates at each; every exact point is within the tolerance, in all rates together."""
    good, found = exact_points(ranking, "counts")
    _, overlap = exact_points(ranking, "pro")
    reported = good + found
    precision = np.divide(found, reported, out=np.ones_like(found), where=reported > 0)
    rates = np.stack([good / good[-1], found / found[-1], precision, overlap])
    kept = _corners_of_stretches(np.abs(np.diff(rates[:, 1:-1])).sum(axis=0), tolerance)
    thresholds = corner_thresholds(ranking)[1:-1][kept]
    return OperatingPoints(thresholds, *rates[:, 1:-1][:, kept])


def roc_curve(ranking: Ranking, tolerance: float = TOLERANCE) -> Curve:
    """Return the true-positive rate over the false-positive rate."""
    x, y = exact_points(ranking, "counts")
    return _thin(x / x[-1], y / y[-1], corner_thresholds(ranking), tolerance)


def precision_recall_curve(ranking: Ranking, tolerance: float = TOLERANCE) -> Curve:
    """Return the precision (y) over the recall (x), from recall 0 at the precision of the top score."""
    x, y = exact_points(ranking, "counts")
    reported = x + y
    precision = np.divide(y, reported, out=np.zeros_like(y), where=reported > 0)
    first = int(np.argmax(reported > 0))
    precision[:first] = precision[first]
    return _thin(y / y[-1], precision, corner_thresholds(ranking), tolerance)


def pro_curve(ranking: Ranking, tolerance: float = TOLERANCE) -> Curve:
    """Return the per-region overlap over the false-positive rate."""
    x, y = exact_points(ranking, "pro")
    return _thin(x, y, corner_thresholds(ranking), tolerance)


def pimo_curve(ranking: Ranking, tolerance: float = TOLERANCE) -> Curve:
    """Return the mean image overlap over the shared false-positive rate, to be drawn over log10 of the rate.

    Only rates above 0 are there, and the tolerance holds for log10 of the rate and the overlap.
    """
    x, y = exact_points(ranking, "pimo")
    shown = x > 0
    thinned = _thin(np.log10(x[shown]), y[shown], corner_thresholds(ranking)[shown], tolerance)
    return Curve(10.0**thinned.x, thinned.y, thinned.thresholds)


def best_f1(ranking: Ranking) -> tuple[float, float]:
    """Return the highest F1 and the highest score from which on it is reached."""
    x, y = exact_points(ranking, "counts")
    values = f1(x, y)
    best = int(np.argmax(values))
    return float(values[best]), float(corner_thresholds(ranking)[best])


def _thin(x: Points, y: Points, thresholds: Points, tolerance: float) -> Curve:
    kept = _corners_of_stretches(np.abs(np.diff(x)) + np.abs(np.diff(y)), tolerance)
    return Curve(x[kept], y[kept], thresholds[kept])


def _corners_of_stretches(steps: Points, tolerance: float) -> NDArray[np.bool_]:
    """Mark the (P,) first and last corner of every stretch that is `tolerance` long, given the (P - 1,) steps."""
    stretch = np.floor(np.concatenate([[0.0], np.cumsum(steps)]) / tolerance)
    turn = stretch[1:] != stretch[:-1]
    kept: NDArray[np.bool_] = np.concatenate([[True], turn]) | np.concatenate([turn, [True]])
    return kept
