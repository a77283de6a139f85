"""Thresholds from scores: the guarantee by simulation, and values computed by hand."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.calibration.thresholds import (
    MARGIN,
    PIXEL_RATES,
    calibrate,
    conformal_rank,
    conformal_threshold,
    false_alarm_bound,
    from_dict,
    miss_rate,
    num_images_for,
    p_value,
    pixel_levels,
    smallest_rate,
    to_dict,
    with_history,
    with_thresholds,
)
from blemish.errors import BlemishError

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
def test_the_threshold_lies_a_little_above_the_kth_largest_score(rate, expected):
    assert conformal_threshold(SCORES, rate) == pytest.approx(expected + MARGIN * 99)
    assert conformal_threshold(SCORES[::-1], rate) == conformal_threshold(SCORES, rate)


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40), st.floats(0.02, 0.98))
def test_no_good_score_lies_on_the_threshold_and_as_many_above_it_as_above_the_kth_largest(good, rate):
    if smallest_rate(len(good)) > rate:
        return
    rank, threshold = conformal_rank(len(good), rate), conformal_threshold(good, rate)
    own = sorted(good)[-rank]
    assert threshold > own
    assert threshold not in good
    assert sum(score > threshold for score in good) == sum(score > own for score in good) < rank
    higher = [score for score in good if score > own]
    assert not higher or threshold - own <= (min(higher) - own) / 2 + 1e-12
    assert threshold - own <= MARGIN * max(map(abs, good)) + 1e-9


def test_too_few_images_say_what_they_support_and_what_is_needed():
    with pytest.raises(BlemishError, match=r"19 held-out good images support 0\.05 at the least, 0\.01 needs 99\."):
        conformal_threshold(range(19), 0.01)
    assert conformal_threshold(range(19), smallest_rate(19)) == pytest.approx(18 * (1 + MARGIN))
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
def test_the_p_value_is_at_most_the_rate_where_the_score_is_above_its_threshold_and_only_there(good, score, rate):
    """But for what is above the good score that set the threshold by less than the margin; here no score is."""
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
    assert (calibration.threshold, calibration.num_images, calibration.false_alarm_rate) == (99.099, 99, 0.01)
    assert calibration.pixel_threshold == PIXEL_RATES.index(0.001)
    assert with_thresholds(calibration) == calibration
    other = with_thresholds(calibration, false_alarm_rate=0.05, pixel_rate=0.1, min_area=7)
    assert (other.threshold, other.false_alarm_rate, other.pixel_threshold, other.min_area) == (95.099, 0.05, 0, 7)
    by_hand = with_thresholds(other, threshold=3.2, pixel_threshold=1.5)
    assert (by_hand.threshold, by_hand.false_alarm_rate, by_hand.pixel_threshold) == (3.2, None, 1.5)
    assert with_thresholds(by_hand, false_alarm_rate=0.01, pixel_rate=0.001, min_area=0) == calibration
    for wrong in ({"threshold": math.nan}, {"pixel_threshold": math.inf}, {"pixel_rate": 0.3}):
        with pytest.raises(BlemishError, match=f"{next(iter(wrong)).replace('_', '-')}: "):
            with_thresholds(calibration, **wrong)


def test_a_calibration_comes_back_from_plain_data():
    calibration = with_thresholds(calibrate(SCORES, LEVELS, 0.02), min_area=3)
    assert from_dict(to_dict(calibration)) == calibration
    wrong = {
        "threshold": [math.nan],
        "good_scores": [["a"]],
        "pixel_levels": [[1]],
        "method": ["luck"],
        "images": [["one of 99"], ["a"] * 98 + [1], "a" * 99],
        "left_out": [[1], "abc"],
        "previous": [["before"], [1], [to_dict(calibration)] * 4, [to_dict(calibration) | {"threshold": math.inf}]],
    }
    for name, values in wrong.items():
        for value in values:
            with pytest.raises((ValueError, TypeError, AttributeError)):
                from_dict(to_dict(calibration) | {name: value})


def test_a_calibration_remembers_what_was_before_three_times():
    names = [f"{row}.png" for row in range(99)]
    calibrations = [calibrate(SCORES[::-1], LEVELS, rate / 100, images=names[::-1]) for rate in range(1, 8)]
    assert calibrations[0].images == tuple(names)
    found = None
    for calibration in calibrations:
        found = with_history(calibration, found)
    assert found == calibrations[-1]
    assert found.previous == tuple(calibrations[-2:-5:-1])
    assert all(former.previous == () for former in found.previous)
    assert with_history(calibrations[-1], found).previous == found.previous  # nothing has changed
    again = from_dict(json.loads(json.dumps(to_dict(found))))
    assert (again, again.previous) == (found, found.previous)
    older = to_dict(found)
    for name in ("images", "left_out", "previous"):  # which versions before did not know
        del older[name]
    assert from_dict(older) == replace(found, images=())


def test_calibrating_and_reading_a_model_need_no_torch():
    import subprocess

    modules = "calibration.thresholds", "model.folder", "inference.inspector", "inference.predict", "runs.recalibrate"
    code = f"import sys, {', '.join(f'blemish.{name}' for name in modules)}\n"
    code += "print([name for name in ('torch', 'scipy', 'matplotlib', 'safetensors') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
