"""The building blocks: convolutions as products, blur, structural similarity."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from blemish.detectors.parts.convolution import Decoder, Doubling, Encoder, Halving, halvings, widths
from blemish.features.filters import gaussian_blur, structural_similarity


@pytest.mark.parametrize("side", [32, 48, 112, 128, 144, 1008, 1024])
def test_encoder_and_decoder_give_back_the_size(side):
    sides = halvings(side)
    assert 4 <= sides[-1] < 8
    if side <= 144:
        images = torch.rand(2, 3, side, side)
        latent = Encoder(side, 4, 7)(images)
        assert latent.shape == (2, 7)
        assert Decoder(side, 4, 7)(latent).shape == images.shape


def test_the_network_of_the_benchmark_has_95_7_million_parameters():
    parameters = [*Encoder(128, 128, 100).parameters(), *Decoder(128, 128, 100).parameters()]
    assert round(sum(parameter.numel() for parameter in parameters) / 1e6, 1) == 95.7


def test_channels_double_up_to_sixteen_times():
    assert widths(8, 7) == [8, 16, 32, 64, 128, 128, 128]


@pytest.mark.parametrize("side", [4, 6, 8, 16])
@pytest.mark.parametrize("layer", [Halving(5, 7), Doubling(5, 7, 0)])
def test_the_product_equals_the_convolution(layer: nn.Module, side: int):
    images = torch.randn(3, 5, side, side, requires_grad=True)
    results = []
    for mode in (True, False):  # the product is for training alone
        layer.train(mode)
        result = layer(images)
        gradients = torch.autograd.grad(result.square().sum(), [images, *layer.parameters()])
        results.append((result, *gradients))
    for product, convolution in zip(*results, strict=True):
        torch.testing.assert_close(product, convolution, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sigma", [0.7, 2.0, 5.0])
def test_blur_is_the_gaussian_of_opencv(sigma):
    image = np.random.default_rng(0).random((40, 60)).astype(np.float32)
    side = 2 * int(np.ceil(3 * sigma)) + 1
    expected = cv2.GaussianBlur(image, (side, side), sigma, borderType=cv2.BORDER_REFLECT_101)
    blurred = gaussian_blur(torch.from_numpy(image)[None, None], sigma)[0, 0]
    np.testing.assert_allclose(blurred.numpy(), expected, atol=1e-5)


def test_blur_of_nothing_and_of_a_constant():
    image = torch.rand(1, 2, 9, 9)
    assert gaussian_blur(image, 0) is image
    torch.testing.assert_close(gaussian_blur(torch.full((1, 1, 8, 8), 0.3), 4.0), torch.full((1, 1, 8, 8), 0.3))


def test_structural_similarity_against_its_definition():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(1, 1, 32, 32, generator=generator), torch.rand(1, 1, 32, 32, generator=generator)
    window = np.outer(*2 * [cv2.getGaussianKernel(11, 1.5)[:, 0]])
    a, b = first[0, 0, 10:21, 10:21].double().numpy(), second[0, 0, 10:21, 10:21].double().numpy()
    mean_a, mean_b = (window * a).sum(), (window * b).sum()
    var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
    covariance = (window * (a - mean_a) * (b - mean_b)).sum()
    expected = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
    expected /= (mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)
    assert structural_similarity(first, second)[0, 0, 15, 15].item() == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(structural_similarity(first, first), torch.ones(1, 1, 32, 32))
