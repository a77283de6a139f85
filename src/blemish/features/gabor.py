"""Analytic features: what is at each place of a picture, by formulas alone, without weights."""

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
SIGMA, FREQUENCY = 1.5, 0.35 / 1.5
"""Of a Gabor filter's envelope, in pixels of its octave, and of its wave, in cycles per pixel."""


def gabor_pairs(orientations: int, sigma: float = SIGMA, frequency: float = FREQUENCY) -> Tensor:
    """(2 orientations, 1, k, k): even and odd filters alternating, free of a mean, each pair of unit norm."""
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


class GaborFeatures(FilterBank):
    """Filters that come from formulas alone; 65 responses on a grid of 8 x 8 pixels.

    Each image is normalised by its own mean and standard deviation and split into luminance and two colour
    differences. On each of four octaves the magnitudes of complex Gabor filters are averaged to the grid: 8
    orientations of luminance and, from the second octave on, 4 of either colour difference. Their square root evens
    out their variance. The channels, averaged at three widths, come last.
    """

    luminance: Tensor
    colour: Tensor
    num_responses = 8 + (OCTAVES - 1) * 16 + 9

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("luminance", gabor_pairs(8), persistent=False)
        self.register_buffer("colour", gabor_pairs(4).repeat(2, 1, 1, 1), persistent=False)

    def responses(self, images: Tensor) -> Tensor:
        """(B, 65, H / 8, W / 8) of images whose sides are multiples of 8."""
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
        """Of an octave's filters; every second pixel suffices where a cell has at least 4 x 4."""
        stride = 2 if octave < 2 else 1
        radius = self.luminance.shape[-1] // 2
        mode = "reflect" if min(level.shape[-2:]) > radius else "replicate"  # there is too little to mirror
        padded = F.pad(level, (radius,) * 4, mode=mode)
        responses = [F.conv2d(padded[:, :1], self.luminance, stride=stride)]
        if octave > 0:  # the finest octave of colour is little but the sensor's noise
            responses.append(F.conv2d(padded[:, 1:], self.colour, stride=stride, groups=2))
        found = torch.cat(responses, 1)
        return (found[:, ::2].square() + found[:, 1::2].square() + 1e-8).sqrt()


def opponent_channels(images: Tensor) -> Tensor:
    """(B, 3, H, W): luminance, red - green, blue - yellow, of each image normalised by its own mean and deviation."""
    centred = images - _mean(images)
    deviation = _mean(centred.square()).sqrt()
    red, green, blue = (centred / (deviation + 0.01)).unbind(1)
    return torch.stack([(red + green + blue) / 3, red - green, blue - (red + green) / 2], 1)


def _mean(images: Tensor) -> Tensor:
    """(B, 1, 1, 1): cell by cell, since runtimes that add 196,608 numbers one by one are off by 1e-4 of the mean."""
    return F.avg_pool2d(images, STRIDE).mean((1, 2, 3), keepdim=True)


def to_grid(values: Tensor, grid: tuple[int, int], sigma: float) -> Tensor:
    """(B, C, *grid): averaged to the cells, then what is missing of a Gaussian of `sigma` pixels of the image."""
    factor = values.shape[-2] // grid[0]
    cells = F.avg_pool2d(values, factor) if factor > 1 else values
    rest = math.sqrt(max(sigma**2 - STRIDE**2 / 12, 0)) / STRIDE  # a cell's average has the variance 8^2 / 12
    return gaussian_blur(cells, rest) if rest > 0.25 else cells
