"""Which good images a threshold rests on, what it would be without them, and whether other images look defective.

Pure functions of calibrations, for a person to judge by; none changes a threshold by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from blemish.calibration.thresholds import (
    Calibration,
    conformal_rank,
    conformal_threshold,
    false_alarm_bound,
    smallest_rate,
)
from blemish.errors import BlemishError

FEWEST = 5
"""Images that the spread of the rest is told by, at least."""
SURPRISE = 0.01
"""Chance below which it is no chance that so many of the good images that are given are above a threshold."""


@dataclass(frozen=True, slots=True)
class Support:
    """The good images that set a threshold: those at the rank that it was chosen by, and those above."""

    scores: tuple[float, ...]
    """Theirs, in rising order: by the first the threshold was chosen."""
    images: tuple[str, ...]
    """Their files; none where that was not recorded."""
    rest: tuple[float, ...]
    """The scores of all others, in rising order."""
    without: float | None
    """The threshold for the same rate (or the smallest that is supported) without them; None where nothing is left."""

    @property
    def gap(self) -> float:
        """How far the first of them lies above the rest."""
        return self.scores[0] - self.rest[-1] if self.rest else 0.0

    @property
    def spread(self) -> float:
        """The range of the rest."""
        return self.rest[-1] - self.rest[0] if self.rest else 0.0

    @property
    def is_apart(self) -> bool:
        """Whether they move the threshold by more than the spread of the rest: they look unlike the other images."""
        return len(self.rest) >= FEWEST and self.gap > self.spread


def support(calibration: Calibration) -> Support | None:
    """What sets the calibration's threshold; None where it was set by hand, or there is no good image."""
    number, rate = calibration.num_images, calibration.false_alarm_rate
    if not number or rate is None:
        return None
    first = number - conformal_rank(number, rate)
    rest = calibration.good_scores[:first]
    without = conformal_threshold(rest, max(rate, smallest_rate(first))) if rest else None
    return Support(calibration.good_scores[first:], calibration.images[first:], rest, without)


def without(calibration: Calibration, images: Collection[str]) -> Calibration:
    """The calibration without the scores of these images, its threshold chosen anew.

    The rate stays, or is the smallest that the others support; the levels of pixels stay, since they are of all maps
    together. Raises BlemishError where no image is left.
    """
    rows = [row for row, image in enumerate(calibration.images) if image not in images]
    if not rows:
        raise BlemishError("leave-out: no good image would be left to choose a threshold by. Leave fewer out.")
    scores, kept = tuple(calibration.good_scores[row] for row in rows), tuple(calibration.images[row] for row in rows)
    left_out = tuple(dict.fromkeys([*calibration.left_out, *sorted(images)]))
    reduced = replace(calibration, good_scores=scores, images=kept, left_out=left_out)
    if calibration.false_alarm_rate is None:
        return reduced
    rate = max(calibration.false_alarm_rate, smallest_rate(len(rows)))
    return replace(reduced, threshold=conformal_threshold(scores, rate), false_alarm_rate=rate)


def num_above(scores: Sequence[float], threshold: float) -> int:
    """How many of the scores are those of defects by this threshold."""
    return int((np.asarray(scores, np.float64) > threshold).sum())


def look_defective(former: Calibration, scores: Sequence[float]) -> bool:
    """Whether more of these scores of good images are above the former threshold than chance explains."""
    from scipy.stats import binom  # inspecting does without it

    above = num_above(scores, former.threshold)
    bound = false_alarm_bound(former.threshold, former.good_scores)
    return bool(above and bound < 1 and binom.sf(above - 1, len(scores), bound) < SURPRISE)
