"""Convolutional encoder and decoder of the reconstruction detectors, around a latent vector."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

KERNEL, STRIDE, PADDING = 4, 2, 1
SMALLEST_SIDE = 4
SLOPE = 0.2
"""Negative slope of the leaky ReLUs."""
GEMM_SIDE = 8
"""Largest side of feature maps for which a convolution is computed as a matrix product, in training on a CPU."""


def halvings(side: int) -> list[int]:
    """The side of the input and of the feature map after each halving, until less than 2 * SMALLEST_SIDE is left."""
    sides = [side]
    while sides[-1] >= 2 * SMALLEST_SIDE:
        sides.append(sides[-1] // 2)
    return sides


def widths(width: int, num_stages: int) -> list[int]:
    """The number of channels after each stage: doubled by each, up to 16 times the first."""
    return [width * min(2**stage, 16) for stage in range(num_stages)]


class Halving(nn.Conv2d):
    """A 4x4 convolution of stride 2: (B, C, H, W) to (B, C', H/2, W/2).

    On small maps with many channels most of the time goes into reordering the weights at every step. There the
    convolution is computed as a matrix product over unfolded patches (1024 to 2048 channels on 8x8, on two cores in
    bfloat16: forward and backward in 61 ms instead of 235).
    """

    def __init__(self, channels: int, out_channels: int):
        super().__init__(channels, out_channels, KERNEL, STRIDE, PADDING)

    def reset_parameters(self) -> None:
        """Draws new weights; each output is a sum over the whole kernel."""
        _initialise(self, self.in_channels * KERNEL**2)

    def forward(self, images: Tensor) -> Tensor:
        """The feature maps at half the size."""
        batch, _, height, width = images.shape
        if not _as_product(self, images, height // 2):
            return super().forward(images)
        patches = F.unfold(images, KERNEL, padding=PADDING, stride=STRIDE).transpose(1, 2)
        product = F.linear(patches, self.weight.flatten(1), self.bias)
        return product.transpose(1, 2).reshape(batch, -1, height // 2, width // 2)


class Doubling(nn.ConvTranspose2d):
    """A transposed 4x4 convolution of stride 2: (B, C, H, W) to (B, C', 2H + odd, 2W + odd); see `Halving`."""

    def __init__(self, channels: int, out_channels: int, odd: int):
        super().__init__(channels, out_channels, KERNEL, STRIDE, PADDING, output_padding=odd)

    def reset_parameters(self) -> None:
        """Draws new weights; each output is a sum over a quarter of the kernel."""
        _initialise(self, self.in_channels * (KERNEL // STRIDE) ** 2)

    def forward(self, images: Tensor, output_size: list[int] | None = None) -> Tensor:
        """The feature maps at twice the size; `output_size` belongs to the base class's signature and must be None."""
        side = images.shape[-1]
        if self.output_padding[0] or not _as_product(self, images, side):
            return super().forward(images, output_size)
        patches = images.flatten(2).transpose(1, 2) @ self.weight.flatten(1)
        doubled = F.fold(patches.transpose(1, 2), (2 * side, 2 * side), KERNEL, padding=PADDING, stride=STRIDE)
        assert self.bias is not None
        return doubled + self.bias.to(doubled.dtype)[:, None, None]


def _initialise(layer: nn.Conv2d | nn.ConvTranspose2d, num_inputs: int) -> None:
    """Initialises a layer so that the variance stays the same from layer to layer (He et al. 2015, arXiv 1502.01852).

    torch's default reduces it to a third in each layer, so that ten layers output a constant grey image at first.
    """
    nn.init.normal_(layer.weight, std=math.sqrt(2 / (1 + SLOPE**2) / num_inputs))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _as_product(layer: nn.Module, images: Tensor, side: int) -> bool:
    """Whether a convolution of maps with this side is computed as a matrix product."""
    return layer.training and images.device.type == "cpu" and side <= GEMM_SIDE


class Encoder(nn.Sequential):
    """Images (B, 3, side, side) to vectors (B, outputs)."""

    def __init__(self, side: int, width: int, outputs: int):
        sides = halvings(side)
        channels = [3, *widths(width, len(sides) - 1)]
        super().__init__(*self._layers(channels), nn.Conv2d(channels[-1], outputs, sides[-1]), nn.Flatten())

    @staticmethod
    def _layers(channels: list[int]) -> Iterator[nn.Module]:
        for before, after in pairwise(channels):
            yield Halving(before, after)
            yield nn.LeakyReLU(SLOPE)


class Decoder(nn.Sequential):
    """Latent vectors (B, latent_dim) to logits (B, 3, side, side), of which `to_image` makes images."""

    def __init__(self, side: int, width: int, latent_dim: int):
        sides = halvings(side)[::-1]
        channels = [*widths(width, len(sides) - 1)[::-1], 3]
        super().__init__(
            nn.Unflatten(1, (latent_dim, 1, 1)),
            nn.ConvTranspose2d(latent_dim, channels[0], sides[0]),
            *self._layers(channels, sides),
        )

    @staticmethod
    def _layers(channels: list[int], sides: list[int]) -> Iterator[nn.Module]:
        for (before, after), (small, large) in zip(pairwise(channels), pairwise(sides), strict=True):
            yield nn.LeakyReLU(SLOPE)
            yield Doubling(before, after, large - 2 * small)


def to_image(logits: Tensor) -> Tensor:
    """The sigmoid of logits, in [0, 1] and float32: bfloat16 has too few digits (three) for an image."""
    return torch.sigmoid(logits.float())
