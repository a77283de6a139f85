"""Small subsets of many vectors that stand for all of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from blemish.detectors.parts.neighbours import LEADING, SLACK, Contraction, nearest, pair_squares
from blemish.progress import Progress, no_progress

LEADERS = 1024
"""Farthest rows that are looked at together by `greedy`."""


def spread(
    values: Tensor, count: int, generator: np.random.Generator, progress: Progress = no_progress, rounds: int = 4
) -> Tensor:
    """Rows of `count` values (N, C) that cover them: a quarter at random, then by squared distance to those kept.

    As k-means|| draws its first centres (Bahmani et al. 2012, arXiv 1203.6402): by rounds, so that the distances of a
    round are one matrix product.
    """
    if count >= len(values):
        return torch.arange(len(values), device=values.device)
    kept, distances = np.zeros(len(values), bool), np.full(len(values), np.inf)
    quarter = count // rounds
    for number in [count - quarter * (rounds - 1)] + [quarter] * (rounds - 1):
        if number == 0:
            break
        chance = np.ones(len(values)) if not kept.any() else np.maximum(distances, 1e-12)
        keys = np.log(generator.random(len(values)) + 1e-300) / chance  # the largest: drawn by chance, none twice
        keys[kept] = -np.inf
        new = np.sort(np.argpartition(-keys, number - 1)[:number])
        kept[new] = True
        progress(int(kept.sum()), count, unit="patches")
        if kept.sum() < count:
            found, _ = nearest(values, values[torch.from_numpy(new).to(values.device)])
            distances = np.minimum(distances, found.double().cpu().numpy() ** 2)
    return torch.from_numpy(np.flatnonzero(kept)).to(values.device)


def greedy(values: Tensor, count: int, generator: np.random.Generator, progress: Progress = no_progress) -> Tensor:
    """Rows of `count` values (N, C) by greedy k-center selection (Sener & Savarese 2018, arXiv 1708.00489), in order.

    The first is drawn at random; each next one is the farthest from those chosen. The kept squared distances are upper
    bounds, since a distance to the chosen only shrinks; they are brought up to date, many at once, only for the rows
    that lead, and only by those chosen that a product of short vectors (`Contraction`) does not show to be farther. The
    subset is that of the naive algorithm, which reads all values at every step.
    """
    count = min(count, len(values))
    chosen = [int(generator.integers(len(values)))]
    short = Contraction.of(values)(values) if values.shape[1] >= 4 * LEADING else values
    norms = short.square().sum(1)
    everything = torch.arange(len(values), device=values.device)
    bounds = pair_squares(values, everything, values, everything[chosen].expand(len(values)))
    bounds[chosen] = -1
    known = torch.ones_like(everything)
    while len(chosen) < count:
        leaders = bounds.topk(min(LEADERS, len(values))).indices.sort().values
        rest = float(bounds.index_fill(0, leaders, -1).amax())
        since = everything[chosen[int(known[leaders].min()) :]]
        current = _with_others(values, short, norms, leaders, bounds[leaders], since)
        near, own = short[leaders], norms[leaders]
        while len(chosen) < count and current[farthest := int(current.argmax())] >= rest:
            chosen.append(int(leaders[farthest]))
            squares = torch.addmv(own, near, near[farthest], alpha=-2)  # but for the norm of the farthest
            rows = _may_be_nearer(squares, current, own[farthest]).nonzero()[:, 0]
            found = (values[leaders[rows]] - values[chosen[-1]]).square().sum(1)
            current[rows] = torch.minimum(current[rows], found)
            current[farthest] = -1  # never again, even where all others are copies of those chosen
        bounds[leaders], known[leaders] = current, len(chosen)
        progress(len(chosen), count, unit="patches")
    return everything[chosen]


def _with_others(values: Tensor, short: Tensor, norms: Tensor, rows: Tensor, bounds: Tensor, others: Tensor) -> Tensor:
    """Squared distances of some rows to those nearest to them: what was known of it, or those of other rows.

    The other row that looks nearest comes first, so that few pairs are left to be computed.
    """
    if not len(others):
        return bounds
    squares = torch.addmm(norms[others], short[rows], short[others].T, alpha=-2)  # but for the rows' own norms
    first = squares.argmin(1)
    bounds = torch.minimum(bounds, pair_squares(values, rows, values, others[first]))
    squares.scatter_(1, first[:, None], torch.inf)
    row, other = _may_be_nearer(squares, bounds[:, None], norms[rows, None]).nonzero(as_tuple=True)
    return bounds.scatter_reduce(0, row, pair_squares(values, rows[row], values, others[other]), "amin")


def _may_be_nearer(squares: Tensor, bounds: Tensor, own: Tensor) -> Tensor:
    """Whether short vectors leave it open that a bound is undercut; their squares lack one side's `own` norms.

    What is that near has a squared norm of at most 2 (own + bounds), so the slack covers its rounding too.
    """
    return squares <= bounds - own + SLACK * (own + bounds)
