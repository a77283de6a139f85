"""Gaussians of the good images' features, one per position or one for all positions, at one or several scales."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from blemish.detectors.parts.fitted import Fitted
from blemish.detectors.parts.moments import Moments, whitened, whitening_factors
from blemish.detectors.parts.score_normalisation import normalised, offset_and_scale
from blemish.errors import BlemishError
from blemish.features.base import BATCH
from blemish.features.computed import ComputedFeatures
from blemish.features.filters import gaussian_blur
from blemish.progress import Progress

logger = logging.getLogger("blemish")

Dimensions = Annotated[int, Field(ge=1, le=4096, description="features that are kept")]
Reduction = Annotated[
    Literal["select", "project", "pca"],
    Field(description="how features are reduced: random selection, random projection, PCA"),
]
Shrinkage = Annotated[
    float,
    Field(gt=0, le=10, description="regularisation: share of the mean variance that is added to each variance"),
]
Shared = Annotated[
    bool | None,
    Field(description="one Gaussian for all positions; default: only where memory lacks for one at each"),
]
Scales = Annotated[
    tuple[Annotated[float, Field(ge=0, le=64)], ...],
    Field(min_length=1, description="sigmas of smoothing in cells"),
]

SAMPLED = 100
"""Largest number of images for learning principal components."""


@dataclass(frozen=True, slots=True)
class GaussianOptions:
    """The options of Gaussians: reduction of the features, shrinkage of the covariance, sharing, and scales."""

    dimensions: Dimensions = 100
    reduction: Reduction = "select"
    shrinkage: Shrinkage = 0.4
    shared: Shared = None
    scales: Scales = (0.0,)


class Gaussians(Fitted):
    """Gaussians of good images' features, and Mahalanobis distances from them.

    With `shared` there is one Gaussian for all positions. The shrinkage is large: where nothing varies, as in a dark
    background, small deviations would otherwise count for more than defects do.

    At each of several `scales`, the features are smoothed by a Gaussian kernel and have Gaussians of their own. The
    distance is then the mean of the distances at all scales, normalised on the validation images. So large faint
    defects get higher scores, and single noisy cells lower ones.
    """

    projection: Tensor
    mean: Tensor
    factor: Tensor
    count: Tensor
    offset: Tensor
    scale: Tensor

    def __init__(self, options: GaussianOptions) -> None:
        super().__init__()
        self.options = options
        self._add_learned("projection", 2)
        self._add_learned("mean", 2)
        self._add_learned("factor", 3)
        self._add_learned("offset", 1)
        self._add_learned("scale", 1)
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def chosen(self, name: str) -> Any:
        """The value of an option, or the value that `learn` chose for it where it was left open."""
        return self.choices.get(name, getattr(self.options, name))

    def learn(
        self, features: ComputedFeatures, validation: ComputedFeatures | None, seed: int, progress: Progress
    ) -> None:
        """Reduces the features, and estimates their mean and covariance.

        Raises BlemishError where that would take more memory than `features.memory_budget`.
        """
        self.choices, self.reasons = {}, []
        self.projection = self._reduction(features, seed, progress)
        self._choose_shared(features)
        moments = Moments.empty(self._num_positions(features), self.projection.shape[1], self.count.device)
        self._add(moments, features, progress)
        self._set_gaussians(moments.of_all(features.processes))
        self._measure_scales(validation)

    def learn_more(self, features: ComputedFeatures, progress: Progress) -> None:
        """Updates the Gaussians with additional good images: except for rounding, as if they had been fitted to all."""
        covariance = torch.cat([_unshrunk(part, self.options.shrinkage) for part in self._by_scale(self.factor)])
        moments = Moments(self.mean, covariance, int(self.count))
        self._add(moments, features, progress)
        self._set_gaussians(moments)

    def distances(self, features: Tensor) -> Tensor:
        """Mahalanobis distances (B, h, w) of features (B, C, h, w).

        With several scales they are the mean of normalised distances: 1 is the mean maximum of good images.
        """
        return normalised(self._distances(features), self.offset, self.scale).mean(0)

    def whitened(self, features: Tensor) -> Tensor:
        """(S, B, h, w, d): the whitened deviations at each scale, whose norms are the Mahalanobis distances."""
        shape = self._num_scales, *features.shape[2:], features.shape[0], -1
        found = whitened(_grouped(self.reduced(features), self.chosen("shared")), self.mean, self.factor)
        return found.view(shape).permute(0, 3, 1, 2, 4)

    def _distances(self, features: Tensor) -> Tensor:
        """(S, B, h, w): the Mahalanobis distances at each scale."""
        return self.whitened(features).square().sum(-1).sqrt()

    @property
    def _num_scales(self) -> int:
        return len(self.options.scales)

    def _by_scale(self, values: Tensor) -> tuple[Tensor, ...]:
        """The values of each scale, of values (S P, ...) for P positions at S scales."""
        return values.chunk(self._num_scales)

    def _add(self, moments: Moments, features: ComputedFeatures, progress: Progress) -> None:
        """Adds the images' features to the moments."""
        for batch in features.batches(progress):
            moments.add(_grouped(self.reduced(batch), self.chosen("shared")))

    def _choose_shared(self, features: ComputedFeatures) -> None:
        """Where it is left open: a Gaussian for each position, if there is memory for them and more than one image.

        Raises BlemishError where what was asked for does not fit.
        """
        kept, budget = self.projection.shape[1], features.memory_budget
        if self.options.shared is None:
            self.choices["shared"] = False
            needed = Moments.bytes_needed(self._num_positions(features), kept)
            if len(features) == 1:
                self._choose({"shared": True}, "padim: one Gaussian for all positions, since there is one image")
            elif needed > budget:
                reason = f"one Gaussian for all positions, since one for each would take {_gigabytes(needed)}"
                self._choose({"shared": True}, f"padim: {reason}")
        _check_memory(self._num_positions(features), kept, budget)

    def _num_positions(self, features: ComputedFeatures) -> int:
        """Number of Gaussians, at all scales."""
        _, height, width = features.shape
        return self._num_scales * (1 if self.chosen("shared") else height * width)

    def _measure_scales(self, validation: ComputedFeatures | None) -> None:
        """Sets the normalisation of each scale's distances by the validation images; a single one is unchanged."""
        self.offset, self.scale = self.mean.new_zeros(self._num_scales), self.mean.new_ones(self._num_scales)
        if self._num_scales > 1 and validation:
            found = torch.cat([self._distances(batch) for batch in validation.batches()], 1)
            self.offset, self.scale = offset_and_scale(found)

    def _set_gaussians(self, moments: Moments) -> None:
        """Sets mean and factors; each scale has a mean variance of its own."""
        covariances = self._by_scale(moments.covariance)
        self.mean = moments.mean.float()
        self.factor = torch.cat([whitening_factors(part, self.options.shrinkage) for part in covariances]).float()
        self.count.fill_(moments.count)

    def reduced(self, features: Tensor) -> Tensor:
        """(S, h w, B, d): the reduced features at each scale, of features (B, C, h, w)."""
        kept = self._kept(features)
        wide = torch.stack([gaussian_blur(kept, float(width)) for width in self.options.scales])
        return wide.flatten(3).permute(0, 3, 1, 2).contiguous()

    def _kept(self, features: Tensor) -> Tensor:
        """(B, d, h, w): the selected features (each column of the projection has a single 1), or the projected ones."""
        if self.options.reduction == "select" or self.projection.shape[0] == self.projection.shape[1]:
            return features[:, self.projection.argmax(0)]
        projected = self.projection.T @ features.flatten(2)
        return projected.view(len(features), -1, *features.shape[2:])

    def _reduction(self, features: ComputedFeatures, seed: int, progress: Progress) -> Tensor:
        """(C, d): the matrix that reduces C features to d."""
        channels, _, _ = features.shape
        kept = min(self.options.dimensions, channels)
        generator = torch.Generator().manual_seed(seed)
        identity, principal = torch.eye(channels), features.principal
        selects = self.options.reduction == "select"
        if selects and principal is not None and len(principal) <= self.options.dimensions:
            found = identity[:, principal]
        elif kept == channels:
            found = identity
        elif selects:
            found = identity[:, torch.randperm(channels, generator=generator)[:kept].sort().values]
        elif self.options.reduction == "project":
            found = torch.linalg.qr(torch.randn(channels, kept, generator=generator))[0]
        else:
            moments = Moments.empty(1, channels, self.count.device)
            number = -(-len(features.rows) // BATCH)
            wanted = -(-SAMPLED // (BATCH * features.processes.count))
            drawn = set(np.random.default_rng(seed).permutation(number)[:wanted].tolist())
            for index, batch in enumerate(features.batches(progress)):
                if index in drawn:
                    moments.add(batch.flatten(2).permute(0, 2, 1).flatten(0, 1)[None])
            moments = moments.of_all(features.processes)
            found = torch.linalg.eigh(moments.covariance[0])[1].flip(1)[:, :kept].float()
        return found.to(self.count.device)


def _grouped(values: Tensor, shared: bool) -> Tensor:
    """(P, N, d): the vectors that belong to each Gaussian, of values (S, h w, B, d)."""
    return values.flatten(1, 2) if shared else values.flatten(0, 1)


def _unshrunk(factor: Tensor, shrinkage: float) -> Tensor:
    """The covariances (P, d, d) from which `whitening_factors` computed these factors."""
    covariance: Tensor = torch.linalg.inv(factor.double() @ factor.double().mT)
    variance = covariance.diagonal(dim1=1, dim2=2).mean() / (1 + shrinkage)
    return covariance - shrinkage * variance * torch.eye(covariance.shape[-1]).to(covariance)


def _check_memory(positions: int, channels: int, budget: int) -> None:
    needed = Moments.bytes_needed(positions, channels)
    text = f"padim: Gaussians at {positions} positions of {channels} features take {_gigabytes(needed)} while fitting"
    if needed > budget:
        raise BlemishError(
            f"{text}, memory_budget allows {_gigabytes(budget)}. "
            "Lower dimensions or size, use shared, or raise memory_budget."
        )
    logger.debug("%s", text)


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2g} GB" if count >= 1e8 else f"{count / 1e6:.2g} MB"
