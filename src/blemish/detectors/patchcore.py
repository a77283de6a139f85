"""PatchCore: a place that looks like none of the good images' places is anomalous."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from blemish.detectors.base import FeatureDetector, Smoothing, scores_and_maps
from blemish.detectors.parts.memory_bank import BankOptions, MemoryBank
from blemish.features.base import FeatureOptions
from blemish.features.computed import ComputedFeatures
from blemish.features.filters import membership_matrix
from blemish.progress import Progress

Reweighting = Annotated[
    bool | None,
    Field(description="lower the score where good patches are dense; default: on networks"),
]


class PatchCore(FeatureDetector):
    """Map: distance of each patch to the nearest patch kept from the good images; score: its maximum.

    With `reweighting` the score is the largest distance before smoothing, weighed as in the paper. Within a region of
    interest it is the largest of the cells that show some of it.

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
        validation: ComputedFeatures | None,  # noqa: ARG002 - nothing is chosen by it
        seed: int,
        progress: Progress,
    ) -> None:
        """Chooses the patches that are kept."""
        self.memory.learn(features, seed, progress)

    def learn_more(self, features: ComputedFeatures, progress: Progress) -> None:
        """Adds the patches that are unlike those kept."""
        self.memory.learn_more(features, progress)

    def distances(self, features: Tensor) -> Tensor:
        """Euclidean distances to the nearest patch of the bank, (B, h, w)."""
        return self.memory.distances(features)

    def score(self, images: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The distances, brought to the images' size and smoothed, and their maximum, or that weighed."""
        features = self.features(images)
        patches, distances, rows = self.memory.nearest_patches(features)
        scores, maps = scores_and_maps(distances.view(-1, *features.shape[2:]), images, self.smoothing, inside)
        is_weighed = self.features.reweighting if self.reweighting is None else self.reweighting
        if not is_weighed:
            return scores, maps
        if inside is not None:
            counted = _cells(inside, features.shape[2], features.shape[3])
            distances = distances.masked_fill(~counted.flatten(1), -torch.inf)
        return self.memory.reweighted_scores(patches, distances, rows), maps


def _cells(inside: Tensor, height: int, width: int) -> Tensor:
    """(B, height, width): the cells of the grid that have a pixel inside, of (B, H, W)."""
    rows, columns = (
        membership_matrix(cells, pixels).to(inside.device)
        for cells, pixels in zip((height, width), inside.shape[1:], strict=True)
    )
    return (rows.T @ inside.float() @ columns) > 0
