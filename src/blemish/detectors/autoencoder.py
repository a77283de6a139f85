"""The autoencoder: trained on good images, it reconstructs defects badly; the reconstruction error is the map."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from blemish.detectors.base import ReconstructingDetector, Smoothing, max_scores
from blemish.detectors.parts.convolution import Decoder, Encoder, to_image
from blemish.features.base import Side
from blemish.features.filters import gaussian_blur, structural_similarity

Width = Annotated[
    int,
    Field(ge=4, le=512, description="channels of the first stage"),
]
LatentDim = Annotated[int, Field(ge=1, le=4096, description="length of the latent vector")]
Loss = Annotated[
    Literal["mse", "ssim"],
    Field(description="error that is minimised and shown as the map"),
]


class Autoencoder(ReconstructingDetector):
    """Convolutional autoencoder. Map: the reconstruction error at each pixel, smoothed; score: the map's maximum.

    The error is either the squared error or the structural dissimilarity (1 - SSIM) of Bergmann et al. 2018 (arXiv
    1807.02011). On MVTec AD at 128x128 such networks reach a mean pixel AUROC of 0.82 (squared error) and 0.87 (SSIM).
    """

    def __init__(
        self,
        size: Side = 128,
        width: Width = 16,
        latent_dim: LatentDim = 100,
        loss: Loss = "mse",
        smoothing: Smoothing = 2.0,
    ) -> None:
        super().__init__(size)
        self.width, self.latent_dim, self.smoothing = width, latent_dim, smoothing
        self.loss = loss
        self.encoder = Encoder(size, width, latent_dim)
        self.decoder = Decoder(size, width, latent_dim)

    def reconstruct(self, images: Tensor) -> Tensor:
        """The images (B, 3, H, W) encoded to the latent vector and decoded again; values in [0, 1]."""
        return to_image(self.decoder(self.encoder(images)))

    def losses(self, *examples: Tensor) -> Tensor:
        """The mean error over the pixels of each image, (B,); the seeds are not used."""
        images = examples[0]
        return self._error(images, self.reconstruct(images)).flatten(1).mean(1)

    def score(self, images: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The maximum (B,) and the map (B, H, W) of the smoothed reconstruction error."""
        maps = gaussian_blur(self._error(images, self.reconstruct(images)), self.smoothing)[:, 0]
        return max_scores(maps, inside), maps

    def _error(self, images: Tensor, reconstructed: Tensor) -> Tensor:
        """The error at each pixel, (B, 1, H, W), averaged over the channels."""
        if self.loss == "mse":
            return (images - reconstructed).square().mean(1, keepdim=True)
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 is too coarse for differences of squares
            return 1 - structural_similarity(images.float(), reconstructed).mean(1, keepdim=True)
