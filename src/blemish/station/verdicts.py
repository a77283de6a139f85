"""Two thresholds: from a score and a map to good, review or defect, and what the thresholds promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from blemish.calibration.decisions import find_regions
from blemish.calibration.thresholds import Calibration, conformal_threshold, false_alarm_bound, p_value
from blemish.station.tables import Decision
from blemish.types import Prediction, Region

Verdict = Literal["good", "review", "defect"]
REVIEW_RATE = 0.05
"""The default rate at which good images are sent to a reviewer, where enough images are held out for it."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on an image, the p-value of its score, and its regions, the highest peak first."""

    verdict: Verdict
    p_value: float
    regions: list[dict[str, Any]]
    found: tuple[Region, ...] | None = None
    """All regions, also those that are too small to count; None where they were not needed for the verdict."""


def judge(prediction: Prediction, decision: Decision, good_scores: Sequence[float]) -> Judged:
    """The verdict of a decision on an image.

    A score above `defect_threshold` is a defect, one above `review_threshold` is for review. With a minimum area, an
    image without a region of that area is good.
    """
    verdict = verdict_of(prediction.score, decision)
    found = None if verdict == "good" else find_regions(prediction.map, decision.pixel_threshold)
    regions = [asdict(region) for region in found or () if region.area >= decision.min_area]
    verdict = verdict if regions or not decision.min_area else "good"
    return Judged(verdict, p_value(prediction.score, good_scores), regions, found)


def verdict_of(score: float, decision: Decision, areas: Sequence[int] | None = None) -> Verdict:
    """The verdict on a score; `areas` are those of the image's regions, None where the minimum area is not asked."""
    if areas is not None and decision.min_area and not any(area >= decision.min_area for area in areas):
        return "good"
    if score > decision.defect_threshold:
        return "defect"
    return "review" if score > decision.review_threshold else "good"


def first_decision(calibration: Calibration, who: str) -> Decision:
    """The decision that a new model starts with: the calibration's threshold, and below it one for review."""
    number = calibration.num_images
    rate = min(max(REVIEW_RATE, 2 / (number + 1)), 0.5)
    lower = min(conformal_threshold(calibration.good_scores, rate), calibration.threshold)
    return Decision(
        number=1,
        review_threshold=lower,
        defect_threshold=calibration.threshold,
        pixel_threshold=calibration.pixel_threshold,
        min_area=calibration.min_area,
        created_by=who,
    )


def promise(good_scores: Sequence[float], threshold: float) -> float:
    """The bound on the probability that a good image like the held-out ones scores above the threshold."""
    return false_alarm_bound(threshold, good_scores)


def plain(decision: Decision) -> dict[str, Any]:
    """The thresholds of a decision as plain data."""
    names = ("review_threshold", "defect_threshold", "pixel_threshold", "min_area")
    return {name: getattr(decision, name) for name in names}
