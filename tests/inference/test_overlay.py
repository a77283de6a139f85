"""What an overlay shows: the image itself, its regions outlined, and a caption below."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from blemish.calibration.decisions import decide
from blemish.calibration.thresholds import Calibration
from blemish.imaging.read import decode_image
from blemish.inference.overlay import NARROWEST, OUTLINE, RIM, VERDICTS, overlay, region_mask, to_jpeg
from blemish.types import Prediction, Sample

CALIBRATION = Calibration(0.5, 0.5, 0.1, None, (0.1, 0.5), ())


def prediction(size=(600, 500), level: float = 1.0, *spots: tuple[int, int, int]) -> Prediction:
    """A noisy image whose map is 0 but for squares: (row, column, side)."""
    values = np.zeros(size, np.float32)
    for row, column, side in spots:
        values[row : row + side, column : column + side] = level
    image = np.random.default_rng(0).integers(0, 200, (*size, 3)).astype(np.uint8)
    return Prediction(Sample("x.png"), float(values.max()), values, "", image)


def test_the_image_keeps_its_colours_but_for_the_outlines():
    found = prediction((600, 500), 1.0, (100, 200, 40), (400, 20, 30))
    picture = overlay(found, decide(found, CALIBRATION), CALIBRATION)
    assert picture.shape[1] == 500
    shown, image = picture[:600], found.image
    changed = (shown != image).any(axis=2)
    is_line = (shown == OUTLINE).all(axis=2) | (shown == RIM).all(axis=2)
    assert (is_line >= changed).all()
    expected = np.zeros((600, 500), np.uint8)
    expected[100:140, 200:240] = expected[400:430, 20:50] = 1
    around = cv2.dilate(expected, np.ones((5, 5), np.uint8)).view(bool) & ~expected.view(bool)
    np.testing.assert_array_equal(is_line, around)
    np.testing.assert_array_equal(found.image, prediction((600, 500)).image)  # which is the caller's


@pytest.mark.parametrize(("threshold", "verdict"), [(0.5, True), (2.0, False)])
def test_the_caption_begins_with_a_line_in_the_colour_of_the_verdict(threshold, verdict):
    found = prediction((600, 500), 1.0, (100, 200, 40))
    calibration = Calibration(threshold, 0.5, 0.1, None, (0.1, 0.5), ())
    picture = overlay(found, decide(found, calibration), calibration)
    assert (picture[600, :] == VERDICTS[verdict][1]).all()
    assert 20 < picture.shape[0] - 600 < 120
    assert (picture[604:] == VERDICTS[verdict][1]).all(axis=2).sum() > 50  # the word
    if not verdict:
        np.testing.assert_array_equal(picture[:600], found.image)


def test_the_caption_tells_score_and_threshold_apart():
    """Other words are other pixels, and the same words the same."""
    found = prediction((600, 500))
    captions = []
    for score, threshold in ((0.25, 0.5), (0.25, 0.75), (0.5, 0.75), (0.25, 0.5)):
        calibration = Calibration(threshold, 0.5, 0.1, None, (0.1, 0.5), ())
        other = Prediction(found.sample, score, found.map, "", found.image)
        captions.append(overlay(other, decide(other, calibration), calibration)[600:].tobytes())
    assert len(set(captions)) == 3
    assert captions[0] == captions[3]


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (40, 1500), (1500, 40), (128, 128), (480, 100)])
def test_small_and_narrow_images_have_room_for_the_words(size):
    found = prediction(size, 1.0, (0, 0, 3))
    for calibration in (CALIBRATION, None):
        picture = overlay(found, calibration and decide(found, calibration), calibration)
        factor = -(-480 // max(size)) if max(size) < 480 else 1
        assert picture.shape[1] == max(NARROWEST, factor * size[1])
        assert 20 < picture.shape[0] - factor * size[0] < 200
        assert decode_image(to_jpeg(picture), Path("x.jpg")).shape == picture.shape


def test_regions_that_are_too_small_are_not_outlined():
    found = prediction((600, 500), 1.0, (100, 200, 40), (400, 20, 3))
    calibration = Calibration(0.5, 0.5, 0.1, None, (0.1, 0.5), (), min_area=10)
    mask = region_mask(found.map, calibration)
    assert (mask.sum(), mask[100:140, 200:240].all()) == (1600, True)
    assert region_mask(found.map, CALIBRATION).sum() == 1609


def test_an_image_that_was_reduced_has_its_outlines_where_they_belong():
    found = prediction((600, 500), 1.0, (100, 200, 40))
    half = Prediction(found.sample, found.score, found.map, "", np.zeros((300, 250, 3), np.uint8))
    picture = overlay(half, decide(half, CALIBRATION), CALIBRATION)  # which is enlarged to twice the size again
    rows, columns = np.nonzero((picture[:600] == OUTLINE).all(axis=2))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (99, 140, 199, 240)


def test_without_a_calibration_the_map_lies_over_the_image():
    found = prediction((600, 500), 1.0, (100, 200, 40))
    picture = overlay(found, None, None)
    assert (picture[600] == VERDICTS[None][1]).all()
    np.testing.assert_array_equal(picture[300:600], found.image[300:])
    assert np.abs(picture[110:130, 210:230].astype(int) - found.image[110:130, 210:230]).mean() > 50
