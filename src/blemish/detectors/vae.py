"""The variational autoencoder: its latent vector is a distribution, kept close to a standard normal one."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from blemish.detectors.base import ReconstructingDetector, Smoothing, max_scores
from blemish.detectors.parts.convolution import Blocks, Decoder, Depth, Encoder, LatentDim, Width, to_image
from blemish.detectors.parts.reconstruction import Loss, error_at_pixels
from blemish.features.base import Side
from blemish.features.filters import gaussian_blur

Beta = Annotated[float, Field(ge=0, le=1000, description="weight of the KL term; 1 is the evidence lower bound")]

SMALLEST_ERROR = 1e-6
"""Added to the mean error, so that the likelihood is bounded: a tenth of the error of rounding to 8 bits."""


class VariationalAutoencoder(ReconstructingDetector):
    """Variational autoencoder. Map: the error of the reconstruction, smoothed; score: the map's maximum.

    It is trained on the evidence lower bound (Kingma & Welling 2013, arXiv 1312.6114) of a Gaussian decoder. The
    variance of the decoder is the optimal one of each image, its mean squared error ("sigma-VAE", Rybkin et al. 2020,
    arXiv 2006.13202), so that both terms are in nats and need no weight. With a fixed variance of 1, or with a mean of
    squared errors and a sum of KL terms, the KL term dominates and the latent vector carries no information (posterior
    collapse). With the loss l1 the decoder is a Laplace distribution of the optimal scale; with ssim the dissimilarity
    stands where the squared error does.
    """

    def __init__(
        self,
        size: Side = 128,
        width: Width = 16,
        latent_dim: LatentDim = 100,
        depth: Depth = 1,
        blocks: Blocks = "plain",
        loss: Loss = "mse",
        beta: Beta = 1.0,
        smoothing: Smoothing = 2.0,
    ) -> None:
        super().__init__(size)
        self.width, self.latent_dim, self.depth, self.blocks = width, latent_dim, depth, blocks
        self.loss, self.beta, self.smoothing = loss, beta, smoothing
        self.encoder = Encoder(size, width, 2 * latent_dim, depth, blocks)
        self.decoder = Decoder(size, width, latent_dim, depth, blocks)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latent vector, each (B, latent_dim)."""
        mean, log_variance = self.encoder(images).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-20, 10)

    def reconstruct(self, images: Tensor) -> Tensor:
        """The images (B, 3, H, W) decoded from their latent means; nothing is random, so scores are repeatable."""
        mean, _ = self.encode(images)
        return to_image(self.decoder(mean))

    def losses(self, *examples: Tensor) -> Tensor:
        """The negative evidence lower bound of each image, (B,), in nats per value (pixel and channel)."""
        images, seeds = examples
        mean, log_variance = self.encode(images)
        latent = mean + torch.exp(0.5 * log_variance) * _standard_normal(seeds, self.latent_dim).to(mean)
        error = error_at_pixels(images, to_image(self.decoder(latent)), self.loss).flatten(1).mean(1)
        negative_log_likelihood = _negative_log_likelihood(error + SMALLEST_ERROR, self.loss)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        return negative_log_likelihood + self.beta * divergence / images[0].numel()

    def score(self, images: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The maximum (B,) and the map (B, H, W) of the smoothed reconstruction error."""
        error = error_at_pixels(images, self.reconstruct(images), self.loss)
        maps = gaussian_blur(error, self.smoothing)[:, 0]
        return max_scores(maps, inside), maps


def _negative_log_likelihood(error: Tensor, loss: Loss) -> Tensor:
    """In nats per value, by the decoder whose scale suits the mean errors (B,) best: Laplace for l1, else Gaussian."""
    if loss == "l1":
        return torch.log(2 * error) + 1
    return 0.5 * (torch.log(2 * math.pi * error) + 1)


def _standard_normal(seeds: Tensor, length: int) -> Tensor:
    """Standard normal numbers (B, length), each row drawn from its own seed."""
    rows = [torch.randn(length, generator=torch.Generator().manual_seed(seed)) for seed in seeds.tolist()]
    return torch.stack(rows)
