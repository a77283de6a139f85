"""The nearest of many vectors, and small subsets that stand for all of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from blemish.progress import Progress, no_progress

BLOCK = 512
"""Rows of a distance matrix that are held at once: larger ones cost more in fresh memory than in arithmetic."""
LEADERS = 512
"""Farthest rows that are looked at together by `greedy`."""


def nearest(values: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) distances and (N,) rows: of each of the values (N, C) to the nearest row of the bank (M, C).

    The nearest is found by a matrix product, which is precise where values are centred; its Euclidean distance is then
    computed directly, free of cancellation.
    """
    half = bank.square().sum(1) / 2
    # An exported graph knows no number of values, so it has no blocks.
    blocks = (values,) if torch.compiler.is_exporting() else torch.split(values, BLOCK)
    rows = torch.cat([torch.addmm(half, block, bank.T, alpha=-1).argmin(1) for block in blocks])
    return (values - bank[rows]).square().sum(1).sqrt(), rows


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
        progress(int(kept.sum()), count)
        if kept.sum() < count:
            found, _ = nearest(values, values[torch.from_numpy(new).to(values.device)])
            distances = np.minimum(distances, found.double().cpu().numpy() ** 2)
    return torch.from_numpy(np.flatnonzero(kept)).to(values.device)


def greedy(values: Tensor, count: int, generator: np.random.Generator, progress: Progress = no_progress) -> Tensor:
    """Rows of `count` values (N, C) by greedy k-center selection (Sener & Savarese 2018, arXiv 1708.00489), in order.

    The first is drawn at random; each next one is the farthest from those chosen. The kept squared distances are upper
    bounds, since a distance to the chosen only shrinks; they are brought up to date, many by one matrix product, only
    for the rows that lead. The subset is that of the naive algorithm, which reads all values at every step.
    """
    count = min(count, len(values))
    chosen = [int(generator.integers(len(values)))]
    bounds = (values - values[chosen[0]]).square().sum(1)
    bounds[chosen[0]] = -1
    known = torch.ones(len(values), dtype=torch.long, device=values.device)
    while len(chosen) < count:
        leaders = bounds.topk(min(LEADERS, len(values))).indices.sort().values
        rest = bounds.index_fill(0, leaders, -1).amax()
        near, current = values[leaders], _refreshed(values, leaders, bounds, known, chosen)
        while len(chosen) < count and current[farthest := int(current.argmax())] >= rest:
            chosen.append(int(leaders[farthest]))
            current = torch.minimum(current, (near - near[farthest]).square().sum(1))
            current[farthest] = -1  # never again, even where all others are copies of those chosen
        bounds[leaders], known[leaders] = current, len(chosen)
        progress(len(chosen), count)
    return torch.tensor(chosen, device=values.device)


def _refreshed(values: Tensor, rows: Tensor, bounds: Tensor, known: Tensor, chosen: list[int]) -> Tensor:
    """Squared distances of some rows to all those chosen, from the bounds and those chosen since."""
    since = int(known[rows].min())
    if since == len(chosen):
        return bounds[rows]
    some, others = values[rows], values[chosen[since:]]
    squares = some.square().sum(1)[:, None] + others.square().sum(1) - 2 * some @ others.T
    return torch.minimum(bounds[rows], squares.clamp_min_(0).amin(1))
