"""The analytic features against direct computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from blemish.blocks.gabor import GaborFeatures, gabor_pairs, opponent_channels


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
