"""Finds good images that look unlike the others, and may show a defect, before a detector learns from them.

Each image is scored by a detector that was fitted to others alone (cross-validation), and its score is compared with
those of all by a robust rule. What one round suspects is not learned from in the next, so that one defect does not hide
another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from blemish.data.check import Problem
from blemish.data.source import ImageSource
from blemish.detectors import detector_class
from blemish.detectors.base import Detector
from blemish.errors import number_of
from blemish.imaging.input_size import named
from blemish.inference.inspector import Inspector
from blemish.inference.torch_backend import TorchBackend
from blemish.progress import Progress, no_progress
from blemish.runs.config import FIT_MODEL, RunConfig
from blemish.runs.folds import digests, without_copies
from blemish.types import Prediction, Sample, Size

FOLDS = 3
ROUNDS = 4
"""At most; the search ends with the first round that brings no further suspect."""
FEWEST = 12
"""The fewest different images among which outliers can be told."""
LOWEST = 0.25
"""A score may be 0 or less where normalised distances are averaged; how much lower says nothing of its likes."""
FOLLOWING = 3
"""Images below the limit that are named all the same: a defect that a detector hardly sees is most likely there."""
EXPECTED = 0.5
"""Number of suspects that are expected among good images alone, if the logarithms of their scores vary normally."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A good image, scored by a detector that has not seen it."""

    sample: Sample
    ratio: float
    """Its score, as a multiple of the median of the images that the same detector scored."""
    peak: tuple[int, int]
    """(x, y) of the pixel of its file where the map is highest."""


@dataclass(frozen=True, slots=True)
class Outliers:
    """The good images with their scores, and those that look unlike the others."""

    scored: tuple[Scored, ...]
    """One for each different image; empty where there are too few of them."""
    limit: float
    """The ratio above which an image is a suspect."""

    @property
    def suspects(self) -> list[Scored]:
        """The images above the limit, the highest first."""
        return [found for found in self._by_ratio if found.ratio > self.limit]

    @property
    def summary(self) -> str:
        """How many images look unlike the others, and which come next, in words."""
        if not self.scored:
            return f"outliers: not looked for, since {FEWEST} different good images are needed"
        number, among = len(self.suspects), number_of(len(self.scored), "different good image")
        rest = self._by_ratio[number:][:FOLLOWING]
        following = ", ".join(f"{one.sample.image.name} ({one.ratio:.2f})" for one in rest)
        limit = f"by {self.limit:.2f} times their median score"
        return f"outliers: {number} of {among}, {limit}; the next to look at: {following}"

    @property
    def _by_ratio(self) -> list[Scored]:
        return sorted(self.scored, key=lambda one: -one.ratio)

    @property
    def problems(self) -> list[Problem]:
        """A warning for each suspect: how far it is from the others, and where."""
        return [Problem("warning", found.sample.image, self._reason(found)) for found in self.suspects]

    def _reason(self, found: Scored) -> str:
        much = f"scores {found.ratio:.2f} times the median of the good images, where {self.limit:.2f} is the limit"
        x, y = found.peak
        return f"unlike the other good images: {much}; most at x = {x}, y = {y}. Look whether it is good."


def creator_for(config: RunConfig, size: Size) -> Callable[[], Detector]:
    """A function that makes the detector by which outliers are found: the default of `fit`, for an input of this size.

    A run of that detector makes it with its own options.
    """
    options = config.options if config.model == FIT_MODEL else {}
    return lambda: detector_class(FIT_MODEL).create(**{"size": named(size), **options})


def find_outliers(
    good: ImageSource, create: Callable[[], Detector], seed: int = 0, progress: Progress = no_progress
) -> Outliers:
    """The good images, of which copies count once, with their scores by detectors fitted to the others.

    `create` makes an unfitted detector. With fewer than FEWEST different images there are no scores and no suspects.
    """
    images = without_copies(good)
    if len(images.samples) < FEWEST:
        return Outliers((), math.inf)
    found, suspected = Outliers((), math.inf), frozenset[Sample]()
    for turn in range(ROUNDS):
        rows = []
        for one in _scored(images, create, seed, suspected):
            rows.append(one)
            progress(turn * len(images.samples) + len(rows), ROUNDS * len(images.samples))
        found = Outliers(tuple(rows), limit_of([one.ratio for one in rows]))
        suspects = {one.sample for one in found.suspects}
        if suspects <= suspected:
            break
        suspected |= suspects
    return found


def limit_of(ratios: Sequence[float]) -> float:
    """The ratio that EXPECTED of so many good images exceed: e to the median plus k spreads of the logarithms.

    The spread is that of a normal distribution with the mean distance from the median of the values below it, which
    defects among the images change little; k is the quantile of Student's distribution with as many degrees of freedom.
    A ratio below LOWEST counts as LOWEST.
    """
    from scipy.stats import t as student  # deferred: fitting alone does not need scipy

    logs = np.log(np.maximum(ratios, LOWEST))
    middle = float(np.median(logs))
    below = logs[logs <= middle]
    spread = math.sqrt(math.pi / 2) * float((middle - below).mean())
    return math.exp(middle + float(student.isf(EXPECTED / len(logs), len(below))) * spread)


def without(source: ImageSource, outliers: Outliers) -> ImageSource:
    """The source without the suspects and their copies."""
    content = dict(zip(source.samples, digests(source), strict=True))
    suspected = {content[found.sample] for found in outliers.suspects}
    return source.where(lambda sample: content[sample] not in suspected)


def _scored(
    images: ImageSource, create: Callable[[], Detector], seed: int, suspected: Collection[Sample]
) -> Iterator[Scored]:
    """Every image, scored by a detector fitted to the other folds without those suspected."""
    order = np.random.default_rng(seed).permutation(len(images.samples)).tolist()
    for start in range(FOLDS):
        fold = {images.samples[row] for row in order[start::FOLDS]}
        left = images.where(fold.__contains__)
        others = images.where(lambda sample, fold=fold: sample not in fold and sample not in suspected)  # type: ignore[misc]
        usual = left.where(lambda sample: sample not in suspected)
        usual = usual if len(usual) else left
        detector = create().fit(others, validation=usual, seed=seed)
        found = {
            prediction.sample: (prediction.score, _peak(prediction))
            for prediction in Inspector(TorchBackend(detector), images.preprocess).predict(left)
        }
        yield from _relative(found, usual.samples)


def _relative(found: Mapping[Sample, tuple[float, tuple[int, int]]], usual: Sequence[Sample]) -> Iterator[Scored]:
    """The images of a fold, their scores as multiples of the median of the usual ones."""
    middle = max(median(found[sample][0] for sample in usual), 1e-12)
    return (Scored(sample, score / middle, peak) for sample, (score, peak) in found.items())


def _peak(prediction: Prediction) -> tuple[int, int]:
    row, column = np.unravel_index(int(prediction.map.argmax()), prediction.map.shape)
    return int(column), int(row)
