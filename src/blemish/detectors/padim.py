"""PaDiM: a Gaussian of the good images' features at each place."""

from __future__ import annotations

import logging
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from blemish.blocks.backbones import BackboneName, Layers, Weights, batches
from blemish.blocks.gaussian import Moments, factors, mahalanobis
from blemish.data.source import ImageSource
from blemish.detectors.base import FeatureDetector, Side, Smoothing
from blemish.errors import BlemishError
from blemish.progress import Progress, no_progress

logger = logging.getLogger("blemish")

Dimensions = Annotated[int, Field(ge=1, le=4096, description="features that are kept at each place")]
Reduction = Annotated[
    Literal["select", "project", "pca"],
    Field(description="how features are reduced: a random choice of them, a random projection, principal components"),
]
Shrinkage = Annotated[float, Field(gt=0, le=10, description="part of the mean variance that is added to each variance")]
Shared = Annotated[bool, Field(description="one Gaussian for all places, for textures and parts in any pose")]

SAMPLED = 100
"""Images that the principal components are learned from."""


class PaDiM(FeatureDetector):
    """Map: the Mahalanobis distance of each place from the Gaussian of the good images there; score: its maximum.

    After Defard et al. 2020 (arXiv 2011.08785). With `shared` there is one Gaussian for all places.
    """

    projection: Tensor
    mean: Tensor
    factor: Tensor
    count: Tensor

    def __init__(
        self,
        size: Side = 256,
        backbone: BackboneName = "auto",
        layers: Layers = (),
        weights: Weights = "hub",
        smoothing: Smoothing = 4.0,
        dimensions: Dimensions = 100,
        reduction: Reduction = "select",
        shrinkage: Shrinkage = 0.01,
        shared: Shared = False,
    ) -> None:
        super().__init__(size, backbone, layers, weights, smoothing)
        self.dimensions, self.reduction, self.shrinkage, self.shared = dimensions, reduction, shrinkage, shared
        self._add_learned("projection", 2)
        self._add_learned("mean", 2)
        self._add_learned("factor", 3)
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def fit(
        self,
        images: ImageSource,
        *,
        validation: ImageSource | None = None,  # noqa: ARG002 - nothing is chosen by it
        seed: int = 0,
        progress: Progress = no_progress,
    ) -> Self:
        """Reduces the features and takes their mean and covariance in one pass.

        Raises BlemishError where that would take more memory than `images.memory_budget`.
        """
        channels, height, width = self._fit_features(images, seed, progress)
        places, kept = 1 if self.shared else height * width, min(self.dimensions, channels)
        _check_memory(places, kept, images.memory_budget)
        self.projection = self._reduction(images, channels, kept, seed, progress)
        self._learn(Moments.empty(places, kept, self.device), images, progress)
        self.is_fitted = True
        return self

    @torch.no_grad()
    def update(self, images: ImageSource, *, seed: int = 0, progress: Progress = no_progress) -> Self:  # noqa: ARG002
        """Takes further good images into the Gaussians: the same, but for rounding, as if they had been there."""
        covariance = torch.linalg.inv(self.factor.double() @ self.factor.double().mT)
        variance = covariance.diagonal(dim1=1, dim2=2).mean() / (1 + self.shrinkage)
        covariance -= self.shrinkage * variance * torch.eye(covariance.shape[-1]).to(covariance)
        self._learn(Moments(self.mean, covariance, int(self.count)), images, progress)
        return self

    def distances(self, features: Tensor) -> Tensor:
        """Mahalanobis distances, (B, h, w)."""
        found = mahalanobis(self._reduced(features), self.mean, self.factor)
        return found.view(features.shape[2], features.shape[3], -1).permute(2, 0, 1)

    def _learn(self, moments: Moments, images: ImageSource, progress: Progress) -> None:
        for batch in batches(images, range(len(images)), self.device, progress):
            values = self._reduced(self.features(batch))
            moments.add(values.flatten(0, 1)[None] if self.shared else values)
        self.mean = moments.mean.float()
        self.factor = factors(moments.covariance, self.shrinkage).float()
        self.count.fill_(moments.count)

    def _reduced(self, features: Tensor) -> Tensor:
        """(h w, B, d)."""
        return features.flatten(2).permute(2, 0, 1) @ self.projection

    def _reduction(self, images: ImageSource, channels: int, kept: int, seed: int, progress: Progress) -> Tensor:
        """(C, d): the projection to what is kept."""
        generator = torch.Generator().manual_seed(seed)
        identity = torch.eye(channels)
        if kept == channels:
            found = identity
        elif self.reduction == "select":
            found = identity[:, torch.randperm(channels, generator=generator)[:kept].sort().values]
        elif self.reduction == "project":
            found = torch.linalg.qr(torch.randn(channels, kept, generator=generator))[0]
        else:
            moments = Moments.empty(1, channels, self.device)
            rows = np.sort(np.random.default_rng(seed).permutation(len(images))[:SAMPLED]).tolist()
            for batch in batches(images, rows, self.device, progress):
                moments.add(self.features(batch).flatten(2).permute(0, 2, 1).flatten(0, 1)[None])
            found = torch.linalg.eigh(moments.covariance[0])[1].flip(1)[:, :kept].float()
        return found.to(self.device)


def _check_memory(places: int, channels: int, budget: int) -> None:
    needed = Moments.bytes_needed(places, channels)
    text = f"padim: {places} Gaussians of {channels} features take {_gigabytes(needed)} while fitting"
    if needed > budget:
        raise BlemishError(
            f"{text}, memory_budget allows {_gigabytes(budget)}. "
            "Lower --dimensions or --size, use --shared, or raise --memory_budget."
        )
    logger.info("%s", text)


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2g} GB" if count >= 1e8 else f"{count / 1e6:.2g} MB"
