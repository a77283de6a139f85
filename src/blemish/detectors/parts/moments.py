"""Mean and covariance of many vectors in one pass, and whitened deviations from them."""

from __future__ import annotations

from itertools import accumulate
from typing import Self

import torch
from torch import Tensor

from blemish.features.processes import Processes

LARGEST_SHARE = 0.98
"""Upper limit of a sample's share of the scatter in one direction; with a share of 1 the others would have none."""


class Moments:
    """Count, mean (P, C) and covariance (P, C, C) of vectors at P positions, in float64, updated batch by batch.

    Batches are merged by the numerically stable formula of Chan, Golub and LeVeque (1979).
    """

    def __init__(self, mean: Tensor, covariance: Tensor, count: int):
        self.mean, self.count = mean.double(), count
        self._scatter = covariance.double() * count

    @classmethod
    def empty(cls, places: int, channels: int, device: torch.device | None = None) -> Self:
        """The moments of no vectors."""
        mean = torch.zeros(places, channels, dtype=torch.float64, device=device)
        return cls(mean, mean.new_zeros(places, channels, channels), 0)

    @staticmethod
    def bytes_needed(places: int, channels: int) -> int:
        """Peak memory in bytes of computing moments and their `whitening_factors`."""
        return places * channels * channels * 8 * 3

    def add(self, values: Tensor) -> None:
        """Adds values (P, N, C): N vectors at each position."""
        values, number = values.double(), values.shape[1]
        mean = values.mean(1)
        centred, difference = values - mean[:, None], mean - self.mean
        together = self.count + number
        self._scatter.baddbmm_(centred.mT, centred)
        weighted = difference * (self.count * number / together) ** 0.5
        self._scatter.baddbmm_(weighted[:, :, None], weighted[:, None])
        self.mean = self.mean + difference * (number / together)
        self.count = together

    def of_all(self, processes: Processes) -> Self:
        """The moments of the vectors of all processes."""
        if processes.count == 1:
            return self
        count = processes.total(self.mean.new_tensor(self.count))
        mean = processes.total(self.mean * self.count) / count
        apart = (self.mean - mean) * self.count**0.5
        scatter = processes.total(self._scatter + apart[:, :, None] * apart[:, None])
        return type(self)(mean, scatter / count, int(count))

    @property
    def covariance(self) -> Tensor:
        """The covariance (P, C, C), divided by the count; zero for a single vector."""
        return self._scatter / max(self.count, 1)


def whitening_factors(covariance: Tensor, shrinkage: float) -> Tensor:
    """Factors F (P, C, C), float64, such that |(x - mean) F| is the Mahalanobis distance of a row vector x.

    `shrinkage` times the mean variance over all positions and channels is added to each variance, so that the
    covariance of few or constant vectors can be inverted.
    """
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    variance = covariance.diagonal(dim1=1, dim2=2).mean().clamp_min(1e-12)
    lower = torch.linalg.cholesky(covariance + shrinkage * variance * identity)
    inverse: Tensor = torch.linalg.solve_triangular(lower, identity.expand_as(lower), upper=False)
    return inverse.mT.contiguous()


def whitened(values: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """The whitened deviations (P, N, C) of values (P, N, C) from the means; their norms are Mahalanobis distances.

    A single Gaussian, mean (1, C), may stand for all positions.
    """
    deviations = values - mean[:, None]
    if not torch.compiler.is_exporting():
        return torch.matmul(deviations, factor)
    # Factors are upper triangular. To read them takes most of the time, so a graph leaves out a quarter, all zeros.
    parts = torch.split(factor, -(-factor.shape[-1] // 2), -1)
    ends = accumulate(part.shape[-1] for part in parts)
    found = [torch.matmul(deviations[..., :end], part[:, :end]) for part, end in zip(parts, ends, strict=True)]
    return torch.cat(found, -1)


def leave_one_out(deviations: Tensor, own: Tensor, count: int) -> Tensor:
    """Whitened deviations (..., C) from the Gaussian of all `count` training samples but one.

    `own` (..., C) are the whitened deviations of the sample that is left out. Without a sample c of n, the mean moves
    by c / (n - 1), and the whitened covariance becomes n / (n - 1) (I - c c' / (n - 1)), whose triangular factor is
    applied by cumulative sums over the coordinates. The result is exact in every coordinate, except for shrinkage.
    """
    others = max(count - 1, 1)
    shifted, share = deviations + own / others, own / others**0.5
    after = 1 - share.square().cumsum(-1).clamp_max(LARGEST_SHARE)
    before = torch.cat([torch.ones_like(after[..., :1]), after[..., :-1]], -1)
    products = share * shifted
    along = products.cumsum(-1) - products
    found: Tensor = (others / max(count, 1)) ** 0.5 * (shifted + share * along / before) * (before / after).sqrt()
    return found
