"""Gaussians of many vectors, in one pass over them."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

LARGEST_SHARE = 0.98
"""Of the scatter in one direction that a single sample may have; with all of it, the rest would have none."""


class Moments:
    """Count, mean (P, C) and covariance (P, C, C) of vectors at P places, in float64, from batches in one pass.

    Batches are merged by the formula of Chan, Golub and LeVeque (1979), so nothing cancels.
    """

    def __init__(self, mean: Tensor, covariance: Tensor, count: int):
        self.mean, self.count = mean.double(), count
        self._scatter = covariance.double() * count

    @classmethod
    def empty(cls, places: int, channels: int, device: torch.device | None = None) -> Self:
        """Of nothing yet."""
        mean = torch.zeros(places, channels, dtype=torch.float64, device=device)
        return cls(mean, mean.new_zeros(places, channels, channels), 0)

    @staticmethod
    def bytes_needed(places: int, channels: int) -> int:
        """Memory while they are being computed, and while `whitening_factors` inverts them."""
        return places * channels * channels * 8 * 3

    def add(self, values: Tensor) -> None:
        """Takes in values (P, N, C): N vectors at each place."""
        values, number = values.double(), values.shape[1]
        mean = values.mean(1)
        centred, difference = values - mean[:, None], mean - self.mean
        together = self.count + number
        self._scatter.baddbmm_(centred.mT, centred)
        weighted = difference * (self.count * number / together) ** 0.5
        self._scatter.baddbmm_(weighted[:, :, None], weighted[:, None])
        self.mean = self.mean + difference * (number / together)
        self.count = together

    @property
    def covariance(self) -> Tensor:
        """The mean product of deviations, (P, C, C); zero where one vector was seen."""
        return self._scatter / max(self.count, 1)


def whitening_factors(covariance: Tensor, shrinkage: float) -> Tensor:
    """(P, C, C) F, by which |(x - mean) F| is the Mahalanobis distance of row vectors x, in float64.

    `shrinkage` times the mean variance over all places and channels is added to each variance, so that few vectors, or
    constant ones, still give a distance.
    """
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    variance = covariance.diagonal(dim1=1, dim2=2).mean().clamp_min(1e-12)
    lower = torch.linalg.cholesky(covariance + shrinkage * variance * identity)
    inverse: Tensor = torch.linalg.solve_triangular(lower, identity.expand_as(lower), upper=False)
    return inverse.mT.contiguous()


def log_likelihood(values: Tensor, mean: Tensor, factor: Tensor) -> float:
    """Mean log density of values (P, N, C) under the Gaussians, less a constant of C."""
    log_determinants = factor.diagonal(dim1=1, dim2=2).log().sum(1)[:, None]
    return float((log_determinants - mahalanobis(values, mean, factor).square() / 2).mean())


def whitened(values: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """(P, N, C): deviations of values (P, N, C) from the means at their places, in units in which each Gaussian is
    round; their lengths are Mahalanobis distances. One Gaussian serves all places."""
    return torch.matmul(values - mean[:, None], factor)


def mahalanobis(values: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """(P, N): the distance of values (P, N, C) from the Gaussians at their places."""
    return whitened(values, mean, factor).square().sum(2).sqrt()


def leave_one_out(deviations: Tensor, own: Tensor, count: int) -> Tensor:
    """Whitened deviations (..., C) as they would be had `own`, of `count` samples, not been learned from.

    Without a sample c the mean is c / (n - 1) further away, and the covariance, in units in which it was the identity,
    is n / (n - 1) (I - c c' / (n - 1)). Exact but for shrinkage, in every coordinate: the factors are triangular, and a
    triangular factor of I - v v' solves for z by sums over the coordinates up to each one.
    """
    others = max(count - 1, 1)
    shifted, share = deviations + own / others, own / others**0.5
    after = 1 - share.square().cumsum(-1).clamp_max(LARGEST_SHARE)
    before = torch.cat([torch.ones_like(after[..., :1]), after[..., :-1]], -1)
    products = share * shifted
    along = products.cumsum(-1) - products
    found: Tensor = (others / max(count, 1)) ** 0.5 * (shifted + share * along / before) * (before / after).sqrt()
    return found
