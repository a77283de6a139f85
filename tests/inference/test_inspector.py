"""The one inference path, with a fake in place of a detector."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from blemish.calibration.thresholds import Calibration
from blemish.data.source import load
from blemish.errors import BlemishError
from blemish.imaging.preprocess import Preprocess
from blemish.inference.inspector import Inspector
from blemish.types import Prediction, Sample, Unreadable


def brightness(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A backend whose map is the brightness of each pixel, and whose score is 100 times the brightest."""
    maps = images.mean(axis=1)
    return 100 * maps.max(axis=(1, 2)), maps


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    found = []
    for index, (height, width) in enumerate([(20, 30), (64, 16), (5, 5), (33, 47), (16, 16)]):
        image = np.full((height, width), 40 * index, np.uint8)
        found.append(tmp_path / f"{index}.png")
        cv2.imwrite(str(found[-1]), image)
    return found


@pytest.mark.parametrize("batch_size", [1, 2, 5, 32])
def test_predictions_come_in_order_at_the_files_own_size_and_raw(paths, batch_size):
    inspector = Inspector(brightness, Preprocess((16, 16)), batch_size=batch_size)
    predictions = list(inspector.predict(paths))
    assert [prediction.sample.image for prediction in predictions] == paths
    assert [prediction.map.shape for prediction in predictions] == [(20, 30), (64, 16), (5, 5), (33, 47), (16, 16)]
    for index, prediction in enumerate(predictions):
        assert prediction.score == pytest.approx(100 * 40 * index / 255, rel=1e-5)  # not clamped to [0, 1]
        np.testing.assert_allclose(prediction.map, 40 * index / 255, rtol=1e-5)
        assert prediction.map.dtype == np.float32


def test_a_loaded_source_and_its_files_give_the_same(paths):
    inspector = Inspector(brightness, Preprocess((16, 16), "pad"), batch_size=2)
    samples = [Sample(path, False) for path in paths]
    from_files = list(inspector.predict(samples))
    from_source = list(inspector.predict(load(samples, inspector.preprocess)))
    for first, second in zip(from_files, from_source, strict=True):
        assert (first.sample, first.score) == (second.sample, second.score)
        np.testing.assert_array_equal(first.map, second.map)


def test_predictions_are_made_as_they_are_asked_for(paths, tmp_path: Path):
    seen: list[int] = []

    def counting(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(len(images))
        return brightness(images)

    predictions = Inspector(counting, Preprocess((16, 16)), batch_size=2).predict(paths)
    next(predictions)
    assert seen == [2]


def test_an_unreadable_file_is_named(paths):
    paths[3].write_bytes(b"no image")
    with pytest.raises(BlemishError, match=r"3\.png: truncated, or not an image"):
        list(Inspector(brightness, Preprocess((16, 16))).predict(paths))


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_an_unreadable_file_is_told_in_its_place_and_the_others_are_predicted(paths, batch_size):
    paths[0].write_bytes(b"no image")
    paths[3].unlink()
    inspector = Inspector(brightness, Preprocess((16, 16)), batch_size=batch_size)
    found = list(inspector.inspect(paths))
    assert [one.sample.image for one in found] == paths
    assert [type(one) for one in found] == [Unreadable, Prediction, Prediction, Unreadable, Prediction]
    assert "truncated, or not an image" in found[0].error
    assert [found[row].score for row in (1, 2, 4)] == [
        pytest.approx(100 * 40 * row / 255, rel=1e-5) for row in (1, 2, 4)
    ]


def test_it_decides_by_its_calibration_and_the_prediction_stays_raw(paths):
    calibration = Calibration(20.0, 0.2, 0.1, None, (10.0, 20.0), ())
    inspector = Inspector(brightness, Preprocess((16, 16)), calibration)
    predictions = list(inspector.predict(paths))
    decisions = [inspector.decide(prediction) for prediction in predictions]
    assert [decision.is_defect for decision in decisions] == [False, False, True, True, True]
    assert [round(prediction.score / 100 * 255) for prediction in predictions] == [0, 40, 80, 120, 160]
    assert decisions[2].regions[0].box == (0, 0, 5, 5)
    assert Inspector(brightness, Preprocess((16, 16))).decide(predictions[0]) is None


@pytest.mark.parametrize("where", ["score", "map"])
def test_what_is_no_number_is_no_decision(where, paths):
    """No threshold lies below it, so it would pass as good."""

    def broken(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores, maps = brightness(images)
        (scores if where == "score" else maps)[-1] = np.nan
        return scores, maps

    inspector = Inspector(broken, Preprocess((16, 16)))
    with pytest.raises(BlemishError, match=r"4.png: its score is not a finite number"):
        list(inspector.predict(paths))
