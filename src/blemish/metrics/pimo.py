"""AUPIMO of a ranking: the definition of the paper's reference code, evaluated at every threshold.

Source: J. P. C. Bertoldo et al., "AUPIMO", BMVC 2024 (arXiv 2401.01984).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from blemish.metrics.formulas import log_area_under
from blemish.metrics.points import exact_points, image_pimo_points
from blemish.metrics.ranking import Ranking
from blemish.metrics.scores import NotApplicable

PIMO_BOUNDS = (1e-5, 1e-4)
"""The default bounds of the shared false-positive rate."""


def mean_aupimo(ranking: Ranking, bounds: tuple[float, float] = PIMO_BOUNDS) -> float:
    """Return the mean AUPIMO of the anomalous images, from their mean curve."""
    x, y = exact_points(ranking, "pimo")
    return float(log_area_under(x, y, bounds, reached_bounds(ranking, bounds)))


def image_aupimo(ranking: Ranking, bounds: tuple[float, float], *, exact_bounds: bool = False) -> dict[int, float]:
    """Return the AUPIMO of each anomalous image by its index; see `aupimo_per_image`."""
    points = image_pimo_points(ranking)
    integrated = bounds if exact_bounds else reached_bounds(ranking, bounds)
    return {index: float(log_area_under(x, y, bounds, integrated)) for index, x, y in points}


def reached_bounds(ranking: Ranking, bounds: tuple[float, float]) -> tuple[float, float]:
    """Return the positive shared false-positive rates nearest to the bounds that any threshold reaches.

    Raises:
        NotApplicable: Both are equal, because there are too few good pixels or distinct scores.
    """
    low, high = (_nearest_rate(ranking, bound) for bound in bounds)
    if low >= high:
        raise NotApplicable(
            f"no two thresholds reach shared false-positive rates near {bounds[0]:g} and {bounds[1]:g}: "
            f"the nearest to both is {low:.2g}"
        )
    return low, high


def _nearest_rate(ranking: Ranking, wanted: float) -> float:
    """Return the rate nearest to the wanted one, found by bisection over the integer keys of the scores."""
    rows = [image.good for image in ranking.images if image.is_good]

    def rate(key: int, side: Literal["left", "right"] = "left") -> float:
        needle = rows[0].dtype.type(key)
        return float(np.mean([1.0 - row.searchsorted(needle, side) / row.size for row in rows]))

    low, high = min(int(row[0]) for row in rows), max(int(row[-1]) for row in rows)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if rate(middle) >= wanted else (low, middle - 1)
    at_least, below = rate(low), rate(low, "right")
    return below if below > 0 and wanted - below < at_least - wanted else at_least
