"""Gaussians of the good images' features, one per position or one for all positions, at one or several scales."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from blemish.detectors.parts.fitted import Fitted
from blemish.detectors.parts.moments import Moments, log_likelihood, whitened, whitening_factors
from blemish.detectors.parts.score_normalisation import normalised, offset_and_scale
from blemish.errors import BlemishError, number_of
from blemish.features.base import BATCH, Backbone
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
    float | None,
    Field(gt=0, le=10, description="regularisation; default: chosen"),
]
Shared = Annotated[
    bool | None,
    Field(description="one Gaussian for all positions; default: chosen"),
]
Scales = Annotated[
    tuple[Annotated[float, Field(ge=0, le=64)], ...],
    Field(description="sigmas of smoothing in cells; default: chosen"),
]

SHRINKAGES = (0.01, 0.03, 0.1, 0.3)
"""Values of the shrinkage to choose from; without validation images the first one is used."""
SAMPLED = 100
"""Largest number of images for learning principal components, and of validation images for choosing options."""


@dataclass(frozen=True, slots=True)
class GaussianOptions:
    """The options of Gaussians: reduction of the features, shrinkage of the covariance, sharing, and scales."""

    dimensions: Dimensions = 100
    reduction: Reduction = "select"
    shrinkage: Shrinkage = None
    shared: Shared = None
    scales: Scales = ()


class Gaussians(Fitted):
    """Gaussians of good images' features, and Mahalanobis distances from them.

    With `shared` there is one Gaussian for all positions. Sharing and shrinkage, where left open, are chosen by the
    likelihood of held-out good images.

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

    def __init__(self, options: GaussianOptions, backbone: Backbone) -> None:
        super().__init__()
        self.options, self.default_scales = options, backbone.scales
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
        """Reduces the features, estimates their mean and covariance, and chooses the options that were left open.

        Raises BlemishError where that would take more memory than `features.memory_budget`.
        """
        self.choices, self.reasons = {}, []
        channels, height, width = features.shape
        kept = min(self.options.dimensions, channels)
        self._choose_scales(len(features), kept, validation)
        candidates = [True, False] if self.options.shared is None else [self.options.shared]
        positions = {shared: self._num_scales * (1 if shared else height * width) for shared in candidates}
        _check_memory(sum(positions.values()), kept, features.memory_budget)
        self.projection = self._reduction(features, kept, seed, progress)
        moments = {shared: Moments.empty(number, kept, self.count.device) for shared, number in positions.items()}
        self._add(moments, features, progress)
        self._choose_shared_and_shrinkage(moments, validation)
        self._set_gaussians(moments[self.chosen("shared")])
        self._measure_scales(validation)
        self._explain_scales(len(features), kept)

    def learn_more(self, features: ComputedFeatures, progress: Progress) -> None:
        """Updates the Gaussians with additional good images: except for rounding, as if they had been fitted to all."""
        covariance = torch.cat([_unshrunk(part, self.chosen("shrinkage")) for part in self._by_scale(self.factor)])
        moments = Moments(self.mean, covariance, int(self.count))
        self._add({self.chosen("shared"): moments}, features, progress)
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
        return len(self.chosen("scales"))

    def _by_scale(self, values: Tensor) -> tuple[Tensor, ...]:
        """The values of each scale, of values (S P, ...) for P positions at S scales."""
        return values.chunk(self._num_scales)

    def _add(self, moments: dict[bool, Moments], features: ComputedFeatures, progress: Progress) -> None:
        """Adds the images' features to the moments, a dict of shared or not -> moments."""
        for batch in features.batches(progress):
            values = self.reduced(batch)
            for shared, found in moments.items():
                found.add(_grouped(values, shared))

    def _choose_scales(self, num_images: int, kept: int, validation: ComputedFeatures | None) -> None:
        """Uses several scales where there are more images than features, and validation images to normalise by."""
        if not self.options.scales:
            enough = self.options.shared is not True and num_images > kept and validation
            self.choices["scales"] = self.default_scales if enough else (0.0,)

    def _explain_scales(self, num_images: int, kept: int) -> None:
        if self._num_scales > 1 and not self.options.scales:
            wide = " and ".join(f"{width:g}" for width in self.chosen("scales")[1:])
            reason = f"padim: also averaged over {wide} cells, since {num_images} images are more than {kept} features"
            self._choose({}, reason)

    def _measure_scales(self, validation: ComputedFeatures | None) -> None:
        """Sets the normalisation of each scale's distances by the validation images; a single one is unchanged."""
        self.offset, self.scale = self.mean.new_zeros(self._num_scales), self.mean.new_ones(self._num_scales)
        if self._num_scales > 1 and validation:
            found = torch.cat([self._distances(batch) for batch in validation.batches()], 1)
            self.offset, self.scale = offset_and_scale(found)

    def _choose_shared_and_shrinkage(self, moments: dict[bool, Moments], validation: ComputedFeatures | None) -> None:
        """Chooses the open ones of `shared` and `shrinkage` by the likelihood of the validation images."""
        shrinkages = SHRINKAGES if self.options.shrinkage is None else (self.options.shrinkage,)
        candidates = [(shared, shrinkage) for shared in moments for shrinkage in shrinkages]
        if len(candidates) == 1:
            return
        if not validation:
            shared = next(iter(moments)) if len(moments) == 1 else moments[False].count == 1
            chosen, reason = (shared, shrinkages[0]), "there are no validation images to choose by"
        else:
            found = self._likelihoods(moments, candidates, validation)
            chosen = max(candidates, key=lambda candidate: found[candidate])
            reason = _reason(found, chosen, min(len(validation), SAMPLED))
        options = {"shared": chosen[0], "shrinkage": chosen[1]}
        gaussians = "one Gaussian for all positions" if chosen[0] else "a Gaussian per position"
        open_ones = {name: value for name, value in options.items() if getattr(self.options, name) is None}
        self._choose(open_ones, f"padim: {gaussians}, shrinkage {chosen[1]}, since {reason}")

    def _likelihoods(
        self, moments: dict[bool, Moments], candidates: list[tuple[bool, float]], validation: ComputedFeatures
    ) -> dict[tuple[bool, float], float]:
        """Candidate (shared, shrinkage) -> mean log-likelihood of the validation images' features at scale 0."""
        batches = islice(validation.batches(), -(-SAMPLED // BATCH))
        values, found = torch.cat([self.reduced(batch)[0] for batch in batches], 1)[:, :SAMPLED], {}
        for shared, shrinkage in candidates:
            mean, covariance = (self._by_scale(part)[0] for part in (moments[shared].mean, moments[shared].covariance))
            gaussians = mean, whitening_factors(covariance, shrinkage)
            found[shared, shrinkage] = log_likelihood(values, *(part.float() for part in gaussians))
        return found

    def _set_gaussians(self, moments: Moments) -> None:
        """Sets mean and factors; of a shared Gaussian only those of the first scale, unless scales were given."""
        means, covariances = self._by_scale(moments.mean), self._by_scale(moments.covariance)
        if self.chosen("shared") and not self.options.scales:
            means, covariances, self.choices["scales"] = means[:1], covariances[:1], self.chosen("scales")[:1]
        self.mean = torch.cat(means).float()
        self.factor = torch.cat([whitening_factors(part, self.chosen("shrinkage")) for part in covariances]).float()
        self.count.fill_(moments.count)

    def reduced(self, features: Tensor) -> Tensor:
        """(S, h w, B, d): the reduced features at each scale, of features (B, C, h, w)."""
        kept = self._kept(features)
        wide = torch.stack([gaussian_blur(kept, float(width)) for width in self.chosen("scales")])
        return wide.flatten(3).permute(0, 3, 1, 2).contiguous()

    def _kept(self, features: Tensor) -> Tensor:
        """(B, d, h, w): the selected features (each column of the projection has a single 1), or the projected ones."""
        if self.options.reduction == "select" or self.projection.shape[0] == self.projection.shape[1]:
            return features[:, self.projection.argmax(0)]
        projected = self.projection.T @ features.flatten(2)
        return projected.view(len(features), -1, *features.shape[2:])

    def _reduction(self, features: ComputedFeatures, kept: int, seed: int, progress: Progress) -> Tensor:
        """(C, d): the matrix that reduces C features to d."""
        channels, _, _ = features.shape
        generator = torch.Generator().manual_seed(seed)
        identity = torch.eye(channels)
        if kept == channels:
            found = identity
        elif self.options.reduction == "select":
            found = identity[:, torch.randperm(channels, generator=generator)[:kept].sort().values]
        elif self.options.reduction == "project":
            found = torch.linalg.qr(torch.randn(channels, kept, generator=generator))[0]
        else:
            moments = Moments.empty(1, channels, self.count.device)
            number = -(-len(features) // BATCH)
            drawn = set(np.random.default_rng(seed).permutation(number)[: -(-SAMPLED // BATCH)].tolist())
            for index, batch in enumerate(features.batches(progress)):
                if index in drawn:
                    moments.add(batch.flatten(2).permute(0, 2, 1).flatten(0, 1)[None])
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
            "Lower --dimensions or --size, use --shared, or raise --memory-budget."
        )
    logger.debug("%s", text)


def _reason(found: dict[tuple[bool, float], float], chosen: tuple[bool, float], number: int) -> str:
    """Why a candidate (shared, shrinkage) is chosen, by the log-likelihoods of all and the number of images."""
    images = number_of(number, "held-out good image")
    reason = f"it gives {images} the highest likelihood (log-likelihood per position {found[chosen]:.1f}"
    others = [likelihood for (shared, _), likelihood in found.items() if shared != chosen[0]]
    other = "per position" if chosen[0] else "shared"
    return f"{reason}; {other} {max(others):.1f} at best)" if others else f"{reason})"


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2g} GB" if count >= 1e8 else f"{count / 1e6:.2g} MB"
