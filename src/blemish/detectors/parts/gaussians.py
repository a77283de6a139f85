"""Gaussians of the good images' features: one at each place, or one for all places."""

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

Dimensions = Annotated[int, Field(ge=1, le=4096, description="features kept at each place")]
Reduction = Annotated[
    Literal["select", "project", "pca"],
    Field(description="how they are reduced: by chance, by projection, by PCA"),
]
Shrinkage = Annotated[
    float | None,
    Field(gt=0, le=10, description="regularisation; default: chosen"),
]
Shared = Annotated[
    bool | None,
    Field(description="one Gaussian for all places; default: chosen"),
]
Scales = Annotated[
    tuple[Annotated[float, Field(ge=0, le=64)], ...],
    Field(description="cells to average over; default: chosen"),
]

SHRINKAGES = (0.01, 0.03, 0.1, 0.3)
"""Those that are tried where none is given; without validation images it is the first."""
SAMPLED = 100
"""Good images at most that the principal components are learned from, and that choices are made by."""


@dataclass(frozen=True, slots=True)
class GaussianOptions:
    """How features are reduced, how covariances are shrunk, and which places and scales have Gaussians of their own."""

    dimensions: Dimensions = 100
    reduction: Reduction = "select"
    shrinkage: Shrinkage = None
    shared: Shared = None
    scales: Scales = ()


class Gaussians(Fitted):
    """The mean and covariance of good features; the distance of a place is Mahalanobis' from them.

    With `shared` there is one Gaussian for all places. Whether to share, and how much to shrink the covariance, is
    chosen by which Gaussians make held-out good images likeliest.

    With several `scales`, features averaged over wider surroundings have Gaussians of their own, and the distance is
    the mean of the scales' distances, each as loud as the others on the validation images. So what is faint but large
    adds up, and a single odd cell counts less.
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
        """The value of an option, or what `learn` chose where it was left open."""
        return self.choices.get(name, getattr(self.options, name))

    def learn(
        self, features: ComputedFeatures, validation: ComputedFeatures | None, seed: int, progress: Progress
    ) -> None:
        """Reduces the features and takes their mean and covariance in one pass.

        Raises BlemishError where that would take more memory than `features.memory_budget`.
        """
        self.choices, self.reasons = {}, []
        channels, height, width = features.shape
        kept = min(self.options.dimensions, channels)
        shared = [True, False] if self.options.shared is None else [self.options.shared]
        self._choose_scales(len(features), kept, validation)
        places = {way: self._num_scales * (1 if way else height * width) for way in shared}
        _check_memory(sum(places.values()), kept, features.memory_budget)
        self.projection = self._reduction(features, kept, seed, progress)
        moments = {way: Moments.empty(number, kept, self.count.device) for way, number in places.items()}
        self._add(moments, features, progress)
        self._decide(moments, validation)
        self._take(moments[self.chosen("shared")])
        self._measure(validation)
        if self._num_scales > 1 and not self.options.scales:
            wide = " and ".join(f"{width:g}" for width in self.chosen("scales")[1:])
            reason = (
                f"padim: also averaged over {wide} cells, since {len(features)} images are more than {kept} features"
            )
            self._choose({}, reason)

    def learn_more(self, features: ComputedFeatures, progress: Progress) -> None:
        """Takes further good images into the Gaussians: the same, but for rounding, as if they had been there."""
        covariance = torch.cat([_unshrunk(part, self.chosen("shrinkage")) for part in self._by_scale(self.factor)])
        moments = Moments(self.mean, covariance, int(self.count))
        self._add({self.chosen("shared"): moments}, features, progress)
        self._take(moments)

    def distances(self, features: Tensor) -> Tensor:
        """Mahalanobis distances, (B, h, w); of several scales their mean, 1 being the usual maximum of good images."""
        return normalised(self._distances(features), self.offset, self.scale).mean(0)

    def whitened(self, features: Tensor) -> Tensor:
        """(S, B, h, w, d): at each scale the deviations whose lengths are the Mahalanobis distances."""
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
        """What stands for all places of one scale after the other, apart."""
        return values.chunk(self._num_scales)

    def _add(self, moments: dict[bool, Moments], features: ComputedFeatures, progress: Progress) -> None:
        """Takes the images' features into the moments, shared or not."""
        for batch in features.batches(progress):
            values = self.reduced(batch)
            for shared, found in moments.items():
                found.add(_grouped(values, shared))

    def _choose_scales(self, num_images: int, kept: int, validation: ComputedFeatures | None) -> None:
        """Wide scales count where a place has more images than features, and where their loudness can be measured."""
        if not self.options.scales:
            enough = self.options.shared is not True and num_images > kept and validation
            self.choices["scales"] = self.default_scales if enough else (0.0,)

    def _measure(self, validation: ComputedFeatures | None) -> None:
        """How loud each scale is on the validation images; a single one stays as it is."""
        self.offset, self.scale = self.mean.new_zeros(self._num_scales), self.mean.new_ones(self._num_scales)
        if self._num_scales > 1 and validation:
            found = torch.cat([self._distances(batch) for batch in validation.batches()], 1)
            self.offset, self.scale = offset_and_scale(found)

    def _decide(self, moments: dict[bool, Moments], validation: ComputedFeatures | None) -> None:
        """Chooses what was left open: the Gaussians under which the good validation images are likeliest."""
        shrinkages = SHRINKAGES if self.options.shrinkage is None else (self.options.shrinkage,)
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
        open_ones = {name: value for name, value in options.items() if getattr(self.options, name) is None}
        self._choose(open_ones, f"padim: {gaussians}, shrinkage {chosen[1]}, since {reason}")

    def _likelihoods(
        self, moments: dict[bool, Moments], ways: list[tuple[bool, float]], validation: ComputedFeatures
    ) -> dict[tuple[bool, float], float]:
        """The mean log-likelihood of the validation images' features under each way's Gaussians of the first scale."""
        batches = islice(validation.batches(), -(-SAMPLED // BATCH))
        values, found = torch.cat([self.reduced(batch)[0] for batch in batches], 1)[:, :SAMPLED], {}
        for shared, shrinkage in ways:
            mean, covariance = (self._by_scale(part)[0] for part in (moments[shared].mean, moments[shared].covariance))
            gaussians = mean, whitening_factors(covariance, shrinkage)
            found[shared, shrinkage] = log_likelihood(values, *(part.float() for part in gaussians))
        return found

    def _take(self, moments: Moments) -> None:
        """Takes the Gaussians; one for all places that nobody asked to have at several scales is of the first alone."""
        means, covariances = self._by_scale(moments.mean), self._by_scale(moments.covariance)
        if self.chosen("shared") and not self.options.scales:
            means, covariances, self.choices["scales"] = means[:1], covariances[:1], self.chosen("scales")[:1]
        self.mean = torch.cat(means).float()
        self.factor = torch.cat([whitening_factors(part, self.chosen("shrinkage")) for part in covariances]).float()
        self.count.fill_(moments.count)

    def reduced(self, features: Tensor) -> Tensor:
        """(S, h w, B, d): the features at each scale."""
        kept = self._kept(features)
        wide = torch.stack([gaussian_blur(kept, float(width)) for width in self.chosen("scales")])
        return wide.flatten(3).permute(0, 3, 1, 2).contiguous()

    def _kept(self, features: Tensor) -> Tensor:
        """(B, d, h, w): those that were selected, of which each is a column with a single 1, or what they make."""
        if self.options.reduction == "select" or self.projection.shape[0] == self.projection.shape[1]:
            return features[:, self.projection.argmax(0)]
        projected = self.projection.T @ features.flatten(2)
        return projected.view(len(features), -1, *features.shape[2:])

    def _reduction(self, features: ComputedFeatures, kept: int, seed: int, progress: Progress) -> Tensor:
        """(C, d): the projection to what is kept."""
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
    """(P, N, d): the vectors of each Gaussian, of values (S, h w, B, d)."""
    return values.flatten(1, 2) if shared else values.flatten(0, 1)


def _unshrunk(factor: Tensor, shrinkage: float) -> Tensor:
    """The covariances (P, d, d) of which `whitening_factors` made this."""
    covariance: Tensor = torch.linalg.inv(factor.double() @ factor.double().mT)
    variance = covariance.diagonal(dim1=1, dim2=2).mean() / (1 + shrinkage)
    return covariance - shrinkage * variance * torch.eye(covariance.shape[-1]).to(covariance)


def _check_memory(places: int, channels: int, budget: int) -> None:
    needed = Moments.bytes_needed(places, channels)
    text = f"padim: Gaussians at {places} places of {channels} features take {_gigabytes(needed)} while fitting"
    if needed > budget:
        raise BlemishError(
            f"{text}, memory_budget allows {_gigabytes(budget)}. "
            "Lower --dimensions or --size, use --shared, or raise --memory-budget."
        )
    logger.debug("%s", text)


def _reason(found: dict[tuple[bool, float], float], chosen: tuple[bool, float], number: int) -> str:
    good = f"{number_of(number, 'held-out good image')} {'is' if number == 1 else 'are'}"
    reason = f"{good} likeliest so (log-likelihood per place {found[chosen]:.1f}"
    others = [likelihood for (shared, _), likelihood in found.items() if shared != chosen[0]]
    other = "per place" if chosen[0] else "shared"
    return f"{reason}; {other} {max(others):.1f} at best)" if others else f"{reason})"


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2g} GB" if count >= 1e8 else f"{count / 1e6:.2g} MB"
