"""The nearest neighbour and the Gaussian together: what either finds strange, both being equally loud."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from blemish.data.source import ImageSource
from blemish.detectors.base import Detector, Side, Smoothing, scores_and_maps
from blemish.detectors.padim import PaDiM, Scales, Shared, Shrinkage
from blemish.detectors.parts.loudness import loudness, standardised
from blemish.detectors.patchcore import NumPatches, PatchCore, Position
from blemish.features.base import Backbone, BackboneName, ComputedIn, Layers, Weights, batches
from blemish.progress import Progress, no_progress


class _Given(Backbone):
    """Stands where a detector has its backbone, and the features come from elsewhere."""

    def forward(self, images: Tensor) -> Tensor:
        return images


class Ensemble(Detector):
    """Map: a weighted mean of PatchCore's and PaDiM's distances, each as loud on good validation images as the other.

    The Gaussian knows what belongs where, the nearest neighbour what occurs at all. A Gaussian per place counts as many
    times as it has images for each feature, since with few of them its covariance is mostly shrinkage; one for all
    places counts as much as the neighbour. Both work on the same features, which are computed once. Without validation
    images the distances are taken as they are.
    """

    offset: Tensor
    scale: Tensor
    weight: Tensor

    def __init__(
        self,
        size: Side = 256,
        backbone: BackboneName = "auto",
        layers: Layers = (),
        weights: Weights = "hub",
        precision: ComputedIn = "auto",
        smoothing: Smoothing = 4.0,
        num_patches: NumPatches = 8000,
        position: Position = None,
        shrinkage: Shrinkage = None,
        shared: Shared = None,
        scales: Scales = (),
    ) -> None:
        super().__init__(size)
        self.backbone, self.layers, self.weights, self.precision = backbone, layers, weights, precision
        self.smoothing = smoothing
        self.num_patches, self.position, self.shrinkage, self.shared = num_patches, position, shrinkage, shared
        self.scales = scales
        common = size, backbone, layers, weights, precision
        self.patchcore = PatchCore(*common, num_patches=num_patches, position=position)
        self.padim = PaDiM(*common, shrinkage=shrinkage, shared=shared, scales=scales)
        self.padim.features = _Given()  # PatchCore's serve both
        self.register_buffer("offset", torch.zeros(2))
        self.register_buffer("scale", torch.ones(2))
        self.register_buffer("weight", torch.full((2,), 0.5))

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
            self.reasons += [reason for reason in expert.reasons if reason not in self.reasons]
        self.padim.features = _Given()
        self._standardise(validation)
        self._weigh()
        self.is_fitted = True
        return self

    @torch.no_grad()
    def update(self, images: ImageSource, *, seed: int = 0, progress: Progress = no_progress) -> Self:
        """Takes further good images into both."""
        self.padim.features = self.patchcore.features
        for expert in (self.patchcore, self.padim):
            expert.update(images, seed=seed, progress=progress)
        self.padim.features = _Given()
        self._weigh()
        return self

    @property
    def features(self) -> Backbone:
        """What both work on."""
        return self.patchcore.features

    def score(self, images: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The distances at the images' size, smoothed, and their maximum."""
        return scores_and_maps(self.distances(self.features(images)), images, self.smoothing, inside)

    def distances(self, features: Tensor) -> Tensor:
        """The weighted mean of both distances, (B, h, w); 1 is the usual maximum of good images."""
        both = standardised(self._distances(features), self.offset, self.scale)
        return (both * self.weight[:, None, None, None]).sum(0)

    def _distances(self, features: Tensor) -> Tensor:
        """(2, B, h, w): PatchCore's and PaDiM's."""
        return torch.stack([self.patchcore.distances(features), self.padim.distances(features)])

    def _standardise(self, validation: ImageSource | None) -> None:
        self.offset.zero_()
        self.scale.fill_(1)
        if validation:
            rows = range(len(validation))
            found = [self._distances(self.features(batch)) for batch in batches(validation, rows, self.device)]
            for buffer, values in zip((self.offset, self.scale), loudness(torch.cat(found, 1)), strict=True):
                buffer.copy_(values)

    def _weigh(self) -> None:
        per_feature = float(self.padim.count) / self.padim.mean.shape[-1]
        gaussian = 1.0 if self.padim.chosen("shared") else per_feature
        self.weight.copy_(torch.tensor([1.0, gaussian]) / (1 + gaussian))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        if prefix + "offset" in state_dict:  # before there were weights, both were added
            state_dict.setdefault(prefix + "weight", torch.ones(2))
        super()._load_from_state_dict(state_dict, prefix, *rest)
