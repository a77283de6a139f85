"""Features from filters that are principal components of the good images' patches, in two stages (PCANet)."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from blemish.data.source import ImageSource
from blemish.features.base import FilterBank, batches
from blemish.features.gabor import OCTAVES, opponent_channels, to_grid
from blemish.progress import Progress, no_progress

SIDE = 5
"""Side of a filter, in pixels of its octave."""
FIRST, SECOND, COLOUR = 6, 3, 4
"""Number of luminance filters, of filters for each of their rectified responses, and for each colour difference."""
LEARNED_FROM = 40
"""Largest number of images that the filters are learned from."""


class PcaFeatures(FilterBank):
    """129 responses of filters learned from the good images, on a grid with cells of 8 x 8 pixels.

    At each of four octaves, the filters are the leading principal components of luminance patches (first stage), of the
    patches of each first-stage magnitude (second stage) and, from the second octave on, of the patches of each colour
    difference. Magnitudes are averaged per cell like those of Gabor filters. After PCANet (Chan et al. 2014, arXiv
    1404.3606), with magnitudes instead of hashing, and AnomalyHop (Zhang et al. 2021, arXiv 2105.03797).
    """

    DIMENSIONS = 64
    num_responses = OCTAVES * FIRST * (1 + SECOND) + (OCTAVES - 1) * 2 * COLOUR + 9
    first: Tensor
    second: Tensor
    colour: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("first", torch.zeros(OCTAVES, FIRST, 1, SIDE, SIDE))
        self.register_buffer("second", torch.zeros(OCTAVES, FIRST * SECOND, 1, SIDE, SIDE))
        self.register_buffer("colour", torch.zeros(OCTAVES, 2 * COLOUR, 1, SIDE, SIDE))

    def fit(self, images: ImageSource, seed: int, progress: Progress = no_progress) -> Self:
        """Learns the filters of both stages, then the principal components of their responses."""
        rows = np.sort(np.random.default_rng(seed).permutation(len(images))[:LEARNED_FROM]).tolist()
        level = torch.cat([opponent_channels(batch) for batch in batches(images, rows, self.first.device, progress)])
        for octave in range(OCTAVES):
            luminance, colours = level[:, :1], level[:, 1:]
            self.first[octave] = components(luminance, FIRST)
            rectified = _filtered(luminance, self.first[octave]).abs()
            self.second[octave] = torch.cat([components(part, SECOND) for part in rectified.chunk(FIRST, 1)])
            self.colour[octave] = torch.cat([components(part, COLOUR) for part in colours.chunk(2, 1)])
            level = F.avg_pool2d(level, 2)
        return super().fit(images, seed, progress)

    def responses(self, images: Tensor) -> Tensor:
        """(B, 129, H / 8, W / 8) of images (B, 3, H, W) whose sides are multiples of 8."""
        channels = opponent_channels(images)
        grid = images.shape[-2] // 8, images.shape[-1] // 8
        level, magnitudes = channels, []
        for octave in range(OCTAVES):
            found = self._magnitudes(level, octave)
            magnitudes += [to_grid(values, grid, 1.5 * 2**octave) for values in found]
            level = F.avg_pool2d(level, 2)
        cells = F.avg_pool2d(channels, 8)
        means = [to_grid(cells, grid, sigma) for sigma in (3.0, 8.0, 20.0)]
        return torch.cat([torch.cat(magnitudes, 1).sqrt(), *means], 1)

    def _magnitudes(self, level: Tensor, octave: int) -> list[Tensor]:
        """The magnitudes of both stages and, from the second octave on, of colour; the finest at every second pixel."""
        first = _filtered(level[:, :1], self.first[octave], stride=2 if octave == 0 else 1).abs()
        found = [first, _filtered(first, self.second[octave]).abs()]
        if octave > 0:  # the finest octave of colour is mostly sensor noise
            found.append(_filtered(level[:, 1:], self.colour[octave]).abs())
        return found


def components(values: Tensor, number: int) -> Tensor:
    """(number, 1, SIDE, SIDE): the leading principal components of the patches of values (B, 1, H, W).

    The mean of each patch is subtracted; the components have unit norm. Zeros where values are smaller than a filter.
    """
    stride = 3 if values.shape[-1] > 100 else 1
    if min(values.shape[-2:]) < SIDE:
        return values.new_zeros(number, 1, SIDE, SIDE)
    patches = F.unfold(values, SIDE, stride=stride).transpose(1, 2).flatten(0, 1)
    patches = (patches - patches.mean(1, keepdim=True)).double()
    _, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    leading: Tensor = vectors.flip(1)[:, :number].T
    return (leading - leading.mean(1, keepdim=True)).view(number, 1, SIDE, SIDE).to(values)


def _filtered(values: Tensor, filters: Tensor, stride: int = 1) -> Tensor:
    """Each channel convolved with its group of the filters, at every `stride`-th pixel."""
    radius = SIDE // 2
    mode = "reflect" if min(values.shape[-2:]) > radius else "replicate"  # too small to be mirrored
    return F.conv2d(F.pad(values, (radius,) * 4, mode=mode), filters, stride=stride, groups=values.shape[1])
