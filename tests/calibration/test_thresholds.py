"""From scores to decisions: the guarantee by simulation, values by hand, regions against a flood fill."""

from __future__ import annotations

import math
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.calibration.thresholds import (
    PIXEL_RATES,
    Calibration,
    calibrate,
    changed,
    conformal_threshold,
    decide,
    false_alarm_bound,
    find_regions,
    from_plain,
    miss_rate,
    num_images_for,
    p_value,
    pixel_levels,
    smallest_rate,
    to_plain,
)
from blemish.errors import BlemishError
from blemish.types import Prediction, Sample

SCORES = tuple(float(score) for score in range(1, 100))
"""99 held-out good images."""
LEVELS = tuple(float(level) for level in range(len(PIXEL_RATES)))


@pytest.mark.parametrize(("number", "rate"), [(20, 0.05), (50, 0.1), (99, 0.01), (200, 0.017)])
def test_over_2000_draws_the_mean_false_alarm_rate_is_at_most_what_was_asked_for(number, rate):
    """The scores are skewed and heavy-tailed; their distribution is known, so each draw's rate is computed exactly."""
    generator = np.random.default_rng(number)
    draws = generator.pareto(1.5, (2000, number))
    thresholds = np.array([conformal_threshold(draw, rate) for draw in draws])
    alarms = (1 + thresholds) ** -1.5  # the part of the distribution above
    error = alarms.std() / math.sqrt(len(alarms))
    assert alarms.mean() <= rate + error
    expected = math.floor((number + 1) * rate + 1e-9) / (number + 1)  # what theory says, not merely a bound
    assert alarms.mean() == pytest.approx(expected, abs=4 * error)


@pytest.mark.parametrize(("rate", "expected"), [(0.01, 99), (0.02, 98), (0.29, 71), (0.5, 50), (0.999, 1), (0.035, 97)])
def test_the_threshold_is_the_kth_largest_score(rate, expected):
    assert conformal_threshold(SCORES, rate) == expected
    assert conformal_threshold(SCORES[::-1], rate) == expected


def test_too_few_images_say_what_they_support_and_what_is_needed():
    with pytest.raises(BlemishError, match=r"19 held-out good images support 0\.05 at the least, 0\.01 needs 99\."):
        conformal_threshold(range(19), 0.01)
    assert conformal_threshold(range(19), smallest_rate(19)) == 18
    assert [num_images_for(rate) for rate in (0.5, 0.1, 0.05, 0.01, 0.3)] == [1, 9, 19, 99, 3]


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_a_rate_that_is_none(rate):
    with pytest.raises(BlemishError, match="more than 0 and less than 1"):
        conformal_threshold(SCORES, rate)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=40),
    st.integers(-1, 13),
    st.floats(0.02, 0.98),
)
def test_the_p_value_is_at_most_the_rate_exactly_where_the_score_is_above_its_threshold(good, score, rate):
    if smallest_rate(len(good)) > rate:
        return
    above = score > conformal_threshold(good, rate)
    assert above == (p_value(score, good) <= rate + 1e-9 / (len(good) + 1))


def test_p_values_and_bounds_by_hand():
    assert p_value(99.5, SCORES) == 0.01
    assert p_value(99, SCORES) == 0.02  # an equal score counts against it
    assert p_value(0, SCORES) == 1.0
    assert p_value(7.0, ()) == 1.0
    assert false_alarm_bound(99, SCORES) == 0.01
    assert false_alarm_bound(98.5, SCORES) == 0.02


@pytest.mark.parametrize(
    ("missed", "number", "low", "high"),
    [(0, 10, 0.0, 0.3085), (3, 20, 0.0321, 0.3789), (10, 10, 0.6915, 1.0), (1, 1, 0.025, 1.0)],
)
def test_the_miss_rate_has_its_clopper_pearson_interval(missed, number, low, high):
    """The ends are those of published tables."""
    scores = [0.0] * missed + [2.0] * (number - missed)
    assert miss_rate(scores, 1.0) == pytest.approx((missed / number, low, high), abs=1e-4)
    assert miss_rate([1.0], 1.0)[0] == 1.0  # only what is above the threshold is found


def test_no_more_of_the_good_area_than_asked_for_lies_above_the_pixel_level():
    generator = np.random.default_rng(0)
    maps = [generator.gamma(2, size=shape).astype(np.float32) for shape in ((128, 128), (64, 64), (300, 200))]
    for rate, level in zip(PIXEL_RATES, pixel_levels(maps), strict=True):
        lit = np.mean([(values > level).mean() for values in maps])
        assert lit <= rate * 1.02
        assert lit >= rate * 0.8 - 3e-5


def test_what_is_masked_does_not_count_for_the_pixel_level():
    values = np.arange(200.0, dtype=np.float32).reshape(10, 20)
    outside = values >= 100
    levels = pixel_levels([np.ma.MaskedArray(values, mask=outside)])
    assert levels == pixel_levels([values[~outside].reshape(5, 20)])
    assert max(levels) == 99
    with pytest.raises(BlemishError, match="no map"):
        pixel_levels([])


def test_a_calibration_is_changed_without_images():
    calibration = calibrate(SCORES, LEVELS, 0.01)
    assert (calibration.threshold, calibration.num_images, calibration.false_alarm_rate) == (99, 99, 0.01)
    assert calibration.pixel_threshold == PIXEL_RATES.index(0.001)
    assert changed(calibration) == calibration
    other = changed(calibration, false_alarm_rate=0.05, pixel_rate=0.1, min_area=7)
    assert (other.threshold, other.false_alarm_rate, other.pixel_threshold, other.min_area) == (95, 0.05, 0, 7)
    by_hand = changed(other, threshold=3.2, pixel_threshold=1.5)
    assert (by_hand.threshold, by_hand.false_alarm_rate, by_hand.pixel_threshold) == (3.2, None, 1.5)
    assert changed(by_hand, false_alarm_rate=0.01, pixel_rate=0.001, min_area=0) == calibration
    for wrong in ({"threshold": math.nan}, {"pixel_threshold": math.inf}, {"pixel_rate": 0.3}):
        with pytest.raises(BlemishError, match=f"{next(iter(wrong)).replace('_', '-')}: "):
            changed(calibration, **wrong)


def test_a_calibration_comes_back_from_plain_data():
    calibration = changed(calibrate(SCORES, LEVELS, 0.02), min_area=3)
    assert from_plain(to_plain(calibration)) == calibration
    for name, value in {"threshold": math.nan, "good_scores": ["a"], "pixel_levels": [1], "method": "luck"}.items():
        with pytest.raises((ValueError, TypeError)):
            from_plain(to_plain(calibration) | {name: value})


def prediction(score: float, anomaly_map: np.ndarray) -> Prediction:
    return Prediction(Sample("a.png"), score, anomaly_map.astype(np.float32))


def test_decisions():
    spots = np.zeros((20, 30))
    spots[2:4, 3:8] = 5
    spots[10:16, 20:22] = 3
    spots[12, 21] = 9
    calibration = Calibration(2.0, 1.0, 0.1, 0.001, (1.0, 2.0, 4.0), ())
    decision = decide(prediction(3.0, spots), calibration)
    assert (decision.is_defect, decision.p_value) == (True, 0.5)
    assert [region.box for region in decision.regions] == [(20, 10, 2, 6), (3, 2, 5, 2)]  # the highest peak first
    first, second = decision.regions
    assert (first.area, first.peak, first.peak_at, first.centroid) == (12, 9.0, (21, 12), (20.5, 12.5))
    assert (second.area, second.peak, second.peak_at, second.centroid) == (10, 5.0, (3, 2), (5.0, 2.5))
    good = decide(prediction(2.0, spots), calibration)  # a score at the threshold is none above it
    assert (good.is_defect, good.p_value, good.regions) == (False, 0.75, ())


def test_a_minimum_area_takes_small_regions_and_decisions_away():
    spot = np.zeros((9, 9))
    spot[4, 4:7] = 2
    calibration = Calibration(1.0, 1.0, 0.1, 0.001, (0.5,), (), min_area=3)
    assert len(decide(prediction(2.0, spot), calibration).regions) == 1
    larger = changed(calibration, min_area=4)
    assert decide(prediction(2.0, spot), larger).is_defect is False
    assert decide(prediction(2.0, spot), larger).regions == ()


def test_diagonal_neighbours_are_one_region_and_nothing_is_none():
    assert len(find_regions(np.eye(6, dtype=np.float32), 0.5)) == 1
    assert find_regions(np.zeros((6, 6), np.float32), 0.0) == ()


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_regions_cover_what_is_above_the_threshold_once(seed):
    generator = np.random.default_rng(seed)
    values = cv2.GaussianBlur(generator.normal(size=(24, 31)).astype(np.float32), (0, 0), 1.5)
    regions = find_regions(values, 0.1)
    assert sum(region.area for region in regions) == (values > 0.1).sum()
    for region in regions:
        x, y, width, height = region.box
        assert values[region.peak_at[1], region.peak_at[0]] == np.float32(region.peak)
        assert region.peak <= values[y : y + height, x : x + width].max()
        assert x <= region.centroid[0] <= x + width - 1
        assert y <= region.centroid[1] <= y + height - 1


def test_calibrating_and_reading_a_model_need_no_torch():
    import subprocess

    modules = "calibration.thresholds", "model.folder", "inference.inspector", "inference.table", "runs.recalibrate"
    code = f"import sys, {', '.join(f'blemish.{name}' for name in modules)}\n"
    code += "print([name for name in ('torch', 'scipy', 'matplotlib', 'safetensors') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
