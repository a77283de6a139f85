"""From scores to decisions: thresholds from held-out good images, at the false-alarm rate that the user chose.

Split conformal prediction (Vovk et al. 2005, "Algorithmic Learning in a Random World"): a good image that is
exchangeable with n held-out good ones scores above the k-th largest of their scores, k = floor((n + 1) rate), with a
chance of at most k / (n + 1), whatever the detector. The chance is over the draw of the held-out images too: it holds
on average, not for each draw.

Nothing here needs torch, and nothing changes a score.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.errors import BlemishError
from blemish.types import Decision, Prediction, Region

FALSE_ALARM_RATE = 0.01
PIXEL_RATE = 0.001
"""What is asked for where nothing else is."""
PIXEL_RATES = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001)
"""Parts of the good images' area whose levels are kept, so that the choice can be changed without the images."""
PROFILE_LENGTH = 16384
"""Values by which the map of one good image is kept until the levels are known."""
Method = Literal["split", "folds"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How scores become decisions, and the scores of good images that say how good that is. Plain data."""

    threshold: float
    """An image that scores above it is a defect."""
    pixel_threshold: float
    """A pixel of the map above it belongs to a defect region."""
    false_alarm_rate: float | None
    """What the threshold was chosen for; None where it was set by hand."""
    pixel_rate: float | None
    """The part of the good images' area that lies above the pixel threshold; None where it was set by hand."""
    good_scores: tuple[float, ...]
    """Of good images that the detector has not learned from, in rising order."""
    pixel_levels: tuple[float, ...]
    """Of the maps of these images, one for each of PIXEL_RATES; none where there are no good images."""
    min_area: int = 0
    """Pixels that a defect region has at least; smaller ones do not count."""
    method: Method = "split"
    """split: images that were held out. folds: each image by a detector that was fitted without it."""
    defect_scores: tuple[float, ...] = ()
    """Of images labelled anomalous, in rising order. No threshold is ever chosen by them."""

    @property
    def num_images(self) -> int:
        """Number of good images."""
        return len(self.good_scores)


def calibrate(
    good_scores: Sequence[float],
    pixel_levels: Sequence[float],
    rate: float = FALSE_ALARM_RATE,
    *,
    method: Method = "split",
) -> Calibration:
    """The calibration from scores of good images that the detector has not learned from; see `pixel_levels`.

    Raises BlemishError where there are too few images for the rate.
    """
    scores = tuple(sorted(float(score) for score in good_scores))
    threshold, pixel_threshold = conformal_threshold(scores, rate), _level(pixel_levels, PIXEL_RATE)
    levels = tuple(float(level) for level in pixel_levels)
    return Calibration(threshold, pixel_threshold, rate, PIXEL_RATE, scores, levels, method=method)


def changed(
    calibration: Calibration,
    *,
    false_alarm_rate: float | None = None,
    threshold: float | None = None,
    pixel_rate: float | None = None,
    pixel_threshold: float | None = None,
    min_area: int | None = None,
) -> Calibration:
    """The calibration with other thresholds; what is None stays. No image is needed.

    A threshold that is given stands as it is; a rate chooses one. Raises BlemishError for a rate that the images do not
    support.
    """
    if false_alarm_rate is not None:
        level = conformal_threshold(calibration.good_scores, false_alarm_rate)
        calibration = replace(calibration, threshold=level, false_alarm_rate=false_alarm_rate)
    if threshold is not None:
        calibration = replace(calibration, threshold=_finite(threshold, "threshold"), false_alarm_rate=None)
    if pixel_rate is not None:
        level = _level(calibration.pixel_levels, pixel_rate)
        calibration = replace(calibration, pixel_threshold=level, pixel_rate=pixel_rate)
    if pixel_threshold is not None:
        level = _finite(pixel_threshold, "pixel-threshold")
        calibration = replace(calibration, pixel_threshold=level, pixel_rate=None)
    return calibration if min_area is None else replace(calibration, min_area=min_area)


def conformal_threshold(good_scores: Sequence[float], rate: float) -> float:
    """The k-th largest score, k = floor((n + 1) rate): a good image scores above it with a chance of at most `rate`.

    Raises BlemishError where n images do not support the rate: k is then 0.
    """
    if not 0 < rate < 1:
        raise BlemishError(f"false-alarm-rate: {rate:g} was given; allowed is more than 0 and less than 1.")
    number = len(good_scores)
    rank = math.floor((number + 1) * rate + 1e-9)  # 100 times 0.29 is a little less than 29 to a computer
    if rank == 0:
        raise BlemishError(
            f"false-alarm-rate: {number} held-out good images support {smallest_rate(number):.2g} at the least, "
            f"{rate:g} needs {num_images_for(rate)}. Ask for more, give more good images (--images), or use --folds."
        )
    return float(np.sort(good_scores)[number - min(rank, number)])


def smallest_rate(num_images: int) -> float:
    """The smallest false-alarm rate that so many held-out good images support."""
    return 1 / (num_images + 1)


def num_images_for(rate: float) -> int:
    """The number of held-out good images that a false-alarm rate needs."""
    return math.ceil(1 / rate - 1e-9) - 1


def p_value(score: float, good_scores: ArrayLike) -> float:
    """The chance at most of a good image to score so high: (1 + #{good scores >= score}) / (n + 1).

    It is at most the false-alarm rate exactly where the score is above the rate's threshold.
    """
    scores = np.asarray(good_scores)
    return float(1 + (scores >= score).sum()) / (scores.size + 1)


def false_alarm_bound(threshold: float, good_scores: ArrayLike) -> float:
    """The chance at most of a good image to score above the threshold: (1 + #{good scores > threshold}) / (n + 1)."""
    scores = np.asarray(good_scores)
    return float(1 + (scores > threshold).sum()) / (scores.size + 1)


def miss_rate(defect_scores: ArrayLike, threshold: float) -> tuple[float, float, float]:
    """The part of the defects that is not found, and the ends of its 95 % interval.

    Source of the interval: C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits", 1934.
    """
    from scipy.stats import beta  # inspecting does without it

    scores = np.asarray(defect_scores)
    missed, number = int((scores <= threshold).sum()), scores.size
    low = float(beta.ppf(0.025, missed, number - missed + 1)) if missed else 0.0
    high = float(beta.ppf(0.975, missed + 1, number - missed)) if missed < number else 1.0
    return missed / number, low, high


def pixel_levels(maps: Iterable[NDArray[Any]]) -> list[float]:
    """For each of PIXEL_RATES the level above which that part of the good images' area lies, all images counting alike.

    The maps may differ in size; of a masked array the masked pixels do not count. It is an average over the images at
    hand, without a guarantee for the next one: the pixels of an image stand or fall together.
    """
    profiles = [_profile(values) for values in maps]
    if not profiles:
        raise BlemishError("there is no map of a good image to calibrate with; at least one is needed.")
    pooled = np.sort(np.concatenate(profiles))[::-1]
    return [float(pooled[int(rate * pooled.size)]) for rate in PIXEL_RATES]


def _profile(values: NDArray[Any]) -> NDArray[np.float32]:
    """PROFILE_LENGTH values of the map, falling, evenly spaced by rank; each is the highest of those it stands for."""
    pixels = values.compressed() if isinstance(values, np.ma.MaskedArray) else values.reshape(-1)
    falling = np.sort(pixels)[::-1]
    return np.asarray(falling[np.arange(PROFILE_LENGTH) * falling.size // PROFILE_LENGTH], np.float32)


def _level(levels: Sequence[float], rate: float) -> float:
    if rate not in PIXEL_RATES:
        allowed = ", ".join(f"{allowed:g}" for allowed in PIXEL_RATES)
        raise BlemishError(f"pixel-rate: {rate:g} was given; allowed are {allowed}. Or set --pixel-threshold.")
    if not levels:
        raise BlemishError("pixel-rate: no good images were held out. Give --images FOLDER, or set --pixel-threshold.")
    return float(levels[PIXEL_RATES.index(rate)])


def _finite(value: float, name: str) -> float:
    if not math.isfinite(value):
        raise BlemishError(f"{name}: {value} was given; a finite number is needed.")
    return float(value)


def decide(prediction: Prediction, calibration: Calibration) -> Decision:
    """Whether the image is a defect, how rare its score is among good images, and where the defects are.

    Where a minimum area is set, an image without a region so large is no defect: that can only take false alarms away.
    """
    above = prediction.score > calibration.threshold
    found = find_regions(prediction.map, calibration.pixel_threshold, calibration.min_area) if above else ()
    is_defect = above and (calibration.min_area == 0 or bool(found))
    return Decision(is_defect, p_value(prediction.score, calibration.good_scores), found)


def find_regions(anomaly_map: NDArray[np.float32], threshold: float, min_area: int = 0) -> tuple[Region, ...]:
    """The 8-connected parts of the map (H, W) that lie above the threshold, the highest peak first."""
    import cv2

    lit = (anomaly_map > threshold).view(np.uint8)
    x, y, columns, rows = cv2.boundingRect(lit)
    if not columns:
        return ()
    around = slice(y, y + rows), slice(x, x + columns)  # labelling takes the more time the more there is
    near = anomaly_map[around]
    number, labels, stats, centroids = cv2.connectedComponentsWithStats(lit[around], connectivity=8)
    regions = []
    for label in range(1, number):
        left, top, width, height, area = (int(value) for value in stats[label])
        if area < min_area:
            continue
        own = slice(top, top + height), slice(left, left + width)
        inside = np.where(labels[own] == label, near[own], -np.inf)
        row, column = np.unravel_index(int(inside.argmax()), inside.shape)
        box, peak_at = (x + left, y + top, width, height), (x + left + int(column), y + top + int(row))
        centre = x + float(centroids[label][0]), y + float(centroids[label][1])
        regions.append(Region(box, area, float(inside.max()), peak_at, centre))
    return tuple(sorted(regions, key=lambda region: -region.peak))


def to_plain(calibration: Calibration) -> dict[str, Any]:
    """The calibration as it stands in model.json."""
    return asdict(calibration)


def from_plain(content: dict[str, Any]) -> Calibration:
    """What `to_plain` made; raises ValueError, TypeError or KeyError where it was something else."""
    calibration = Calibration(
        **content | {name: _numbers(content[name]) for name in ("good_scores", "pixel_levels", "defect_scores")}
    )
    thresholds = _numbers([calibration.threshold, calibration.pixel_threshold])
    _numbers(rate for rate in (calibration.false_alarm_rate, calibration.pixel_rate) if rate is not None)
    has_levels = len(calibration.pixel_levels) in (0, len(PIXEL_RATES))
    has_area = isinstance(calibration.min_area, int) and calibration.min_area >= 0
    if not has_levels or not has_area or calibration.method not in get_args(Method):
        raise ValueError("not a calibration")
    return replace(calibration, threshold=thresholds[0], pixel_threshold=thresholds[1])


def _numbers(values: Iterable[Any]) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a number that is not finite")
    return numbers
