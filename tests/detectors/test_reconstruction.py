"""The options of the autoencoders: each changes the network or what it minimises; the defaults are those of before."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from blemish.detectors.autoencoder import Autoencoder
from blemish.detectors.base import ReconstructingDetector
from blemish.detectors.parts.convolution import SLOPE, Doubling, Halving, halvings
from blemish.detectors.parts.reconstruction import error_at_pixels
from blemish.detectors.vae import SMALLEST_ERROR, VariationalAutoencoder
from blemish.export.graphs import to_onnx, write_onnx
from blemish.inference.backends import ONNX, OnnxBackend
from blemish.training.loop import initialise

BOTH = [Autoencoder, VariationalAutoencoder]


def fresh(kind: type[ReconstructingDetector], **options) -> ReconstructingDetector:
    """A detector with weights of one seed."""
    detector = kind.create(**{"size": 32, "width": 4, "latent_dim": 3} | options)
    initialise(detector, 0)
    return detector


def images(side: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(seed))


def num_weights(detector: nn.Module) -> int:
    return sum(value.numel() for value in detector.parameters())


@pytest.mark.parametrize("kind", BOTH)
def test_every_option_of_the_network_changes_it(kind):
    plain = fresh(kind)
    sizes = {num_weights(plain)}
    for changed in ({"width": 5}, {"latent_dim": 4}, {"depth": 2}, {"depth": 3}, {"blocks": "residual"}):
        detector = fresh(kind, **changed)
        sizes.add(num_weights(detector))
        assert not torch.equal(detector.reconstruct(images()), plain.reconstruct(images())), changed
    assert len(sizes) == 6


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(("side", "depth", "blocks"), list(product([32, 48, 80, 176], [1, 2], ["plain", "residual"])))
def test_every_network_rebuilds_images_of_every_size(kind, side, depth, blocks):
    detector = fresh(kind, size=side, depth=depth, blocks=blocks)
    with torch.no_grad():
        rebuilt = detector.reconstruct(images(side))
    assert rebuilt.shape == (2, 3, side, side)
    assert rebuilt.std() > 0
    losses = detector.losses(images(side), torch.tensor([1, 2]))
    losses.mean().backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in detector.parameters())


def test_the_default_network_is_that_of_models_of_before():
    """The layers, their names and what they compute, to the bit, as when there was one kind of stage."""
    detector = fresh(Autoencoder, size=80)
    sides = halvings(80)
    channels = [3, 4, 8, 16, 32]
    encoder, decoder = nn.Sequential(), nn.Sequential()
    for before, after in pairwise(channels):
        encoder.extend([Halving(before, after), nn.LeakyReLU(SLOPE)])
    encoder.extend([nn.Conv2d(32, 3, sides[-1]), nn.Flatten()])
    decoder.extend([nn.Unflatten(1, (3, 1, 1)), nn.ConvTranspose2d(3, 32, sides[-1])])
    stages = zip(channels[:0:-1], [*channels[-2:0:-1], 3], sides[:0:-1], sides[-2::-1], strict=True)
    for before, after, small, large in stages:
        decoder.extend([nn.LeakyReLU(SLOPE), Doubling(before, after, large - 2 * small)])
    before = nn.ModuleDict({"encoder": encoder, "decoder": decoder}).eval()
    before.load_state_dict(detector.eval().state_dict())  # strict: the same names and shapes
    expected = torch.sigmoid(before["decoder"](before["encoder"](images(80))))
    assert torch.equal(detector.reconstruct(images(80)), expected)


@pytest.mark.parametrize(("loss", "expected"), [("mse", 0.25), ("l1", 0.5), ("ssim", 0.0)])
def test_the_errors_of_a_brighter_image(loss, expected):
    dark = torch.full((1, 3, 16, 16), 0.25)
    found = error_at_pixels(dark, dark + (0.5 if loss != "ssim" else 0.0), loss)
    assert found.shape == (1, 1, 16, 16)
    torch.testing.assert_close(found, torch.full_like(found, expected), atol=1e-6, rtol=0)
    assert error_at_pixels(dark, 1 - dark, loss).min() > 0


@pytest.mark.parametrize("kind", BOTH)
def test_the_loss_is_also_the_map(kind):
    maps = {}
    for loss in ("mse", "l1", "ssim"):
        detector = fresh(kind, loss=loss, smoothing=0.0).eval()
        scores, maps[loss] = detector.score(images())
        assert torch.equal(maps[loss][:, None], error_at_pixels(images(), detector.reconstruct(images()), loss))
        assert torch.equal(scores, maps[loss].amax((1, 2)))
    assert not torch.equal(maps["mse"], maps["l1"])


@pytest.mark.parametrize(
    ("loss", "decoder"), [("mse", torch.distributions.Normal), ("l1", torch.distributions.Laplace)]
)
def test_the_vae_minimises_the_likelihood_under_the_scale_that_suits_best(loss, decoder):
    detector = fresh(VariationalAutoencoder, loss=loss, beta=0.0)
    batch, seeds = images(), torch.tensor([5, 6])
    mean, log_variance = detector.encode(batch)
    noise = torch.stack([torch.randn(3, generator=torch.Generator().manual_seed(seed)) for seed in (5, 6)])
    rebuilt = torch.sigmoid(detector.decoder(mean + torch.exp(0.5 * log_variance) * noise))
    error = error_at_pixels(batch, rebuilt, loss).mean((1, 2, 3)) + SMALLEST_ERROR
    scale = error.sqrt() if loss == "mse" else error
    expected = -decoder(rebuilt, scale[:, None, None, None]).log_prob(batch).mean((1, 2, 3))
    torch.testing.assert_close(detector.losses(batch, seeds), expected, rtol=1e-3, atol=1e-3)


def test_the_weight_of_the_kl_term_adds_to_the_loss():
    light, heavy = (fresh(VariationalAutoencoder, beta=beta) for beta in (0.5, 2.0))
    seeds = torch.tensor([1, 2])
    assert (heavy.losses(images(), seeds) > light.losses(images(), seeds)).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("loss", ["l1", "ssim"])
def test_every_loss_is_exported(kind, loss, tmp_path: Path):
    detector = fresh(kind, loss=loss, depth=2, blocks="residual").eval()
    detector.is_fitted = True
    write_onnx(to_onnx(detector, takes_inside=False), tmp_path)
    with torch.inference_mode():
        expected = detector(images())
    for found, wanted in zip(OnnxBackend(tmp_path / ONNX, 1)(images().numpy()), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
