"""Tiles: where they lie, that no seam is seen, and that nothing but the preprocessing knows of them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.data.source import load
from blemish.imaging.preprocess import Preprocess
from blemish.imaging.tiles import blend, corners, cut, starts
from blemish.inference.inspector import Inspector
from blemish.types import Sample

RADIUS = 4


def blurred(images: np.ndarray, inside: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A fully convolutional backend: each value of its map is the mean of 9 x 9 pixels."""
    kernel = (2 * RADIUS + 1, 2 * RADIUS + 1)
    maps = np.stack([cv2.blur(image[1], kernel, borderType=cv2.BORDER_REFLECT_101) for image in images])
    return np.where(True if inside is None else inside, maps, -np.inf).max(axis=(1, 2)), maps


@settings(deadline=None)
@given(st.integers(1, 900), st.integers(8, 128), st.integers(0, 64))
def test_tiles_cover_the_length_and_share_what_was_asked_for(length, side, overlap):
    overlap = min(overlap, side // 2)
    found = starts(length, side, overlap)
    assert found[0] == 0
    assert found == sorted(set(found))
    assert found[-1] == max(0, length - side)
    assert all(after - before <= side - overlap for before, after in pairwise(found))


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(8, 64), st.integers(0, 32))
def test_what_was_cut_is_blended_to_what_it_was(height, width, side, overlap):
    overlap = min(overlap, side // 2)
    image = np.random.default_rng(height).random((height, width), np.float32)
    tiles = list(cut(image, side, overlap))
    assert {tile.shape for tile in tiles} == {(side, side)}
    assert len(tiles) == len(corners((height, width), side, overlap))
    np.testing.assert_allclose(blend(tiles, (height, width), side, overlap), image, rtol=1e-6)


@pytest.mark.parametrize("size", [(150, 230), (64, 64), (97, 300), (65, 128)])
def test_a_fully_convolutional_detector_sees_no_seams(size, tmp_path: Path):
    image = np.random.default_rng(0).integers(0, 256, size).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    tiled = Inspector(blurred, Preprocess((64, 64), tile=64, overlap=4 * RADIUS), batch_size=3)
    whole = Inspector(blurred, Preprocess(size))
    (found,), (expected,) = (list(inspector.predict([tmp_path / "a.png"])) for inspector in (tiled, whole))
    np.testing.assert_allclose(found.map, expected.map, atol=1e-6)
    assert found.score == pytest.approx(expected.score)
    assert found.score == pytest.approx(found.map.max())


def test_a_seam_would_be_seen_without_the_overlap(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 256, (128, 128)).astype(np.uint8))
    (found,) = Inspector(blurred, Preprocess((64, 64), tile=64, overlap=0)).predict([tmp_path / "a.png"])
    (expected,) = Inspector(blurred, Preprocess((128, 128))).predict([tmp_path / "a.png"])
    assert np.abs(found.map - expected.map).max() > 0.01


@pytest.mark.parametrize("shape", [(40, 200), (100, 30, 3), (20, 20)])
def test_pictures_smaller_than_a_tile_keep_their_scale(shape, tmp_path: Path):
    image = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    (found,) = Inspector(blurred, Preprocess((64, 64), tile=64, overlap=16)).predict([tmp_path / "a.png"])
    assert found.map.shape == shape[:2]
    inside = slice(RADIUS, -RADIUS)
    seen = image[:, :, 1] if image.ndim == 3 else image
    expected = cv2.blur(seen.astype(np.float32) / 255, (2 * RADIUS + 1, 2 * RADIUS + 1))
    np.testing.assert_allclose(found.map[inside, inside], expected[inside, inside], atol=1e-5)


@pytest.mark.parametrize("memory_budget", [1 << 20, 20_000, 0])
def test_a_source_of_tiles_and_its_files_give_the_same(memory_budget, tmp_path: Path, monkeypatch):
    for index, size in enumerate([(100, 80), (32, 32), (70, 130)]):
        cv2.imwrite(
            str(tmp_path / f"{index}.png"), np.random.default_rng(index).integers(0, 256, size).astype(np.uint8)
        )
    samples = [Sample(path, False) for path in sorted(tmp_path.glob("*.png"))]
    inspector = Inspector(blurred, Preprocess((32, 32), tile=48, overlap=16), batch_size=4)
    source = load(samples, inspector.preprocess, memory_budget=memory_budget)
    assert len(source.samples) == 3
    assert len(source) == sum(len(corners(size, 48, 16)) for size in [(100, 80), (32, 32), (70, 130)])
    assert [frame.is_last for frame in source].count(True) == 3
    from_files = list(inspector.predict(samples))
    for kept in (source, source.where(lambda sample: sample.image.stem != "0")):
        found = list(inspector.predict(kept))
        expected = from_files[-len(found) :]
        assert [p.sample for p in found] == [p.sample for p in expected]
        for first, second in zip(found, expected, strict=True):
            np.testing.assert_array_equal(first.map, second.map)
