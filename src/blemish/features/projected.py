"""The principal components of a network's levels on one grid, like those of a filter bank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from blemish.data.source import ImageSource
from blemish.features.base import FilterBank
from blemish.features.timm_features import NetworkFeatures
from blemish.progress import Progress, no_progress

STRIDE = 8
"""Pixels of the image per cell of the grid, along either axis."""
LEVELS = 4, 8, 16
"""Strides of the levels of a CNN that are used, unless others are asked for."""
PADDING = 16
"""Pixels by which the image is mirrored at each edge: a network pads with zeros, which makes the edges of every image
unusual."""
AROUND = 3
"""Side in cells of the square over which the levels are averaged."""


class ProjectedNetwork(FilterBank):
    """96 principal components of a network's levels on a grid with cells of 8 x 8 pixels.

    The levels are averaged over 3 x 3 cells first. The components are learned from good images, the network is not.
    """

    DIMENSIONS, WHITENING = 96, 0.5
    num_responses = 0
    position = 0.0

    def __init__(
        self, name: str, layers: Sequence[int] = (), weights: str = "hub", dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.network = NetworkFeatures(name, layers, weights, dtype, LEVELS)

    def fit(self, images: ImageSource, seed: int, progress: Progress = no_progress) -> Self:
        """Loads the network's weights, and learns the components from images and cells drawn at random by the seed."""
        self.network.fit(images, seed)
        return super().fit(images, seed, progress)

    def responses(self, images: Tensor) -> Tensor:
        """The levels (B, C, H / 8, W / 8) of images (B, 3, H, W) whose sides are multiples of 16."""
        grid = images.shape[-2] // STRIDE, images.shape[-1] // STRIDE
        padded = F.pad(images, (PADDING,) * 4, mode="reflect")
        levels = [_on_grid(_cropped(level, padded), grid) for level in self.network.levels(padded)]
        return F.avg_pool2d(torch.cat(levels, 1), AROUND, 1, AROUND // 2, count_include_pad=False)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("mean", "projection"):  # how many channels the network has is known by what was saved
            setattr(self, name, getattr(self, name).new_empty(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _cropped(level: Tensor, padded: Tensor) -> Tensor:
    """The cells of a level that show the image without its mirrored edges."""
    rows, columns = (
        round(PADDING * cells / pixels) for cells, pixels in zip(level.shape[2:], padded.shape[2:], strict=True)
    )
    return level[:, :, rows : level.shape[2] - rows, columns : level.shape[3] - columns]


def _on_grid(level: Tensor, grid: tuple[int, int]) -> Tensor:
    """A level averaged over each cell of the grid where it is finer, and enlarged bilinearly where it is coarser."""
    factor = level.shape[-2] // grid[0]
    if factor > 1 and level.shape[-2:] == (factor * grid[0], factor * grid[1]):
        return F.avg_pool2d(level, factor)
    return level if level.shape[-2:] == grid else F.interpolate(level, size=grid, mode="bilinear")
