"""PaDiM: a Gaussian of the good images' features at each place."""

from __future__ import annotations

import logging
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from blemish.blocks.backbones import BackboneName, Layers, Weights, batches
from blemish.blocks.gaussian import Moments, factors, log_likelihood, mahalanobis
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
Shrinkage = Annotated[
    float | None,
    Field(gt=0, le=10, description="part of the mean variance that is added to each variance; by default chosen"),
]
Shared = Annotated[
    bool | None,
    Field(description="one Gaussian for all places, for textures and parts in any pose; by default chosen"),
]

SHRINKAGES = (0.01, 0.03, 0.1, 0.3)
"""Those that are tried where none is given; without validation images it is the first."""
SAMPLED = 100
"""Good images at most that the principal components are learned from, and that choices are made by."""


class PaDiM(FeatureDetector):
    """Map: the Mahalanobis distance of each place from the Gaussian of the good images there; score: its maximum.

    After Defard et al. 2020 (arXiv 2011.08785). With `shared` there is one Gaussian for all places. Whether to share,
    and how much to shrink the covariance, is chosen by which Gaussians make held-out good images likeliest.
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
        shrinkage: Shrinkage = None,
        shared: Shared = None,
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
        validation: ImageSource | None = None,
        seed: int = 0,
        progress: Progress = no_progress,
    ) -> Self:
        """Reduces the features and takes their mean and covariance in one pass.

        Raises BlemishError where that would take more memory than `images.memory_budget`.
        """
        self.choices, self.reasons = {}, []
        channels, height, width = self._fit_features(images, seed, progress)
        kept, shared = min(self.dimensions, channels), [True, False] if self.shared is None else [self.shared]
        places = {way: 1 if way else height * width for way in shared}
        _check_memory(sum(places.values()), kept, images.memory_budget)
        self.projection = self._reduction(images, channels, kept, seed, progress)
        moments = {way: Moments.empty(number, kept, self.device) for way, number in places.items()}
        self._add(moments, images, progress)
        self._decide(moments, validation)
        self._take(moments[self.chosen("shared")])
        self.is_fitted = True
        return self

    @torch.no_grad()
    def update(self, images: ImageSource, *, seed: int = 0, progress: Progress = no_progress) -> Self:  # noqa: ARG002
        """Takes further good images into the Gaussians: the same, but for rounding, as if they had been there."""
        covariance = torch.linalg.inv(self.factor.double() @ self.factor.double().mT)
        variance = covariance.diagonal(dim1=1, dim2=2).mean() / (1 + self.chosen("shrinkage"))
        covariance -= self.chosen("shrinkage") * variance * torch.eye(covariance.shape[-1]).to(covariance)
        moments = Moments(self.mean, covariance, int(self.count))
        self._add({self.chosen("shared"): moments}, images, progress)
        self._take(moments)
        return self

    def distances(self, features: Tensor) -> Tensor:
        """Mahalanobis distances, (B, h, w)."""
        found = mahalanobis(self._reduced(features), self.mean, self.factor)
        return found.view(features.shape[2], features.shape[3], -1).permute(2, 0, 1)

    def _add(self, moments: dict[bool, Moments], images: ImageSource, progress: Progress) -> None:
        """Takes the images into the moments, shared or not."""
        for batch in batches(images, range(len(images)), self.device, progress):
            values = self._reduced(self.features(batch))
            for shared, found in moments.items():
                found.add(values.flatten(0, 1)[None] if shared else values)

    def _decide(self, moments: dict[bool, Moments], validation: ImageSource | None) -> None:
        """Chooses what was left open: the Gaussians under which the good validation images are likeliest."""
        shrinkages = SHRINKAGES if self.shrinkage is None else (self.shrinkage,)
        ways = [(shared, shrinkage) for shared in moments for shrinkage in shrinkages]
        if len(ways) == 1:
            return
        if not validation:
            shared = next(iter(moments)) if len(moments) == 1 else moments[False].count == 1
            chosen, reason = (shared, shrinkages[0]), "there are no validation images to choose by"
        else:
            found = self._likelihoods(moments, ways, validation)
            chosen = max(ways, key=lambda way: found[way])
            reason = _reason(found, chosen, min(len(validation), SAMPLED))
        options = {"shared": chosen[0], "shrinkage": chosen[1]}
        gaussians = "one Gaussian for all places" if chosen[0] else "a Gaussian per place"
        open_ones = {name: value for name, value in options.items() if getattr(self, name) is None}
        self._choose(open_ones, f"padim: {gaussians}, shrinkage {chosen[1]}, since {reason}")

    def _likelihoods(
        self, moments: dict[bool, Moments], ways: list[tuple[bool, float]], validation: ImageSource
    ) -> dict[tuple[bool, float], float]:
        """The mean log-likelihood of the validation images' features under each way's Gaussians."""
        rows = range(min(len(validation), SAMPLED))
        every = [self._reduced(self.features(batch)) for batch in batches(validation, rows, self.device)]
        values, found = torch.cat(every, 1), {}
        for shared, shrinkage in ways:
            gaussians = moments[shared].mean, factors(moments[shared].covariance, shrinkage)
            found[shared, shrinkage] = log_likelihood(values, *(part.float() for part in gaussians))
        return found

    def _take(self, moments: Moments) -> None:
        self.mean = moments.mean.float()
        self.factor = factors(moments.covariance, self.chosen("shrinkage")).float()
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
    text = f"padim: Gaussians at {places} places of {channels} features take {_gigabytes(needed)} while fitting"
    if needed > budget:
        raise BlemishError(
            f"{text}, memory_budget allows {_gigabytes(budget)}. "
            "Lower --dimensions or --size, use --shared, or raise --memory_budget."
        )
    logger.info("%s", text)


def _reason(found: dict[tuple[bool, float], float], chosen: tuple[bool, float], number: int) -> str:
    reason = f"{number} held-out good images are likeliest so (log-likelihood per place {found[chosen]:.1f}"
    others = [likelihood for (shared, _), likelihood in found.items() if shared != chosen[0]]
    other = "per place" if chosen[0] else "shared"
    return f"{reason}; {other} {max(others):.1f} at best)" if others else f"{reason})"


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2g} GB" if count >= 1e8 else f"{count / 1e6:.2g} MB"
