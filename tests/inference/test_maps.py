"""Anomaly maps as files: what is lost, what others read, and what is refused."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from blemish.inference.maps import decode_map, encode_map

finite = st.floats(-(2.0**127), 2.0**127, width=32)
maps = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda size: arrays(np.float32, size, elements=finite))


@given(maps)
@settings(max_examples=60, deadline=None)
def test_float32_is_exact(values):
    np.testing.assert_array_equal(decode_map(encode_map(values, "float32", "x"), values.shape, "x"), values)


@given(maps)
@settings(max_examples=60, deadline=None)
def test_uint16_is_within_half_a_step_of_4095(values):
    back = decode_map(encode_map(values), values.shape)
    low, high = float(values.min()), float(values.max())
    rounding = np.abs(values).max() * 2.0**-23  # of the result to float32
    assert np.abs(back.astype(np.float64) - values).max() <= (high - low) / 8190 * (1 + 1e-6) + rounding
    assert back.dtype == np.float32


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (300, 1), (37, 53)])
def test_any_program_reads_the_same(size):
    values = np.random.default_rng(0).normal(3, 1, size).astype(np.float32)
    exact = cv2.imdecode(np.frombuffer(encode_map(values, "float32"), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(exact, values)
    content = encode_map(values, sha256="abc")
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert (pixels.dtype, pixels.shape, pixels.max() if values.size > 1 else 4095) == (np.uint16, size, 4095)
    about = json.loads(content[content.index(b"{") : content.index(b"}") + 1])
    assert about.keys() == {"low", "step", "sha256"}
    np.testing.assert_allclose(about["low"] + about["step"] * pixels, decode_map(content, size, "abc"), rtol=1e-6)


def test_a_smooth_map_takes_a_tenth_of_its_bytes():
    noise = np.random.default_rng(0).gamma(2, 1, (32, 32)).astype(np.float32)
    values = cv2.resize(cv2.GaussianBlur(noise, (0, 0), 1.5), (768, 768), interpolation=cv2.INTER_LINEAR)
    assert len(encode_map(values)) < values.nbytes / 10


@pytest.mark.parametrize("form", ["uint16", "float32"])
def test_what_is_damaged_is_refused_or_the_same(form):
    """Each byte changed in turn, and each length: what is read is never another map."""
    values = np.random.default_rng(0).normal(0, 1, (5, 7)).astype(np.float32)
    content = encode_map(values, form, "abc")
    whole = decode_map(content, (5, 7), "abc")
    start = content.index(b"{")
    spoilt = [content[:length] for length in range(len(content))]
    spoilt += [content[:at] + bytes([content[at] ^ 0x41]) + content[at + 1 :] for at in range(len(content))]
    for index, other in enumerate(spoilt):
        try:
            found = decode_map(other, (5, 7), "abc")
        except ValueError:
            continue
        is_scale = start <= index - len(content) <= content.index(b"}")  # which has no checksum
        assert is_scale or np.array_equal(found, whole)


def test_a_map_of_another_image_or_size_is_refused():
    content = encode_map(np.zeros((4, 6), np.float32), sha256="abc")
    assert decode_map(content, (4, 6), "abc").shape == (4, 6)
    for size, sha256 in (((6, 4), "abc"), ((4, 6), "abd"), ((4, 6), "")):
        with pytest.raises(ValueError, match="a map of another image"):
            decode_map(content, size, sha256)
    for other in (b"", b"II*\0", cv2.imencode(".tiff", np.zeros((4, 6), np.float32))[1].tobytes()):
        with pytest.raises(ValueError, match="not a map that blemish wrote"):
            decode_map(other, (4, 6), "abc")
