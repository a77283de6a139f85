"""PatchCore's parts against direct computations in float64."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from blemish.data.source import ImageSource, load
from blemish.detectors.patchcore import PatchCore, nearest, spread, whitening
from blemish.images import Preprocess
from blemish.types import Sample


def values(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def images(tmp_path: Path) -> ImageSource:
    """Eight pictures, black on the left and white on the right."""
    generator = np.random.default_rng(0)
    for index in range(8):
        picture = np.where(np.arange(64) < 32, 60, 180) + generator.normal(0, 4, (64, 64))
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.clip(picture, 0, 255).astype(np.uint8))
    samples = [Sample(path, False, split="train") for path in sorted(tmp_path.glob("*.png"))]
    return load(samples, Preprocess((64, 64)))


def test_distances_equal_a_direct_reference():
    found, bank = values(5000, 12), values(300, 12, seed=1)
    expected = (found.double().numpy()[:, None] - bank.double().numpy()) ** 2
    np.testing.assert_allclose(nearest(found, bank).numpy(), np.sqrt(expected.sum(2)).min(1), rtol=1e-5)


def test_a_patch_of_the_bank_is_at_distance_zero():
    bank = values(100, 12) + 1000
    assert nearest(bank, bank).max() == 0


def test_whitened_variances_are_even():
    found = values(4000, 6) * torch.tensor([1.0, 2, 3, 4, 5, 6]) + 7
    found[:, 1] += found[:, 0]
    mean, projection = whitening(found, 6, 1.0)
    covariance = torch.cov(((found - mean) @ projection).T)
    torch.testing.assert_close(covariance, torch.eye(6), rtol=0, atol=0.02)


@pytest.mark.parametrize("count", [1, 3, 10, 97, 400, 1000])
def test_the_selection_has_the_stated_number_and_is_reproducible(count):
    found = values(400, 5)
    kept = spread(found, count, np.random.default_rng(0))
    assert len(kept.unique()) == len(kept) == min(count, 400)
    assert torch.equal(kept, spread(found, count, np.random.default_rng(0)))


def test_the_selection_covers_better_than_chance():
    found = torch.cat([values(3000, 4) * 0.01, values(30, 4, seed=1) * 5 + 20])
    kept = found[spread(found, 60, np.random.default_rng(0))]
    drawn = found[torch.from_numpy(np.random.default_rng(0).permutation(len(found))[:60])]
    assert nearest(found, kept).mean() < nearest(found, drawn).mean()


def test_the_bank_has_the_stated_number_of_patches(images):
    assert len(PatchCore(64, num_patches=50).fit(images).bank) == 50


def test_position_finds_what_is_in_the_wrong_place(images):
    turned = images.batch([0]).flip(3)
    ratios = []
    for position in (0.0, 20.0):
        detector = PatchCore(64, num_patches=400, position=position).fit(images)
        good, bad = (detector(batch)[1].mean() for batch in (images.batch([0]), turned))
        ratios.append(float(bad))
        assert bad > good
    assert ratios[1] > 1.5 * ratios[0]


def test_smoothing_lowers_the_peak(images):
    sharp, smooth = (PatchCore(64, smoothing=sigma).fit(images) for sigma in (0.0, 8.0))
    picture = images.batch([0]).clone()
    picture[:, :, 20:30, 20:30] = 1
    assert smooth(picture)[0] < sharp(picture)[0]
