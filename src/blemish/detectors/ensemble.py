"""The ensemble of PatchCore and PaDiM: a weighted mean of their normalised distances."""

from __future__ import annotations

import torch
from torch import Tensor

from blemish.detectors.base import FeatureDetector, Smoothing
from blemish.detectors.parts.gaussians import GaussianOptions, Gaussians
from blemish.detectors.parts.memory_bank import BankOptions, MemoryBank
from blemish.detectors.parts.score_normalisation import normalised, offset_and_scale
from blemish.features.base import FeatureOptions
from blemish.features.computed import ComputedFeatures
from blemish.progress import Progress


class Ensemble(FeatureDetector):
    """Map: a weighted mean of PatchCore's and PaDiM's distances; score: its maximum.

    Each kind of distance is normalised by its offset and scale on held-out good images; without validation images it
    is not. PaDiM knows which features belong to each position, PatchCore which features occur at all. With a Gaussian
    per position, PaDiM's weight relative to PatchCore's is the number of training images per feature, since with few
    images its covariance is mostly shrinkage; with one Gaussian for all positions both weights are equal. Both use the
    same feature maps, which are computed once.
    """

    offset: Tensor
    scale: Tensor
    weight: Tensor

    def __init__(
        self,
        feature_options: FeatureOptions = FeatureOptions(),
        bank_options: BankOptions = BankOptions(),
        gaussian_options: GaussianOptions = GaussianOptions(),
        smoothing: Smoothing = 4.0,
    ) -> None:
        super().__init__(feature_options, smoothing)
        self.bank_options, self.gaussian_options = bank_options, gaussian_options
        self.memory = MemoryBank(bank_options, self.features)
        self.gaussians = Gaussians(gaussian_options, self.features)
        self.register_buffer("offset", torch.zeros(2))
        self.register_buffer("scale", torch.ones(2))
        self.register_buffer("weight", torch.full((2,), 0.5))

    def learn(
        self, features: ComputedFeatures, validation: ComputedFeatures | None, seed: int, progress: Progress
    ) -> None:
        """Fits both, and measures the offsets and scales of their distances on the validation images."""
        self.memory.learn(features, seed, progress)
        self.gaussians.learn(features, validation, seed, progress)
        self._take_choices(self.gaussians)
        self._measure_scale(validation)
        self._set_weights()

    def learn_more(self, features: ComputedFeatures, progress: Progress) -> None:
        """Updates both with additional good images; offsets and scales stay as they are."""
        self.memory.learn_more(features, progress)
        self.gaussians.learn_more(features, progress)
        self._set_weights()

    def distances(self, features: Tensor) -> Tensor:
        """The weighted mean (B, h, w) of both normalised distances; 1 is the mean maximum of good images."""
        both = normalised(self._distances(features), self.offset, self.scale)
        return (both * self.weight[:, None, None, None]).sum(0)

    def _distances(self, features: Tensor) -> Tensor:
        """(2, B, h, w): the distances to the nearest patch, and the Mahalanobis distances."""
        return torch.stack([self.memory.distances(features), self.gaussians.distances(features)])

    def _measure_scale(self, validation: ComputedFeatures | None) -> None:
        self.offset.zero_()
        self.scale.fill_(1)
        if validation:
            found = torch.cat([self._distances(batch) for batch in validation.batches()], 1)
            for buffer, values in zip((self.offset, self.scale), offset_and_scale(found), strict=True):
                buffer.copy_(values)

    def _set_weights(self) -> None:
        per_feature = float(self.gaussians.count) / self.gaussians.mean.shape[-1]
        gaussian = 1.0 if self.gaussians.chosen("shared") else per_feature
        self.weight.copy_(torch.tensor([1.0, gaussian]) / (1 + gaussian))
