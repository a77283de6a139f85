"""Features from Gabor filters, which need no pretrained weights."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from blemish.features.base import FilterBank
from blemish.features.filters import gaussian_blur

STRIDE = 8
"""Pixels of the image per cell of the grid, along either axis."""
OCTAVES = 4
"""Resolutions, each half of the one before."""
SIGMA, FREQUENCY = 1.5, 0.35 / 1.5
"""Sigma of a Gabor filter's envelope in pixels, and frequency of its wave in cycles per pixel, at its octave."""


def gabor_pairs(orientations: int, sigma: float = SIGMA, frequency: float = FREQUENCY) -> Tensor:
    """Gabor filters (2 orientations, 1, k, k), even and odd alternating, of zero mean; each pair has unit norm."""
    radius = math.ceil(3 * sigma)
    axis = torch.arange(-radius, radius + 1, dtype=torch.float64)
    envelope = torch.exp(-(axis[:, None] ** 2 + axis**2) / (2 * sigma**2))
    envelope /= envelope.sum()
    angles = torch.arange(orientations, dtype=torch.float64)[:, None, None] * math.pi / orientations
    phase = 2 * math.pi * frequency * (axis * angles.cos() + axis[:, None] * angles.sin())
    even = envelope * phase.cos()
    even = even - envelope * even.sum((1, 2), keepdim=True)
    odd = envelope * phase.sin()
    pairs = torch.stack([even, odd], 1)
    pairs = pairs / pairs.square().sum((1, 2, 3), keepdim=True).sqrt()
    return pairs.flatten(0, 1)[:, None].float()


def _even_first(pairs: Tensor) -> Tensor:
    return torch.cat([pairs[::2], pairs[1::2]])


class GaborFeatures(FilterBank):
    """65 responses of Gabor filters on a grid with cells of 8 x 8 pixels.

    Each image is standardised by its own mean and standard deviation and split into luminance and two colour
    differences. At each of four octaves the magnitudes of complex Gabor filters are averaged per cell: 8 orientations
    of luminance and, from the second octave on, 4 of each colour difference. Their square roots are the responses,
    followed by the three channels smoothed at three widths.
    """

    luminance: Tensor
    colour: Tensor
    num_responses = 8 + (OCTAVES - 1) * 16 + 9

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("luminance", _even_first(gabor_pairs(8)), persistent=False)
        self.register_buffer("colour", _even_first(gabor_pairs(4)), persistent=False)

    def responses(self, images: Tensor) -> Tensor:
        """(B, 65, H / 8, W / 8) of images (B, 3, H, W) whose sides are multiples of 8."""
        channels = opponent_channels(images)
        grid = images.shape[-2] // STRIDE, images.shape[-1] // STRIDE
        level, magnitudes = channels, []
        for octave in range(OCTAVES):
            found = self._magnitudes(level, octave)
            magnitudes.append(to_grid(found, grid, SIGMA * 2**octave))
            level = F.avg_pool2d(level, 2)
        cells = F.avg_pool2d(channels, STRIDE)
        means = [to_grid(cells, grid, sigma) for sigma in (3.0, 8.0, 20.0)]
        return torch.cat([torch.cat(magnitudes, 1).sqrt(), *means], 1)

    def _magnitudes(self, level: Tensor, octave: int) -> Tensor:
        """The magnitudes of an octave's filters, at every second pixel of the two finest octaves."""
        stride = 2 if octave < 2 else 1
        radius = self.luminance.shape[-1] // 2
        mode = "reflect" if min(level.shape[-2:]) > radius else "replicate"  # too small to be mirrored
        padded = F.pad(level, (radius,) * 4, mode=mode)
        found = [_magnitudes_of(padded[:, :1], self.luminance, stride)]
        if octave > 0:  # the finest octave of colour is mostly sensor noise
            found.append(_magnitudes_of(padded[:, 1:], self.colour, stride))
        return torch.cat(found, 1)


def _magnitudes_of(images: Tensor, filters: Tensor, stride: int) -> Tensor:
    """(B, C N, h, w): the magnitudes of N pairs of filters (2 N, 1, k, k), the even ones first, on each channel.

    The channels of images (B, C, H, W) are computed like those of a batch: a convolution in groups is slower.
    """
    even, odd = F.conv2d(images.reshape(-1, 1, *images.shape[2:]), filters, stride=stride).chunk(2, 1)
    found = (even.square() + odd.square() + 1e-8).sqrt()
    return found.reshape(images.shape[0], -1, *found.shape[2:])


def opponent_channels(images: Tensor) -> Tensor:
    """(B, 3, H, W): luminance, red - green and blue - yellow of each image, standardised by its mean and deviation."""
    centred = images - _mean(images)
    deviation = _mean(centred.square()).sqrt()
    red, green, blue = (centred / (deviation + 0.01)).unbind(1)
    return torch.stack([(red + green + blue) / 3, red - green, blue - (red + green) / 2], 1)


def _mean(images: Tensor) -> Tensor:
    """The mean of each image, (B, 1, 1, 1), over the means of cells: some runtimes sum 196,608 numbers one by one,
    with a relative error of 1e-4.
    """
    return F.avg_pool2d(images, STRIDE).mean((1, 2, 3), keepdim=True)


def to_grid(values: Tensor, grid: tuple[int, int], sigma: float) -> Tensor:
    """Values averaged per cell, (B, C, *grid), and smoothed so that both together are a Gaussian of `sigma` pixels."""
    factor = values.shape[-2] // grid[0]
    cells = F.avg_pool2d(values, factor) if factor > 1 else values
    rest = math.sqrt(max(sigma**2 - STRIDE**2 / 12, 0)) / STRIDE  # averaging over a cell has the variance 8^2 / 12
    return gaussian_blur(cells, rest) if rest > 0.25 else cells
