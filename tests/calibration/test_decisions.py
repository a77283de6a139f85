"""Decisions and defect regions: values computed by hand, and properties of regions on random maps."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.calibration.decisions import decide, find_regions
from blemish.calibration.thresholds import Calibration, with_thresholds
from blemish.types import Prediction, Sample


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
    larger = with_thresholds(calibration, min_area=4)
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
