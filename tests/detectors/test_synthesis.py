"""Drawn defects: where they may lie, what they change, and that a seed decides."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from blemish.detectors.parts import shapes, synthesis
from blemish.detectors.parts.synthesis import OPERATORS, Synthesis, typical_contrast, visible
from blemish.imaging import foreground
from blemish.imaging.foreground import Foreground, find_foreground

SIDE = 96


def disc(seed: int, *, grey: bool = False) -> np.ndarray:
    """A textured disc on a plain ground, its place and light varying."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    inside = np.hypot(rows - 48 - rng.normal(0, 2), columns - 48 - rng.normal(0, 2)) < 30
    colour = np.array([0.5, 0.5, 0.5] if grey else [0.7, 0.5, 0.3])
    picture = np.where(inside[..., None], colour + 0.1 * np.sin(rows / 2)[..., None], 0.15)
    return np.clip(picture + rng.normal(0, 0.01, (SIDE, SIDE, 1)), 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def discs() -> list[np.ndarray]:
    return [disc(seed) for seed in range(6)]


@pytest.fixture(scope="module")
def part(discs) -> Foreground:
    return find_foreground(discs)


def drawn(discs, part, operators=(), **options) -> Synthesis:
    return Synthesis(discs, part, typical_contrast(discs), False, operators, **options)


def test_the_part_is_found_and_a_texture_is_all_part(discs, part):
    found = part(discs[0])
    assert found[48, 48] == 1
    assert found[:4].max() == found[-4:].max() == 0
    assert 0.9 < found.mean() / (np.pi * 30**2 / SIDE**2) < 1.6
    noise = [np.random.default_rng(seed).random((SIDE, SIDE, 3), np.float32) for seed in range(3)]
    assert find_foreground(noise)(noise[0]).min() == 1
    assert find_foreground([np.full((SIDE, SIDE, 3), 0.5, np.float32)])(noise[0]).min() == 1


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_an_operator_changes_the_part_and_only_where_the_mask_or_its_rim_is(discs, part, name):
    synthesis = drawn(discs, part, (name,), max_defects=1)
    seen = 0
    for seed in range(30):
        before = discs[0].copy()
        picture, mask = synthesis(discs[0], seed)
        assert np.array_equal(discs[0], before)
        assert picture.shape == before.shape
        assert picture.dtype == np.float32
        assert 0 <= picture.min() <= picture.max() <= 1
        change = np.abs(picture - before).max(2)
        assert change[part(before) == 0].max() == 0
        if mask.any():
            seen += 1
            assert change[mask].mean() > 2 * change[~mask].mean()
            assert not mask[part(before) == 0].all()
        else:
            assert change.max() == 0
    assert seen > 20


def test_the_same_seed_gives_the_same_bits_and_another_does_not(discs, part):
    synthesis = drawn(discs, part)
    first, second, other = (synthesis(discs[1], seed) for seed in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_contrasts_reach_down_to_barely_visible_and_sizes_from_specks_to_large(discs, part):
    synthesis = drawn(discs, part, max_defects=1)
    pairs = [synthesis(discs[seed % 6], seed) for seed in range(300)]
    changes = [
        np.abs(picture - discs[seed % 6]).max(2)[mask].mean()
        for seed, (picture, mask) in enumerate(pairs)
        if mask.any()
    ]
    areas = [mask.mean() for _, mask in pairs if mask.any()]
    assert np.quantile(changes, 0.1) < 0.04
    assert np.quantile(changes, 0.9) > 0.25
    assert np.quantile(areas, 0.1) < 0.005
    assert np.quantile(areas, 0.9) > 0.04


def test_grey_pictures_stay_grey():
    pictures = [disc(seed, grey=True) for seed in range(4)]
    synthesis = Synthesis(pictures, find_foreground(pictures), typical_contrast(pictures), True)
    for seed in range(40):
        picture, _ = synthesis(pictures[0], seed)
        assert np.ptp(picture, axis=2).max() < 1e-5


def test_odd_and_tiny_pictures(discs):
    everywhere = Foreground(np.zeros((0, 3), np.float32))
    for size in ((33, 70), (8, 8)):
        pictures = [np.random.default_rng(seed).random((*size, 3), np.float32) for seed in range(2)]
        synthesis = Synthesis(pictures, everywhere, 0.2)
        for seed in range(60):
            picture, mask = synthesis(pictures[0], seed)
            assert picture.shape == (*size, 3)
            assert mask.shape == size


def test_a_change_that_noise_hides_is_not_a_defect():
    before = np.full((20, 20, 3), 0.5, np.float32)
    after = before.copy()
    after[5:10, 5:10] += 0.005
    assert not visible(before, after).any()
    after[5:10, 5:10] += 0.05
    assert visible(before, after)[5:10, 5:10].all()


def test_no_code_is_shared_with_the_built_in_data_set():
    for module in (foreground, shapes, synthesis):
        tree = ast.parse(Path(module.__file__).read_text())
        names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert not any("synthetic" in name for name in names)
