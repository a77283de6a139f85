"""The nearest neighbour and the Gaussian together: what either finds strange, both being equally loud."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from blemish.blocks.backbones import Backbone, BackboneName, Layers, Weights, batches
from blemish.data.source import ImageSource
from blemish.detectors.base import Detector, Side, Smoothing, scores_and_maps
from blemish.detectors.padim import PaDiM, Shared, Shrinkage
from blemish.detectors.patchcore import NumPatches, PatchCore, Position
from blemish.progress import Progress, no_progress


class _Given(Backbone):
    """Stands where a detector has its backbone, and the features come from elsewhere."""

    def forward(self, images: Tensor) -> Tensor:
        return images


class Ensemble(Detector):
    """Map: the sum of PatchCore's and PaDiM's distances, each in its standard deviations on good validation images.

    A product of experts (Hinton 2002): the Gaussian knows what belongs where, the nearest neighbour what occurs at all.
    Both work on the same features, which are computed once. Without validation images the distances are added as they
    are.
    """

    is_apart = True
    offset: Tensor
    scale: Tensor

    def __init__(
        self,
        size: Side = 256,
        backbone: BackboneName = "auto",
        layers: Layers = (),
        weights: Weights = "hub",
        smoothing: Smoothing = 4.0,
        num_patches: NumPatches = 8000,
        position: Position = None,
        shrinkage: Shrinkage = None,
        shared: Shared = None,
    ) -> None:
        super().__init__(size)
        self.backbone, self.layers, self.weights, self.smoothing = backbone, layers, weights, smoothing
        self.num_patches, self.position, self.shrinkage, self.shared = num_patches, position, shrinkage, shared
        self.patchcore = PatchCore(size, backbone, layers, weights, num_patches=num_patches, position=position)
        self.padim = PaDiM(size, backbone, layers, weights, shrinkage=shrinkage, shared=shared)
        self.padim.features = _Given()  # PatchCore's serve both
        self.register_buffer("offset", torch.zeros(2))
        self.register_buffer("scale", torch.ones(2))

    @torch.no_grad()
    def fit(
        self,
        images: ImageSource,
        *,
        validation: ImageSource | None = None,
        seed: int = 0,
        progress: Progress = no_progress,
    ) -> Self:
        """Fits both, and measures what they say of the validation images."""
        self.choices, self.reasons = {}, []
        for expert in (self.patchcore, self.padim):
            expert.fit(images, validation=validation, seed=seed, progress=progress)
            self.choices |= expert.choices
            self.reasons += expert.reasons
        self.padim.features = _Given()
        self._standardise(validation)
        self.is_fitted = True
        return self

    @torch.no_grad()
    def update(self, images: ImageSource, *, seed: int = 0, progress: Progress = no_progress) -> Self:
        """Takes further good images into both."""
        self.padim.features = self.patchcore.features
        for expert in (self.patchcore, self.padim):
            expert.update(images, seed=seed, progress=progress)
        self.padim.features = _Given()
        return self

    def score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The standardised distances, added, at the images' size; and the maximum."""
        both = (self._distances(images) - self.offset) / self.scale
        return scores_and_maps(both.sum(-1), images, self.smoothing)

    def _distances(self, images: Tensor) -> Tensor:
        """(B, h, w, 2): PatchCore's and PaDiM's."""
        features = self.patchcore.features(images)
        return torch.stack([self.patchcore.distances(features), self.padim.distances(features)], -1)

    def _standardise(self, validation: ImageSource | None) -> None:
        self.offset.zero_()
        self.scale.fill_(1)
        if validation:
            found = [self._distances(batch) for batch in batches(validation, range(len(validation)), self.device)]
            distances = torch.cat(found).flatten(0, 2)
            self.offset.copy_(distances.mean(0))
            self.scale.copy_(distances.std(0).clamp_min(1e-6))
