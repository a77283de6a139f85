"""The nearest of many, and subsets that stand for all, against plain computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from blemish.detectors.parts.coreset import LEADERS, greedy, means, spread
from blemish.detectors.parts.neighbours import nearest
from blemish.features.base import whitening


def values(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def test_distances_equal_a_direct_reference():
    found, bank = values(5000, 12), values(300, 12, seed=1)
    expected = (found.double().numpy()[:, None] - bank.double().numpy()) ** 2
    np.testing.assert_allclose(nearest(found, bank)[0].numpy(), np.sqrt(expected.sum(2)).min(1), rtol=1e-5)


def test_a_patch_of_the_bank_is_at_distance_zero():
    bank = values(100, 12) * 1000
    distances, rows = nearest(bank, bank)
    assert distances.max() == 0
    assert rows.tolist() == list(range(100))


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
    assert nearest(found, kept)[0].mean() < nearest(found, drawn)[0].mean()


def test_means_are_those_of_the_nearest_values():
    found = values(500, 4)
    starts = found[:20]  # each is nearest to itself, so that no group is empty
    group = torch.cdist(found, starts).argmin(1)
    expected = torch.stack([found[group == number].mean(0) for number in range(20)])
    torch.testing.assert_close(means(found, starts, rounds=1), expected)
    twice = means(found, means(found, starts, rounds=1), rounds=1)
    torch.testing.assert_close(means(found, starts, rounds=2), twice)


def test_a_start_that_nothing_is_near_to_stays():
    found, far = values(50, 3), torch.full((1, 3), 1e3)
    assert torch.equal(means(found, torch.cat([found[:5], far]))[5:], far)


def naive_greedy(found: torch.Tensor, count: int, generator: np.random.Generator) -> list[int]:
    """Greedy k-center selection as it is defined: all distances at every step."""
    chosen = [int(generator.integers(len(found)))]
    while len(chosen) < count:
        to_chosen = (found[:, None] - found[chosen]).square().sum(2).amin(1)
        to_chosen[chosen] = -1
        chosen.append(int(to_chosen.argmax()))
    return chosen


@pytest.mark.parametrize(("rows", "columns", "count"), [(60, 2, 1), (300, 5, 80), (2 * LEADERS, 3, 150), (50, 4, 90)])
def test_the_exact_selection_is_the_naive_one(rows, columns, count):
    found = values(rows, columns).double()
    expected = naive_greedy(found, min(count, rows), np.random.default_rng(1))
    assert greedy(found, count, np.random.default_rng(1)).tolist() == expected


def test_the_exact_selection_of_copies_takes_none_twice():
    found = torch.zeros(40, 3)
    assert len(greedy(found, 30, np.random.default_rng(0)).unique()) == 30
