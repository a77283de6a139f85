"""Coresets: few vectors for many, such that every vector has one of them nearby; selected ones, or means of groups."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from blemish.detectors.parts.neighbours import LONG, SLACK, Contraction, nearest, pair_squares
from blemish.progress import Progress, no_progress

LEADERS = 1024
"""Number of farthest rows whose distances `greedy` updates together."""


def spread(
    values: Tensor, count: int, generator: np.random.Generator, progress: Progress = no_progress, rounds: int = 4
) -> Tensor:
    """`count` rows of values (N, C), ascending: each round draws a share of them, with chances that grow with distance.

    The first round draws uniformly; in the next ones the chance of a value is its squared distance to the nearest
    selected one. As in the initialisation of k-means|| (Bahmani et al. 2012, arXiv 1203.6402), drawing in rounds needs
    one matrix product per round.
    """
    if count >= len(values):
        return torch.arange(len(values), device=values.device)
    kept, distances = np.zeros(len(values), bool), np.full(len(values), np.inf)
    quarter = count // rounds
    for number in [count - quarter * (rounds - 1)] + [quarter] * (rounds - 1):
        if number == 0:
            break
        chance = np.ones(len(values)) if not kept.any() else np.maximum(distances, 1e-12)
        keys = np.log(generator.random(len(values)) + 1e-300) / chance  # the largest keys: weighted, no replacement
        keys[kept] = -np.inf
        new = np.sort(np.argpartition(-keys, number - 1)[:number])
        kept[new] = True
        progress(int(kept.sum()), count, unit="patches")
        if kept.sum() < count:
            found, _ = nearest(values, values[torch.from_numpy(new).to(values.device)])
            distances = np.minimum(distances, found.double().cpu().numpy() ** 2)
    return torch.from_numpy(np.flatnonzero(kept)).to(values.device)


def means(values: Tensor, starts: Tensor, rounds: int = 4) -> Tensor:
    """The means (M, C) of groups of values (N, C): of those nearest to each of the starts (M, C), in so many rounds.

    This is k-means by Lloyd's algorithm. In each round the means are the next starts; one that no value is nearest to
    stays where it is.
    """
    for _ in range(rounds):
        _, group = nearest(values, starts)
        sizes = torch.bincount(group, minlength=len(starts))[:, None]
        sums = torch.zeros_like(starts).index_add_(0, group, values)
        starts = torch.where(sizes > 0, sums / sizes.clamp_min(1), starts)
    return starts


def greedy(values: Tensor, count: int, generator: np.random.Generator, progress: Progress = no_progress) -> Tensor:
    """`count` rows of values (N, C) by greedy k-center selection (Sener & Savarese 2018, arXiv 1708.00489), in order.

    The first row is drawn at random; each next one is the farthest from those selected. The result is that of the naive
    algorithm, which computes the distances of all values at every step. Here, distances to the selected rows are kept
    as upper bounds, since they can only shrink. They are updated for the LEADERS rows with the largest bounds alone,
    and only with those selected rows that may be nearer according to short vectors (`Contraction`).
    """
    count = min(count, len(values))
    chosen = [int(generator.integers(len(values)))]
    short = Contraction.of(values)(values) if values.shape[1] >= LONG else values
    norms = short.square().sum(1)
    everything = torch.arange(len(values), device=values.device)
    bounds = pair_squares(values, everything, values, everything[chosen].expand(len(values)))
    bounds[chosen] = -1
    num_used = torch.ones_like(everything)  # by how many of the chosen rows each bound is up to date
    while len(chosen) < count:
        leaders = bounds.topk(min(LEADERS, len(values))).indices.sort().values
        rest = float(bounds.index_fill(0, leaders, -1).amax())
        since = everything[chosen[int(num_used[leaders].min()) :]]
        current = _with_others(values, short, norms, leaders, bounds[leaders], since)
        near, own = short[leaders], norms[leaders]
        while len(chosen) < count and current[farthest := int(current.argmax())] >= rest:
            chosen.append(int(leaders[farthest]))
            squares = torch.addmv(own, near, near[farthest], alpha=-2)  # without the squared norm of the farthest
            rows = _may_be_nearer(squares, current, own[farthest]).nonzero()[:, 0]
            found = (values[leaders[rows]] - values[chosen[-1]]).square().sum(1)
            current[rows] = torch.minimum(current[rows], found)
            current[farthest] = -1  # never chosen again, even where all others are copies of chosen rows
        bounds[leaders], num_used[leaders] = current, len(chosen)
        progress(len(chosen), count, unit="patches")
    return everything[chosen]


def _with_others(values: Tensor, short: Tensor, norms: Tensor, rows: Tensor, bounds: Tensor, others: Tensor) -> Tensor:
    """The squared distances of `rows` (`bounds`), updated with the distances to the rows `others`.

    The other row that is nearest by short vectors is compared first; its distance rules out most of the rest.
    """
    if not len(others):
        return bounds
    squares = torch.addmm(norms[others], short[rows], short[others].T, alpha=-2)  # without the rows' squared norms
    first = squares.argmin(1)
    bounds = torch.minimum(bounds, pair_squares(values, rows, values, others[first]))
    squares.scatter_(1, first[:, None], torch.inf)
    row, other = _may_be_nearer(squares, bounds[:, None], norms[rows, None]).nonzero(as_tuple=True)
    return bounds.scatter_reduce(0, row, pair_squares(values, rows[row], values, others[other]), "amin")


def _may_be_nearer(squares: Tensor, bounds: Tensor, own: Tensor) -> Tensor:
    """Whether a distance may be below its bound, according to the squared distances of short vectors without `own`.

    `own` are the squared norms that `squares` lack. A vector that near has a squared norm of at most 2 (own + bounds),
    so that the slack also covers its rounding errors.
    """
    return squares <= bounds - own + SLACK * (own + bounds)
