"""The ensemble: memory banks of each kind of features and Gaussians of all, their distances averaged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from blemish.detectors.base import FeatureDetector, Smoothing, TopShare
from blemish.detectors.parts.gaussians import GaussianOptions, Gaussians
from blemish.detectors.parts.memory_bank import BankOptions, MemoryBank
from blemish.detectors.parts.score_normalisation import normalised, offset_and_scale
from blemish.features.base import FeatureOptions
from blemish.features.computed import ComputedFeatures
from blemish.progress import Progress

GAUSSIAN_WEIGHT = 0.4
"""Weight of the Gaussians' distances; the memory banks share the rest as their kinds have components."""


class Ensemble(FeatureDetector):
    """Map: the mean of several normalised distances; score: the mean of its highest cells.

    The distances are those to the nearest patch in a memory bank of each kind of features, as in PatchCore, and the
    Mahalanobis distance of all features from the Gaussian at each position, as in PaDiM. A bank knows which patches
    occur at all, and each kind has a bank of its own, since kinds see different defects; Gaussians know which features
    belong to each position, and how the kinds vary together.
    Each kind of distance is normalised by its offset and scale on held-out good images; without validation images it
    is not. All use the same feature maps, which are computed once.
    """

    offset: Tensor
    scale: Tensor
    weight: Tensor

    def __init__(
        self,
        feature_options: FeatureOptions = FeatureOptions(),
        bank_options: BankOptions = BankOptions(),
        gaussian_options: GaussianOptions = GaussianOptions(),
        smoothing: Smoothing = 2.0,
        top_share: TopShare = 0.01,
    ) -> None:
        super().__init__(feature_options, smoothing)
        self.bank_options, self.gaussian_options, self.top_share = bank_options, gaussian_options, top_share
        kinds = self.features.kinds
        self.memories = nn.ModuleList(MemoryBank(bank_options, kind) for kind in kinds)
        self.gaussians = Gaussians(gaussian_options)
        self.register_buffer("offset", torch.zeros(len(kinds) + 1))
        self.register_buffer("scale", torch.ones(len(kinds) + 1))
        self.register_buffer("weight", torch.zeros(len(kinds) + 1))

    @property
    def banks(self) -> list[MemoryBank]:
        """The memory bank of each kind of features."""
        return [memory for memory in self.memories if isinstance(memory, MemoryBank)]

    def learn(
        self, features: ComputedFeatures, validation: ComputedFeatures | None, seed: int, progress: Progress
    ) -> None:
        """Fits all, and measures the offsets and scales of their distances on the validation images."""
        kinds = [features.of_kind(number) for number in range(len(self.banks))]
        for bank, kind in zip(self.banks, kinds, strict=True):
            bank.learn(kind, seed, progress)
        self.gaussians.learn(features, validation, seed, progress)
        self._take_choices(self.gaussians)
        self._measure_scale(validation)
        self._set_weights([kind.shape[0] for kind in kinds])

    def learn_more(self, features: ComputedFeatures, progress: Progress) -> None:
        """Updates all with additional good images; offsets and scales stay as they are."""
        for number, bank in enumerate(self.banks):
            bank.learn_more(features.of_kind(number), progress)
        self.gaussians.learn_more(features, progress)

    def distances(self, features: Tensor) -> Tensor:
        """The weighted mean (B, h, w) of the normalised distances; 1 is the mean maximum of good images."""
        found = normalised(self._distances(features), self.offset, self.scale)
        return (found * self.weight[:, None, None, None]).sum(0)

    def _distances(self, features: Tensor) -> Tensor:
        """(E, B, h, w): the distances to the nearest patch of each bank, and the Mahalanobis distances."""
        kinds = zip(self.banks, self.features.split(features), strict=True)
        nearest = [bank.distances(channels) for bank, channels in kinds]
        return torch.stack([*nearest, self.gaussians.distances(features)])

    def _set_weights(self, widths: Sequence[int]) -> None:
        """Sets the weights of the distances, for kinds of so many components."""
        shares = torch.tensor(widths) / sum(widths)
        self.weight[:-1] = (1 - GAUSSIAN_WEIGHT) * shares
        self.weight[-1] = GAUSSIAN_WEIGHT

    def _measure_scale(self, validation: ComputedFeatures | None) -> None:
        self.offset.zero_()
        self.scale.fill_(1)
        if validation:
            found = torch.cat([self._distances(batch) for batch in validation.batches()], 1)
            for buffer, values in zip((self.offset, self.scale), offset_and_scale(found), strict=True):
                buffer.copy_(values)
