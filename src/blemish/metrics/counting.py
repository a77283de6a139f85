"""Counting the scores at and above every threshold, without sorting the pixels of all images together.

The scores of each image are already sorted. The range of scores is divided into bands of about _BAND pixels. A band is
a slice of every image's scores; it is concatenated, sorted in the processor's cache, and searched. Bands without a
threshold are skipped, and the pixels of all images are never copied together.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.metrics.scores import Array, sort_keys

Counted = NDArray[np.int64]

_BAND = 2**18
_SAMPLES_PER_BAND = 64


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts above and at each of K descending thresholds, the distinct scores of the anomalous pixels."""

    thresholds: Array
    """(K,) integer keys of the scores (see `to_keys`), descending."""
    anomalous: Counted
    """(K,) anomalous pixels that score at least the threshold."""
    good_above: Counted
    """(K,) good pixels that score more than the threshold."""
    good: Counted
    """(K,) good pixels that score at least the threshold."""
    shared_above: NDArray[np.float64]
    """(K,) mean over the good images of the fraction of their pixels that score more than the threshold."""
    shared: NDArray[np.float64]
    """(K,) the same for the pixels that score at least the threshold."""


def count_scores(anomalous: Array, mixed: Sequence[Array], good_images: Sequence[Array]) -> Counts:
    """Return the counts at every distinct score of an anomalous pixel.

    Args:
        anomalous: The keys of all anomalous pixels, in any order.
        mixed: The sorted keys of the good pixels of each anomalous image.
        good_images: The sorted keys of each good image.
    """
    anomalous = anomalous.copy()
    sort_keys(anomalous)
    first = np.flatnonzero(np.concatenate([[True], anomalous[1:] != anomalous[:-1]]))
    thresholds = anomalous[first]
    above, at_least = count_above(mixed, thresholds)
    shared_above, shared = np.zeros(thresholds.size), np.zeros(thresholds.size)
    for rows in _by_size(good_images):
        higher, equal = count_above(rows, thresholds)
        above += higher
        at_least += equal
        # A mean over the rates of images: images of one size can be counted together.
        share = 1.0 / (len(good_images) * rows[0].size)
        shared_above += higher * share
        shared += equal * share
    descending = slice(None, None, -1)
    return Counts(
        thresholds[descending],
        (anomalous.size - first)[descending],
        above[descending],
        at_least[descending],
        shared_above[descending],
        shared[descending],
    )


def count_above(rows: Sequence[Array], thresholds: Array) -> tuple[Counted, Counted]:
    """Return how many scores are above, and how many are at least, each threshold.

    Args:
        rows: Sorted arrays of one dtype, of any lengths.
        thresholds: (K,) distinct and ascending, of the same dtype.
    """
    total = sum(row.size for row in rows)
    below, up_to = np.zeros(thresholds.size, np.int64), np.zeros(thresholds.size, np.int64)
    if total:
        edges = _band_edges(rows, total)
        lower = np.array([row.searchsorted(edges, "left") for row in rows])
        upper = np.array([row.searchsorted(edges, "right") for row in rows])
        _count_between(rows, thresholds, edges, (lower, upper), (below, up_to))
        _count_on(thresholds, edges, (lower, upper), (below, up_to))
    return total - up_to, total - below


def _count_between(
    rows: Sequence[Array],
    thresholds: Array,
    edges: Array,
    cuts: tuple[Counted, Counted],
    counted: tuple[Counted, Counted],
) -> None:
    """Count at the thresholds strictly between two edges: concatenate each band, sort it and search it."""
    starts = np.concatenate([[0], thresholds.searchsorted(edges, "right")])
    stops = np.concatenate([thresholds.searchsorted(edges, "left"), [thresholds.size]])
    sizes = np.array([row.size for row in rows])[:, np.newaxis]
    first = np.hstack([np.zeros_like(sizes), cuts[1]])
    last = np.hstack([cuts[0], sizes])

    def count(band: int) -> None:
        here = slice(starts[band], stops[band])
        scores = np.concatenate([row[a:b] for row, a, b in zip(rows, first[:, band], last[:, band], strict=True)])
        sort_keys(scores)
        below, up_to = _search(scores, thresholds[here])
        base = first[:, band].sum()
        counted[0][here], counted[1][here] = base + below, base + up_to

    bands = np.flatnonzero(starts < stops).tolist()
    if len(bands) == 1:
        count(bands[0])
    else:
        # Bands are independent, and numpy releases the interpreter lock while it sorts and searches.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(count, bands))


def _search(scores: Array, thresholds: Array) -> tuple[Counted, Counted]:
    """Return how many sorted scores are below each threshold, and how many are at most the threshold."""
    below = scores.searchsorted(thresholds, "left")
    up_to = below.copy()
    tied = np.flatnonzero(scores[np.minimum(below, scores.size - 1)] == thresholds) if scores.size else below[:0]
    up_to[tied] = scores.searchsorted(thresholds[tied], "right")
    return below, up_to


def _count_on(thresholds: Array, edges: Array, cuts: tuple[Counted, Counted], counted: tuple[Counted, Counted]) -> None:
    """Count at the thresholds that are equal to an edge, from the positions of the edges."""
    on = thresholds.searchsorted(edges)
    at = np.flatnonzero(thresholds[np.minimum(on, thresholds.size - 1)] == edges)
    for target, cut in zip(counted, cuts, strict=True):
        target[on[at]] = cut[:, at].sum(axis=0)


def _band_edges(rows: Sequence[Array], total: int) -> Array:
    """Choose scores that divide the pixels into bands of about _BAND.

    A score that many pixels share becomes an edge itself, so that no band contains it and bands stay small.
    """
    if total <= 2 * _BAND:
        return rows[0][:0]
    step = _BAND // _SAMPLES_PER_BAND
    drawn = np.sort(np.concatenate([row[step // 2 :: step] for row in rows]))
    return np.unique(drawn[_SAMPLES_PER_BAND // 2 :: _SAMPLES_PER_BAND])


def _by_size(rows: Sequence[Array]) -> Iterator[list[Array]]:
    groups: dict[int, list[Array]] = {}
    for row in rows:
        groups.setdefault(row.size, []).append(row)
    return iter(groups.values())
