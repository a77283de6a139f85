"""Varied images: each kind of change does what it says, in every depth, and leaves the image itself as it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.imaging.pixels import white
from blemish.imaging.variations import Variation

STRONG = Variation(5, 0.05, -0.03, 1.0, 0.9, 1.1, 0.02, 80, 1)


def picture(shape=(40, 30, 3), dtype=np.uint8) -> np.ndarray:
    values = 0.3 + 0.4 * np.random.default_rng(0).random(shape)
    return values.astype(dtype) if np.dtype(dtype).kind == "f" else (values * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(40, 30), (40, 30, 1), (40, 30, 3), (1, 1, 3)])
def test_shape_and_type_stay_and_the_image_is_not_changed(shape, dtype):
    image = picture(shape, dtype)
    before = image.copy()
    varied = STRONG(image)
    assert (varied.shape, varied.dtype) == (image.shape, image.dtype)
    assert 0 <= varied.min() <= varied.max() <= white(image.dtype)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(varied, STRONG(image))
    np.testing.assert_array_equal(Variation(seed=3)(image), image)


def test_light_and_colour():
    image = picture()
    np.testing.assert_allclose(Variation(brightness=0.5)(image), image / 2, atol=0.51)
    warm = Variation(warmth=1.25)(image).astype(float)
    factors = [1.25, 1, 0.8]
    np.testing.assert_allclose(warm, np.minimum(image * factors, 255), atol=0.51)
    for grey in (picture((9, 9)), picture((9, 9, 1))):
        np.testing.assert_array_equal(Variation(warmth=1.25)(grey), grey)
    assert Variation(brightness=9.0)(image).min() == 255


def test_position():
    image = np.zeros((40, 80), np.uint8)
    image[20, 40] = 200
    moved = Variation(right=0.1, down=-0.05)(image)
    assert np.unravel_index(moved.argmax(), moved.shape) == (16, 48)
    image = picture((41, 41))
    np.testing.assert_allclose(Variation(degrees=90)(image), np.rot90(image), atol=1)


def test_focus_noise_and_compression():
    image = picture((64, 64, 3), np.float32)
    flat = np.full((64, 64, 3), 0.5, np.float32)
    assert Variation(blur=1.5)(image).std() < image.std() / 2
    assert Variation(noise=0.02)(flat).std() == pytest.approx(0.02, rel=0.05)
    assert not np.array_equal(Variation(noise=0.02, seed=1)(flat), Variation(noise=0.02, seed=2)(flat))
    errors = [np.abs(Variation(quality=quality)(image) - image).mean() for quality in (95, 60, 20)]
    assert 0 < errors[0] < errors[1] < errors[2]
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    assert np.abs(Variation(quality=95)(red).astype(int) - red).max() < 8  # the channels stay in their order


@settings(max_examples=30, deadline=None)
@given(st.floats(0.5, 2), st.floats(0.5, 2), st.floats(0, 0.2), st.integers(0, 100))
def test_values_stay_in_range(brightness, warmth, noise, quality):
    varied = Variation(brightness=brightness, warmth=warmth, noise=noise, quality=quality)(picture(dtype=np.float32))
    assert np.isfinite(varied).all()
    assert 0 <= varied.min() <= varied.max() <= 1
