"""PatchCore: the distance of each patch to the nearest patch in a memory bank of good images."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from blemish.detectors.base import FeatureDetector, Smoothing, cells_inside, scores_and_maps
from blemish.detectors.parts.memory_bank import BankOptions, MemoryBank
from blemish.features.base import FeatureOptions
from blemish.features.computed import ComputedFeatures
from blemish.progress import Progress

Reweighting = Annotated[
    bool | None,
    Field(description="lower the score where good patches are dense; default: with networks"),
]


class PatchCore(FeatureDetector):
    """Map: the distance of each patch to the nearest patch of the memory bank; score: its maximum.

    With `reweighting` the score is the largest distance before smoothing, multiplied by a weight as in the paper; with
    a region of interest, the largest distance of the cells that show part of it.

    After Roth et al. 2022 (arXiv 2106.08265).
    """

    def __init__(
        self,
        feature_options: FeatureOptions = FeatureOptions(),
        bank_options: BankOptions = BankOptions(),
        reweighting: Reweighting = None,
        smoothing: Smoothing = 4.0,
    ) -> None:
        super().__init__(feature_options, smoothing)
        self.bank_options, self.reweighting = bank_options, reweighting
        self.memory = MemoryBank(bank_options, self.features)

    def learn(
        self,
        features: ComputedFeatures,
        validation: ComputedFeatures | None,  # noqa: ARG002 - there is nothing to choose
        seed: int,
        progress: Progress,
    ) -> None:
        """Selects the patches of the memory bank."""
        self.memory.learn(features, seed, progress)

    def learn_more(self, features: ComputedFeatures, progress: Progress) -> None:
        """Adds patches that are far from those in the memory bank."""
        self.memory.learn_more(features, progress)

    def distances(self, features: Tensor) -> Tensor:
        """Euclidean distances (B, h, w) to the nearest patch of the memory bank."""
        return self.memory.distances(features)

    def score(self, images: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scores (B,), reweighted where that is on, and maps (B, H, W): distances enlarged and smoothed."""
        features = self.features(images)
        patches, distances, rows = self.memory.nearest_patches(features)
        scores, maps = scores_and_maps(distances.view(-1, *features.shape[2:]), images, self.smoothing, inside)
        is_reweighted = self.features.reweighting if self.reweighting is None else self.reweighting
        if not is_reweighted:
            return scores, maps
        if inside is not None:
            counted = cells_inside(inside, features.shape[2], features.shape[3])
            distances = distances.masked_fill(~counted.flatten(1), -torch.inf)
        return self.memory.reweighted_scores(patches, distances, rows), maps
