"""Convolutional encoder and decoder of the reconstruction detectors, around a latent vector."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from pydantic import Field
from torch import Tensor, nn

Width = Annotated[int, Field(ge=4, le=512, description="channels of the first stage")]
LatentDim = Annotated[int, Field(ge=1, le=4096, description="length of the latent vector")]
Depth = Annotated[int, Field(ge=1, le=8, description="convolutions per stage")]
Blocks = Annotated[
    Literal["plain", "residual"],
    Field(description="stages of convolutions alone, or added to a shortcut"),
]

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


class Same(nn.Conv2d):
    """A 3x3 convolution that keeps the size: (B, C, H, W) to (B, C, H, W)."""

    def __init__(self, channels: int):
        super().__init__(channels, channels, 3, padding=1)

    def reset_parameters(self) -> None:
        """Draws new weights; each output is a sum over the whole kernel."""
        _initialise(self, self.in_channels * 3**2)


class Shortcut(nn.Conv2d):
    """Halves or doubles the size without a kernel of its own, and projects to the channels of the stage."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__(channels, out_channels, 1, bias=False)

    def reset_parameters(self) -> None:
        """Draws new weights that keep the variance, since no activation follows within the stage."""
        nn.init.normal_(self.weight, std=math.sqrt(1 / self.in_channels))

    def resized(self, images: Tensor, like: Tensor) -> Tensor:
        """The feature maps (B, C, H, W) projected and at the size of `like` (B, C', H', W'), half or twice theirs."""
        if like.shape[-1] < images.shape[-1]:
            return self(F.avg_pool2d(images, STRIDE))  # type: ignore[no-any-return]
        return F.interpolate(self(images), size=like.shape[-2:], mode="nearest")


class ResidualStage(nn.Module):
    """A stage whose layers are added to a shortcut, over sqrt 2, which keeps the variance (He et al. 2015, arXiv
    1512.03385; the shortcuts as in Karras et al. 2020, arXiv 1912.04958).
    """

    def __init__(self, layers: list[nn.Module], channels: int, out_channels: int):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.shortcut = Shortcut(channels, out_channels)

    def forward(self, images: Tensor) -> Tensor:
        """The feature maps at the size of the layers' output."""
        found: Tensor = self.layers(images)
        return (found + self.shortcut.resized(images, found)) / math.sqrt(2)


class Encoder(nn.Sequential):
    """Images (B, 3, side, side) to vectors (B, outputs)."""

    def __init__(self, side: int, width: int, outputs: int, depth: Depth = 1, blocks: Blocks = "plain"):
        sides = halvings(side)
        channels = [3, *widths(width, len(sides) - 1)]
        stages = [
            module
            for before, after in pairwise(channels)
            for module in _stage(self._layers(before, after, depth), before, after, blocks)
        ]
        super().__init__(*stages, nn.Conv2d(channels[-1], outputs, sides[-1]), nn.Flatten())

    @staticmethod
    def _layers(before: int, after: int, depth: int) -> list[nn.Module]:
        more = [layer for _ in range(depth - 1) for layer in (Same(after), nn.LeakyReLU(SLOPE))]
        return [Halving(before, after), nn.LeakyReLU(SLOPE), *more]


class Decoder(nn.Sequential):
    """Latent vectors (B, latent_dim) to logits (B, 3, side, side), of which `to_image` makes images."""

    def __init__(self, side: int, width: int, latent_dim: int, depth: Depth = 1, blocks: Blocks = "plain"):
        sides = halvings(side)[::-1]
        channels = [*widths(width, len(sides) - 1)[::-1], 3]
        stages = [
            module
            for (before, after), (small, large) in zip(pairwise(channels), pairwise(sides), strict=True)
            for module in _stage(self._layers(before, after, large - 2 * small, depth), before, after, blocks)
        ]
        first = nn.ConvTranspose2d(latent_dim, channels[0], sides[0])
        super().__init__(nn.Unflatten(1, (latent_dim, 1, 1)), first, *stages)

    @staticmethod
    def _layers(before: int, after: int, odd: int, depth: int) -> list[nn.Module]:
        more = [layer for _ in range(depth - 1) for layer in (nn.LeakyReLU(SLOPE), Same(before))]
        return [*more, nn.LeakyReLU(SLOPE), Doubling(before, after, odd)]


def _stage(layers: list[nn.Module], before: int, after: int, blocks: Blocks) -> list[nn.Module]:
    """The modules of a stage of an encoder or decoder."""
    return layers if blocks == "plain" else [ResidualStage(layers, before, after)]


def to_image(logits: Tensor) -> Tensor:
    """The sigmoid of logits, in [0, 1] and float32: bfloat16 has too few digits (three) for an image."""
    return torch.sigmoid(logits.float())
