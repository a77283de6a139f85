"""The curves to draw keep within the error that they state."""

from __future__ import annotations

import numpy as np
import pytest

from blemish import metrics
from blemish.metrics.points import exact_points

CURVES = {"counts": metrics.roc_curve, "pro": metrics.pro_curve}


@pytest.fixture(scope="module")
def ranking():
    random = np.random.default_rng(0)
    maps = random.standard_normal((8, 64, 64)).astype(np.float32)
    maps[3] = np.round(maps[3] * 2) / 2
    masks = np.zeros(maps.shape, bool)
    masks[4:, 10:30, 20:35] = True
    masks[5:, 50:52, 50:60] = True
    return metrics.rank_masks_and_maps(masks, maps + masks)


def exact(ranking, name):
    x, y = exact_points(ranking, name)
    return x / x[-1], y / y[-1]


@pytest.mark.parametrize("tolerance", [0.1, 0.01, 1e-3])
@pytest.mark.parametrize("name", CURVES)
def test_a_thinned_curve_keeps_its_area_and_its_ends(ranking, name, tolerance):
    x, y = exact(ranking, name)
    curve = CURVES[name](ranking, tolerance)
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(np.trapezoid(y, x), abs=tolerance / 2)
    assert curve.x.size <= 4 / tolerance + 4


@pytest.mark.parametrize("tolerance", [0.1, 0.01])
def test_every_exact_point_is_within_the_tolerance_of_the_drawn_curve(ranking, tolerance):
    for (x, y), curve in [
        (exact(ranking, "counts"), metrics.roc_curve(ranking, tolerance)),
        (precision_and_recall(ranking), metrics.precision_recall_curve(ranking, tolerance)),
    ]:
        drawn = densely(curve.x, curve.y)
        for px, py in zip(x[::40], y[::40], strict=True):
            assert np.abs(drawn - [px, py]).sum(axis=1).min() <= tolerance + 1e-3


def precision_and_recall(ranking):
    x, y = (part[1:] for part in exact_points(ranking, "counts"))
    found = x + y
    return (y / y[-1])[found > 0], (y / np.maximum(found, 1))[found > 0]


def densely(x, y):
    """Points along the drawn lines, close together."""
    places = np.linspace(0, x.size - 1, 40 * x.size)
    steps = np.arange(x.size)
    return np.column_stack([np.interp(places, steps, x), np.interp(places, steps, y)])


def test_without_tolerance_to_spare_no_corner_is_lost(ranking):
    x, _ = exact_points(ranking, "pro")
    assert metrics.pro_curve(ranking, 1e-12).x.size >= np.unique(x).size


def test_the_precision_recall_curve_begins_at_the_precision_of_the_top_score():
    ranking = metrics.rank_images([1, 0, 1], [3.0, 2.0, 1.0])
    curve = metrics.precision_recall_curve(ranking)
    assert curve.x.tolist() == [0, 0, 0.5, 0.5, 1, 1]
    assert curve.y.tolist() == pytest.approx([1, 1, 1, 0.5, 2 / 3, 2 / 3])


def test_thresholds_give_the_points_they_stand_for():
    labels, scores = np.array([1, 0, 1, 0]), np.array([3, 3, 1, 0], np.float32)
    curve = metrics.roc_curve(metrics.rank_images(labels, scores))
    for x, y, threshold in zip(curve.x, curve.y, curve.thresholds, strict=True):
        reported = scores >= threshold
        assert (x, y) == (reported[labels == 0].mean(), reported[labels == 1].mean())
    whole = metrics.roc_curve(metrics.rank_images(labels, scores.astype(np.uint8)))
    assert whole.thresholds.tolist() == [np.inf, 4, 3, 2, 1, -np.inf]


def test_the_pimo_curve_is_over_rates_above_zero(ranking):
    curve = metrics.pimo_curve(ranking)
    assert curve.x[0] > 0
    assert (curve.x[-1], curve.y[-1]) == (pytest.approx(1), 1)
    assert (np.diff(curve.x) >= 0).all()
    assert (np.diff(curve.y) >= 0).all()
