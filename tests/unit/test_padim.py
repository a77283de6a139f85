"""PaDiM and its Gaussians against scipy and numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis as scipy_mahalanobis

from blemish.blocks.gaussian import Moments, factors, mahalanobis
from blemish.data.source import ImageSource
from blemish.detectors.padim import PaDiM
from blemish.errors import BlemishError


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_moments_in_batches_are_those_of_all():
    values = draw(3, 50, 4) * 2 + 1e4
    moments = Moments.empty(3, 4)
    for part in values.split([1, 9, 40], dim=1):
        moments.add(part)
    assert moments.count == 50
    for place in range(3):
        expected = np.cov(values[place].numpy().T, bias=True)
        np.testing.assert_allclose(moments.covariance[place].numpy(), expected, rtol=1e-9)
        np.testing.assert_allclose(moments.mean[place].numpy(), values[place].numpy().mean(0), rtol=1e-14)


def test_distances_equal_scipy_s():
    values, mean = draw(2, 6, 5, seed=1), draw(2, 5, seed=2)
    mixed = draw(2, 40, 5, seed=3)
    covariance = mixed.mT @ mixed / 40
    factor = factors(covariance, 1e-12)
    found = mahalanobis(values, mean, factor)
    for place in range(2):
        inverse = np.linalg.inv(covariance[place].numpy())
        for row in range(6):
            expected = scipy_mahalanobis(values[place, row].numpy(), mean[place].numpy(), inverse)
            assert float(found[place, row]) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("options", [{}, {"shared": True}, {"reduction": "project", "dimensions": 7}])
def test_the_map_is_scipy_s_distance_of_each_place(part_images, options):
    detector = PaDiM(64, smoothing=0, shrinkage=0.05, **options).fit(part_images)
    features = torch.cat([detector.features(part_images.batch([row])) for row in range(len(part_images))])
    values = (features.permute(2, 3, 0, 1) @ detector.projection).flatten(0, 1).double().numpy()
    every = [values.reshape(-1, values.shape[2])] if detector.shared else list(values)
    covariances = [np.cov(cell.T, bias=True) for cell in every]
    ridge = 0.05 * np.mean([np.diag(covariance).mean() for covariance in covariances])
    found = detector.distances(features)[5].flatten()
    for place in (0, 13, 63):
        which = 0 if detector.shared else place
        inverse = np.linalg.inv(covariances[which] + ridge * np.eye(values.shape[2]))
        expected = scipy_mahalanobis(values[place, 5], every[which].mean(0), inverse)
        assert float(found[place]) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("reduction", ["select", "project", "pca"])
def test_reductions_keep_lengths(part_images, reduction):
    projection = PaDiM(64, dimensions=9, reduction=reduction).fit(part_images).projection
    assert projection.shape == (48, 9)
    torch.testing.assert_close(projection.T @ projection, torch.eye(9), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_further_images_count_as_if_they_had_been_there(part_images, shared):
    whole = PaDiM(64, shared=shared).fit(part_images)
    some = PaDiM(64, shared=shared)
    some._new_features = lambda: whole.features
    some.features = whole.features
    whole.features.fit = lambda *rest: whole.features
    some.fit(part_images.where(lambda sample: sample.image.stem < "5"))
    some.update(part_images.where(lambda sample: sample.image.stem >= "5"))
    assert int(some.count) == int(whole.count)
    torch.testing.assert_close(some.mean, whole.mean, rtol=1e-4, atol=1e-5)
    batch = part_images.batch([0, 1])
    torch.testing.assert_close(some(batch)[1], whole(batch)[1], rtol=0.02, atol=0.02)


def test_what_does_not_fit_into_memory_is_refused_before_it_starts(part_images: ImageSource):
    part_images.memory_budget = 1_000_000
    with pytest.raises(BlemishError, match=r"65 Gaussians of 48 features take .* memory_budget allows .*--dimensions"):
        PaDiM(64).fit(part_images)
    PaDiM(64, shared=True).fit(part_images)
