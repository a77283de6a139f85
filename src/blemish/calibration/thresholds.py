"""Thresholds for image scores and anomaly maps, computed from the scores of held-out good images.

The score threshold is chosen by split conformal prediction (Vovk et al. 2005, "Algorithmic Learning in a Random
World"). Given n held-out good images and a false-alarm rate, let k = floor((n + 1) * rate). A new good image that is
exchangeable with the held-out ones scores above their k-th largest score with probability at most k / (n + 1),
whatever the detector. The probability includes the random choice of the held-out images: it holds on average over
such choices, not for each of them. The threshold lies slightly above the k-th largest score, so that rounding errors
cannot put the image with that score on the other side. This can only lower the probability.

Nothing here imports torch, and no function changes a score.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.errors import BlemishError

FALSE_ALARM_RATE = 0.01
PIXEL_RATE = 0.001
"""The default rates."""
PIXEL_RATES = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001)
"""Fractions of the good images' area. The map value of each is stored, so that another rate needs no images."""
PROFILE_LENGTH = 16384
"""Number of map values kept per good image while the pixel levels are computed."""
MARGIN = 1e-3
"""The most by which a threshold exceeds its score, as a fraction of the largest score: a tolerance for runtimes."""
HISTORY_LENGTH = 3
"""Number of earlier calibrations that are stored for undo."""
Method = Literal["split", "folds"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """The thresholds, and the good images' scores that they were computed from."""

    threshold: float
    """An image whose score is greater is a defect."""
    pixel_threshold: float
    """A pixel whose map value is greater belongs to a defect region."""
    false_alarm_rate: float | None
    """The rate that the threshold was chosen for, in (0, 1); None for a threshold set by hand."""
    pixel_rate: float | None
    """The fraction of the good images' area above the pixel threshold; None for a threshold set by hand."""
    good_scores: tuple[float, ...]
    """Scores of good images that were not used for training, in ascending order."""
    pixel_levels: tuple[float, ...]
    """One map value per entry of PIXEL_RATES (see the function `pixel_levels`); empty without good images."""
    min_area: int = 0
    """The smallest defect region in pixels; smaller ones are ignored."""
    method: Method = "split"
    """split: scores of held-out images. folds: of training images, each by a detector fitted without its fold."""
    defect_scores: tuple[float, ...] = ()
    """Scores of images labelled anomalous, in ascending order. They never influence a threshold."""
    images: tuple[str, ...] = ()
    """The file of each entry of `good_scores`; empty if not recorded."""
    left_out: tuple[str, ...] = ()
    """Files of good images whose scores the user excluded."""
    previous: tuple[Calibration, ...] = field(default=(), compare=False)
    """Earlier calibrations, the latest first."""

    @property
    def num_images(self) -> int:
        """Number of good images that have a score."""
        return len(self.good_scores)


def calibrate(
    good_scores: Sequence[float],
    pixel_levels: Sequence[float],
    rate: float = FALSE_ALARM_RATE,
    *,
    method: Method = "split",
    images: Sequence[str] = (),
) -> Calibration:
    """The calibration for a false-alarm rate.

    Args:
        good_scores: Scores of good images that were not used for training.
        pixel_levels: From the function `pixel_levels`, on the same images.
        rate: The false-alarm rate, in (0, 1).
        method: How the scores were obtained; see `Calibration.method`.
        images: The file of each score, in the same order; may be empty.

    Raises BlemishError if there are too few images for the rate.
    """
    order = sorted(range(len(good_scores)), key=good_scores.__getitem__)
    scores = tuple(float(good_scores[row]) for row in order)
    threshold, pixel_threshold = conformal_threshold(scores, rate), _level(pixel_levels, PIXEL_RATE)
    levels, names = tuple(float(level) for level in pixel_levels), tuple(images[row] for row in order if images)
    return Calibration(threshold, pixel_threshold, rate, PIXEL_RATE, scores, levels, method=method, images=names)


def with_thresholds(
    calibration: Calibration,
    *,
    false_alarm_rate: float | None = None,
    threshold: float | None = None,
    pixel_rate: float | None = None,
    pixel_threshold: float | None = None,
    min_area: int | None = None,
) -> Calibration:
    """A copy of the calibration with other thresholds; an argument of None leaves its field unchanged.

    A rate computes the threshold from the stored scores or levels, a threshold is used as given. Raises BlemishError
    for a rate that the number of images does not support, and for a threshold that is not finite.
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


def with_history(calibration: Calibration, former: Calibration | None) -> Calibration:
    """A copy of the calibration whose `previous` holds `former` and its history, at most HISTORY_LENGTH entries."""
    if former is None:
        return calibration
    latest = () if former == calibration else (replace(former, previous=()),)
    return replace(calibration, previous=(*latest, *former.previous)[:HISTORY_LENGTH])


def conformal_threshold(good_scores: Sequence[float], rate: float) -> float:
    """The score that good images exceed with probability at most `rate`.

    It is slightly greater than the k-th largest of `good_scores` (see `conformal_rank`), and at most half-way to the
    next greater score. Raises BlemishError if there are too few scores for the rate.
    """
    ascending = np.sort(np.asarray(good_scores, np.float64))
    kth_largest = ascending[-conformal_rank(ascending.size, rate)]
    greater = ascending[ascending > kth_largest]
    half_way = (greater[0] - kth_largest) / 2 if greater.size else math.inf
    margin = min(MARGIN * np.abs(ascending).max(), half_way)
    return float(max(kth_largest + margin, np.nextafter(kth_largest, math.inf)))


def conformal_rank(number: int, rate: float) -> int:
    """k = min(floor((n + 1) * rate), n) for n = `number` scores: the threshold is based on the k-th largest score.

    Raises BlemishError if the rate is not in (0, 1), or n is too small for it, which makes k zero.
    """
    if not 0 < rate < 1:
        raise BlemishError(f"false-alarm-rate: {rate:g} was given; allowed is more than 0 and less than 1.")
    rank = math.floor((number + 1) * rate + 1e-9)  # in floating point 100 * 0.29 < 29
    if rank == 0:
        raise BlemishError(
            f"false-alarm-rate: {number} held-out good images support {smallest_rate(number):.2g} at the least, "
            f"{rate:g} needs {num_images_for(rate)}. Ask for more, give more good images, or use folds."
        )
    return min(rank, number)


def smallest_rate(num_images: int) -> float:
    """The smallest false-alarm rate that this number of held-out good images supports: 1 / (n + 1)."""
    return 1 / (num_images + 1)


def num_images_for(rate: float) -> int:
    """The smallest number of held-out good images that supports a false-alarm rate."""
    return math.ceil(1 / rate - 1e-9) - 1


def p_value(score: float, good_scores: ArrayLike) -> float:
    """The conformal p-value (1 + #{good scores >= score}) / (n + 1), in (0, 1].

    It bounds the probability that a good image scores at least this high. For a score above the threshold of a
    false-alarm rate it is at most that rate.
    """
    scores = np.asarray(good_scores)
    return float(1 + (scores >= score).sum()) / (scores.size + 1)


def false_alarm_bound(threshold: float, good_scores: ArrayLike) -> float:
    """A bound on the probability that a good image exceeds the threshold: (1 + #{scores > threshold}) / (n + 1)."""
    scores = np.asarray(good_scores)
    return float(1 + (scores > threshold).sum()) / (scores.size + 1)


def miss_rate(defect_scores: ArrayLike, threshold: float) -> tuple[float, float, float]:
    """The fraction of the defects that score at most the threshold, and the ends of its 95 % confidence interval.

    Source of the interval: C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits", 1934.
    """
    from scipy.stats import beta  # deferred: predicting does not need scipy

    scores = np.asarray(defect_scores)
    missed, number = int((scores <= threshold).sum()), scores.size
    low = float(beta.ppf(0.025, missed, number - missed + 1)) if missed else 0.0
    high = float(beta.ppf(0.975, missed + 1, number - missed)) if missed < number else 1.0
    return missed / number, low, high


def pixel_levels(maps: Iterable[NDArray[Any]]) -> list[float]:
    """For each rate in PIXEL_RATES the map value above which that fraction of the good images' area lies.

    Args:
        maps: Anomaly maps (H, W) of good images, possibly of different sizes. Every image has the same weight. Pixels
            that a masked array masks are ignored.

    The fraction is an average over the given images. Unlike the score threshold it is no bound for the next image,
    because the pixels of one image are not independent. Raises BlemishError without any map.
    """
    profiles = [_profile(values) for values in maps]
    if not profiles:
        raise BlemishError("there is no map of a good image to calibrate with; at least one is needed.")
    descending = np.sort(np.concatenate(profiles))[::-1]
    return [float(descending[int(rate * descending.size)]) for rate in PIXEL_RATES]


def _profile(values: NDArray[Any]) -> NDArray[np.float32]:
    """PROFILE_LENGTH values of the map at evenly spaced ranks, in descending order, beginning with the maximum."""
    pixels = values.compressed() if isinstance(values, np.ma.MaskedArray) else values.reshape(-1)
    descending = np.sort(pixels)[::-1]
    ranks = np.arange(PROFILE_LENGTH) * descending.size // PROFILE_LENGTH
    return np.asarray(descending[ranks], np.float32)


def _level(levels: Sequence[float], rate: float) -> float:
    if rate not in PIXEL_RATES:
        allowed = ", ".join(f"{allowed:g}" for allowed in PIXEL_RATES)
        raise BlemishError(f"pixel-rate: {rate:g} was given; allowed are {allowed}. Or set the pixel threshold.")
    if not levels:
        raise BlemishError("pixel-rate: no good images were held out. Give good images, or set the pixel threshold.")
    return float(levels[PIXEL_RATES.index(rate)])


def _finite(value: float, name: str) -> float:
    if not math.isfinite(value):
        raise BlemishError(f"{name}: {value} was given; a finite number is needed.")
    return float(value)


def to_dict(calibration: Calibration) -> dict[str, Any]:
    """The calibration as plain data, as stored in model.json."""
    return asdict(calibration)


def from_dict(content: dict[str, Any]) -> Calibration:
    """The inverse of `to_dict`; raises ValueError, TypeError or KeyError for content that is not a calibration."""
    former = content.get("previous") or ()
    if len(former) > HISTORY_LENGTH or any(one.get("previous") for one in former):
        raise ValueError("previous is not a list of earlier calibrations")
    return replace(_from_dict(content), previous=tuple(map(_from_dict, former)))


def _from_dict(content: dict[str, Any]) -> Calibration:
    numbers = {name: _numbers(content[name]) for name in ("good_scores", "pixel_levels", "defect_scores")}
    names = {name: _names(content.get(name) or ()) for name in ("images", "left_out")}
    calibration = Calibration(**content | numbers | names | {"previous": ()})
    thresholds = _numbers([calibration.threshold, calibration.pixel_threshold])
    _numbers(rate for rate in (calibration.false_alarm_rate, calibration.pixel_rate) if rate is not None)
    is_valid = (
        len(calibration.pixel_levels) in (0, len(PIXEL_RATES))
        and isinstance(calibration.min_area, int)
        and calibration.min_area >= 0
        and len(calibration.images) in (0, calibration.num_images)
        and calibration.method in get_args(Method)
    )
    if not is_valid:
        raise ValueError("not a calibration")
    return replace(calibration, threshold=thresholds[0], pixel_threshold=thresholds[1])


def _names(values: Sequence[Any]) -> tuple[str, ...]:
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise TypeError("a file name is not a string")
    return tuple(values)


def _numbers(values: Iterable[Any]) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a number is not finite")
    return numbers
