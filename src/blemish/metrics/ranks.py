"""Comparing several methods over several categories: average ranks, and paired tests corrected for their number.

Source: J. Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 2006. Groups of methods that
do not differ follow A. Benavoli et al., "Should We Really Use Post-Hoc Tests Based on Mean-Ranks?", JMLR 2016: by the
Wilcoxon signed-rank test of each pair, since a difference of ranks depends on which other methods are compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.metrics.scores import MetricInputError

FEWEST_CATEGORIES = 6
"""With fewer pairs no Wilcoxon signed-rank test can give p < 0.05."""


def average_ranks(values: ArrayLike, *, lower_is_better: bool = False) -> NDArray[np.float64]:
    """(K,) the mean rank of each method over the categories, 1 for the best; equal values share their mean rank.

    Args:
        values: (N, K) the metric of K methods on N categories.
        lower_is_better: Whether the lowest value has rank 1.

    Raises:
        MetricInputError: The values are not a matrix of finite numbers with at least one row.
    """
    from scipy.stats import rankdata

    matrix = _checked(values)
    ranks = rankdata(matrix if lower_is_better else -matrix, axis=1)
    return np.asarray(ranks.mean(axis=0), np.float64)


def friedman(values: ArrayLike) -> float | None:
    """The p-value of the Friedman test that all methods are alike; None for fewer than three methods or two categories.

    It is the F statistic of Iman and Davenport, which is less conservative than chi-square. Without any difference the
    p-value is 1.

    Args:
        values: (N, K) the metric of K methods on N categories.
    """
    from scipy.stats import f

    matrix = _checked(values)
    count, methods = matrix.shape
    if count < 2 or methods < 3:
        return None
    if (matrix == matrix[:, :1]).all():
        return 1.0
    ranks = average_ranks(matrix)
    chi_square = 12 * count / (methods * (methods + 1)) * (np.square(ranks).sum() - methods * (methods + 1) ** 2 / 4)
    largest = count * (methods - 1)
    if chi_square >= largest * (1 - 1e-12):  # the same order in every category
        return 0.0
    statistic = (count - 1) * chi_square / (largest - chi_square)
    return float(f.sf(statistic, methods - 1, (methods - 1) * (count - 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected by Holm's step-down method, in the same order; each is at most 1."""
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty(len(p_values))
    highest = 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = highest
    return corrected.tolist()


def groups_alike(ranks: Sequence[float], differ: NDArray[np.bool_]) -> list[list[int]]:
    """The largest runs of methods, neighbours in the order of their ranks, of which no two differ significantly.

    Args:
        ranks: (K,) average ranks.
        differ: (K, K) whether two methods differ significantly.

    Returns:
        Lists of at least two methods, none within another, the best first.
    """
    order = np.argsort(ranks, kind="stable").tolist()
    groups: list[list[int]] = []
    reached = 0
    for start in range(len(order)):
        end = start + 1
        while end < len(order) and not differ[np.ix_(order[start : end + 1], order[start : end + 1])].any():
            end += 1
        if end - start > 1 and end > reached:
            groups.append(order[start:end])
            reached = end
    return groups


def _checked(values: ArrayLike) -> NDArray[np.float64]:
    matrix = np.asarray(values, np.float64)
    if matrix.ndim != 2 or not matrix.size or not np.isfinite(matrix).all():
        raise MetricInputError(
            f"the values have the shape {matrix.shape}; a row per category with a finite number per method is needed"
        )
    return matrix
