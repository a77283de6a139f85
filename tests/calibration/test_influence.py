"""What a threshold rests on, by values: the images that set it, those that stand apart, and the calibration without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from blemish.calibration.influence import exceed_too_often, num_above, support
from blemish.calibration.thresholds import PIXEL_RATES, Calibration, calibrate, conformal_threshold, with_thresholds

LEVELS = tuple(float(level) for level in range(len(PIXEL_RATES)))
GOOD = [0.5 + 0.02 * row for row in range(30)]
"""From 0.5 to 1.08."""


def calibrated(scores: list[float], rate: float) -> Calibration:
    return calibrate(scores, LEVELS, rate, images=[f"/good/{row}.png" for row in range(len(scores))])


def test_one_image_far_above_the_others_sets_the_threshold_alone_and_stands_apart():
    calibration = calibrated([2.7, *GOOD], 0.05)
    found = support(calibration)
    assert (found.images, found.scores) == (("/good/0.png",), (2.7,))
    assert found.rest == tuple(GOOD)
    assert found.gap == pytest.approx(2.7 - 1.08)
    assert found.spread == pytest.approx(0.58)
    assert found.threshold_without == conformal_threshold(GOOD, 0.05)
    assert found.is_outlying


def test_two_images_that_are_alike_do_not_hide_each_other():
    found = support(calibrated([2.7, 2.6, *GOOD], 0.07))
    assert found.scores == (2.6, 2.7)
    assert found.images == ("/good/1.png", "/good/0.png")
    assert found.is_outlying


@pytest.mark.parametrize("scores", [GOOD, [1.6, *GOOD], [1.0] * 20, [9.0, 0.1, 0.1, 0.1, 0.1]])
def test_what_is_within_the_spread_of_the_rest_or_compared_with_too_few_stands_not_apart(scores):
    assert not support(calibrated(list(scores), max(0.05, 1 / (len(scores) + 1)))).is_outlying


def test_nothing_sets_a_threshold_that_was_set_by_hand_and_one_image_has_no_rest():
    assert support(with_thresholds(calibrated(GOOD, 0.05), threshold=3.0)) is None
    assert support(Calibration(1.0, 1.0, None, None, (), ())) is None
    alone = support(calibrated([1.0], 0.5))
    assert (alone.rest, alone.threshold_without, alone.is_outlying) == ((), None, False)
    unnamed = support(calibrate(GOOD, LEVELS, 0.05))
    assert (unnamed.images, unnamed.scores) == ((), (GOOD[-1],))


def test_good_images_look_defective_where_more_are_above_the_threshold_than_chance_explains():
    former = calibrated(list(np.linspace(0, 1, 99)), 0.01)
    assert num_above([0.5, 2.0, 3.0], former.threshold) == 2
    assert exceed_too_often(former, [2.0] * 3 + [0.5] * 17)
    assert not exceed_too_often(former, [2.0] + [0.5] * 19)  # 0.18 by chance
    assert not exceed_too_often(former, [0.5] * 20)
    few = calibrated([0.1, 0.2, 0.3], 0.25)
    assert not exceed_too_often(few, [2.0] * 3 + [0.1] * 7)
    assert exceed_too_often(few, [2.0] * 9 + [0.1])
    assert not exceed_too_often(replace(few, good_scores=(), images=()), [2.0] * 20)  # of nothing nothing is known
