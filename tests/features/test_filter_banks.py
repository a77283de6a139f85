"""The filter banks against direct computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from blemish.features.base import FILTER_BANKS
from blemish.features.gabor import GaborFeatures, gabor_pairs, opponent_channels
from blemish.features.pca import components
from blemish.features.registry import create_backbone


def direct(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    radius = kernel.shape[0] // 2
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(image, radius, mode="reflect"), kernel.shape)
    return np.einsum("ijkl,kl->ij", windows, kernel)


def test_filters_have_no_mean_and_unit_norm():
    filters = gabor_pairs(8).double()
    assert filters.shape == (16, 1, 11, 11)
    assert filters.sum((1, 2, 3)).abs().max() < 1e-6
    norms = filters.square().sum((1, 2, 3)).reshape(8, 2).sum(1)
    torch.testing.assert_close(norms, torch.ones(8, dtype=torch.float64), rtol=1e-5, atol=0)


def test_one_filter_equals_a_direct_convolution():
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    luminance = opponent_channels(images)[0, 0].double().numpy()
    even, odd = gabor_pairs(8).double().numpy()[4:6, 0]
    magnitude = np.sqrt(direct(luminance, even) ** 2 + direct(luminance, odd) ** 2 + 1e-8)[::2, ::2]
    expected = np.sqrt(magnitude.reshape(8, 4, 8, 4).mean((1, 3)))
    np.testing.assert_allclose(GaborFeatures().responses(images)[0, 2].numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("shape", [(32, 32), (48, 80), (256, 64)])
def test_shape_and_determinism(shape):
    images = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    found = GaborFeatures().responses(images)
    assert found.shape == (2, GaborFeatures.num_responses, shape[0] // 8, shape[1] // 8)
    assert torch.equal(found, GaborFeatures().responses(images))


def test_a_grey_picture_has_no_colour():
    grey = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)).expand(1, 3, 64, 64)
    channels = opponent_channels(grey)
    assert channels[:, 1:].abs().max() < 1e-5
    tinted = grey * torch.tensor([1.0, 0.6, 0.6])[:, None, None]
    assert opponent_channels(tinted)[:, 1].abs().mean() > 0.1


def test_brightness_and_contrast_change_little():
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    features = GaborFeatures().responses
    changed = features(images * 0.7 + 0.1)
    torch.testing.assert_close(changed, features(images), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", sorted(FILTER_BANKS))
def test_banks_are_fitted_the_same_way_twice(name, part_images):
    one, same = (create_backbone(name).fit(part_images, seed=3) for _ in range(2))
    images = part_images.batch([0, 1])
    assert one(images).shape == (2, one.DIMENSIONS, 8, 8)
    assert torch.equal(one(images), same(images))
    alone = torch.cat([one(images[:1]), one(images[1:])])
    torch.testing.assert_close(alone, one(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(FILTER_BANKS))
def test_components_are_uncorrelated_over_the_good_images(name, part_images):
    bank = create_backbone(name).fit(part_images, seed=0)
    found = torch.cat([bank(part_images.batch([row])) for row in range(8)]).permute(0, 2, 3, 1).flatten(0, 2)
    covariance = torch.cov(found.double().T)
    off = covariance - covariance.diagonal().diag()
    assert off.abs().max() < 1e-4 * covariance.diagonal().max()


def test_learned_filters_are_numpy_s_principal_components():
    values = torch.randn(3, 1, 20, 24, generator=torch.Generator().manual_seed(0)).cumsum(3)
    windows = np.lib.stride_tricks.sliding_window_view(values[:, 0].double().numpy(), (5, 5), axis=(1, 2))
    patches = windows.reshape(-1, 25)
    patches = patches - patches.mean(1, keepdims=True)
    _, _, expected = np.linalg.svd(patches, full_matrices=False)
    found = components(values, 3).double().numpy().reshape(3, 25)
    np.testing.assert_allclose(np.abs((found * expected[:3]).sum(1)), 1, rtol=1e-4)


def test_the_second_stage_filters_the_magnitudes_of_the_first(part_images):
    bank = create_backbone("pca").fit(part_images, seed=0)
    level = opponent_channels(part_images.batch([0]))
    first, second = bank._magnitudes(level, 0)
    luminance = level[0, 0].double().numpy()
    expected = np.abs(direct(luminance, bank.first[0, 1, 0].double().numpy())[::2, ::2])
    np.testing.assert_allclose(first[0, 1].numpy(), expected, rtol=1e-3, atol=1e-4)
    again = np.abs(direct(expected, bank.second[0, 3, 0].double().numpy()))
    np.testing.assert_allclose(second[0, 3].numpy(), again, rtol=1e-3, atol=1e-3)
