"""How single good images influence a threshold, for a person to review.

Which images determine the threshold, what it would be without them, and whether new good images exceed it more often
than chance explains. All functions are pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.calibration.thresholds import (
    Calibration,
    conformal_rank,
    conformal_threshold,
    false_alarm_bound,
    smallest_rate,
)

MIN_OTHERS = 5
"""The smallest number of other images whose range of scores is meaningful."""
SIGNIFICANCE = 0.01
"""The level of the test whether good images exceed a threshold too often."""


@dataclass(frozen=True, slots=True)
class Support:
    """The good images that determine a threshold: the one of the k-th largest score, and those that score higher."""

    scores: tuple[float, ...]
    """Their scores, in ascending order; the threshold is based on the first."""
    images: tuple[str, ...]
    """Their files; empty if not recorded."""
    rest: tuple[float, ...]
    """The scores of the other good images, in ascending order."""
    threshold_without: float | None
    """The threshold without them, for the same rate or the smallest that the rest supports; None without any rest."""

    @property
    def gap(self) -> float:
        """The distance from the highest score of the rest to the lowest of `scores`."""
        return self.scores[0] - self.rest[-1] if self.rest else 0.0

    @property
    def spread(self) -> float:
        """The range of the scores of the rest."""
        return self.rest[-1] - self.rest[0] if self.rest else 0.0

    @property
    def is_outlying(self) -> bool:
        """Whether the gap is larger than the spread of the rest, so that the images look unlike the others."""
        return len(self.rest) >= MIN_OTHERS and self.gap > self.spread


def support(calibration: Calibration) -> Support | None:
    """The images that determine the threshold; None if it was set by hand or there is no good image."""
    number, rate = calibration.num_images, calibration.false_alarm_rate
    if not number or rate is None:
        return None
    first = number - conformal_rank(number, rate)
    rest = calibration.good_scores[:first]
    threshold_without = conformal_threshold(rest, max(rate, smallest_rate(first))) if rest else None
    return Support(calibration.good_scores[first:], calibration.images[first:], rest, threshold_without)


def num_above(scores: Sequence[float], threshold: float) -> int:
    """The number of scores that exceed the threshold."""
    return int((np.asarray(scores, np.float64) > threshold).sum())


def exceed_too_often(former: Calibration, scores: Sequence[float]) -> bool:
    """Whether more of these scores of good images exceed the former threshold than chance explains (binomial test)."""
    from scipy.stats import binom  # deferred: predicting does not need scipy

    above = num_above(scores, former.threshold)
    bound = false_alarm_bound(former.threshold, former.good_scores)
    return bool(above and bound < 1 and binom.sf(above - 1, len(scores), bound) < SIGNIFICANCE)
