"""PatchCore: a place that looks like none of the good images' places is anomalous."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from blemish.detectors.base import FeatureDetector, Smoothing, scores_and_maps
from blemish.detectors.parts.memory_bank import BankOptions, MemoryBank
from blemish.features.base import FeatureOptions
from blemish.features.computed import ComputedFeatures
from blemish.progress import Progress

Reweighting = Annotated[
    bool | None,
    Field(description="the score counts less where the bank is dense; by default on networks, as in the paper"),
]


class PatchCore(FeatureDetector):
    """Map: distance of each patch to the nearest patch kept from the good images; score: its maximum.

    With `reweighting` the score is the largest distance before smoothing, weighed as in the paper.

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

    def score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The distances, brought to the images' size and smoothed, and their maximum, or that weighed."""
        features = self.features(images)
        described, distances, rows = self.memory.compared(features)
        scores, maps = scores_and_maps(distances.view(-1, *features.shape[2:]), images, self.smoothing)
        is_weighed = self.features.reweighting if self.reweighting is None else self.reweighting
        return (self.memory.reweighted(described, distances, rows) if is_weighed else scores), maps
