"""Features of several kinds side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from blemish.data.source import ImageSource
from blemish.features.base import Backbone, FilterBank
from blemish.progress import Progress, no_progress

PRINCIPAL = 2 / 3
"""Share of the components of each kind that a Gaussian uses: the leading ones. The others gain little, at more than
twice the memory and time."""

SMALLEST = 1e-3
"""Lower limit of the standard deviation of a kind, for images that all show the same; usual are 0.1 to 0.2."""


class CombinedFeatures(Backbone):
    """The components of several filter banks, each divided by their standard deviation."""

    scale: Tensor

    def __init__(self, banks: Sequence[FilterBank]) -> None:
        super().__init__()
        self.banks = nn.ModuleList(banks)
        self.register_buffer("scale", torch.ones(len(banks)))

    @property
    def kinds(self) -> Sequence[Backbone]:
        """The filter banks."""
        return [bank for bank in self.banks if isinstance(bank, FilterBank)]

    @property
    def widths(self) -> list[int]:
        """Number of components of each kind."""
        return [bank.projection.shape[1] for bank in self.banks if isinstance(bank, FilterBank)]

    def split(self, features: Tensor) -> Sequence[Tensor]:
        """The components of each kind."""
        return torch.split(features, self.widths, 1)

    @property
    def principal(self) -> Sequence[int]:
        """The leading components of each kind."""
        found: list[int] = []
        first = 0
        for width in self.widths:
            found += range(first, first + round(PRINCIPAL * width))
            first += width
        return found

    def fit(self, images: ImageSource, seed: int, progress: Progress = no_progress) -> Self:
        """Fits each kind, and takes the standard deviation of its components."""
        for number, bank in enumerate(self.kinds):
            assert isinstance(bank, FilterBank)
            bank.fit(images, seed, progress)
            self.scale[number] = max(bank.deviation, SMALLEST)
        return self

    def levels(self, images: Tensor) -> list[Tensor]:
        """One level: the components of all kinds, (B, C, h, w)."""
        found = [bank(images) / scale for bank, scale in zip(self.banks, self.scale, strict=True)]
        return [torch.cat(found, 1)]
