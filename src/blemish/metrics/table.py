"""The table of all metrics, and the evaluation that goes through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal, get_args

from numpy.typing import ArrayLike

from blemish.errors import BlemishError, check_new_name, shown
from blemish.metrics import figures
from blemish.metrics.figures import Points
from blemish.metrics.pimo import PIMO_BOUNDS, mean_aupimo
from blemish.metrics.points import CurveName, exact_points
from blemish.metrics.ranking import Mask, Ranking, rank_images, rank_pixels
from blemish.metrics.scores import MetricInputError, NotApplicable, check_labels

SPRO_LIMITS = (0.01, 0.05, 0.1, 0.3, 1.0)
"""The limits at which MVTec LOCO reports AU-sPRO."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure: which curve it reads and how. Called with a ranking, it gives the value in [0, 1]."""

    level: Literal["image", "pixel"]
    direction: Literal["higher", "lower"]
    """Which is better."""
    title: str
    """As it stands in the head of a table."""
    curve: CurveName
    figure: Callable[[Points, Points], Points]
    """(x, y) of the shape (..., P) -> (...)."""
    exact: Callable[[Ranking], float] | None = None
    """What to use for the value itself where it is more than a figure of the curve."""

    def __call__(self, ranking: Ranking, threshold: float | None = None) -> float:
        """Return the exact value.

        Args:
            ranking: Of pixels or of images, as the level says.
            threshold: For the metrics of one decision: the score from which on a pixel is reported.

        Raises:
            NotApplicable: The metric is not defined for this set; the message says why.
        """
        if self.exact is not None:
            return self.exact(ranking)
        return float(self.figure(*exact_points(ranking, self.curve, threshold)))


@dataclass(frozen=True, slots=True)
class Value:
    """What a metric is on a set: a number, or the reason why there is none."""

    value: float | None
    """In [0, 1]; None where the metric is not applicable."""
    reason: str = ""
    """Why it is not applicable; empty where it is."""


def _aupro(limit: float) -> Metric:
    figure = partial(figures.area_under, limit=limit)
    return Metric("pixel", "higher", f"AUPRO {limit:.0%}".replace("%", " %"), "pro", figure)


def _au_spro(limit: float) -> Metric:
    figure = partial(figures.area_under, limit=limit)
    return Metric("pixel", "higher", f"AU-sPRO {limit:.0%}".replace("%", " %"), "spro", figure)


def _aupimo(bounds: tuple[float, float]) -> Metric:
    figure = partial(figures.log_area_under, bounds=bounds)
    exact = partial(mean_aupimo, bounds=bounds)
    return Metric("pixel", "higher", "AUPIMO", "pimo", figure, exact)


_METRICS: dict[str, Metric] = {
    "image_auroc": Metric("image", "higher", "image AUROC", "counts", figures.area_under_roc),
    "image_ap": Metric("image", "higher", "image AP", "counts", figures.average_precision),
    "image_f1_max": Metric("image", "higher", "image F1-max", "counts", figures.f1_max),
    "image_fpr_at_full_recall": Metric(
        "image", "lower", "image FPR at full recall", "counts", figures.false_alarms_at_full_recall
    ),
    "pixel_auroc": Metric("pixel", "higher", "pixel AUROC", "counts", figures.area_under_roc),
    "pixel_ap": Metric("pixel", "higher", "pixel AP", "counts", figures.average_precision),
    "pixel_f1_max": Metric("pixel", "higher", "pixel F1-max", "counts", figures.f1_max),
    "aupro": _aupro(0.3),
    "aupro_0.05": _aupro(0.05),
    "aupimo": _aupimo(PIMO_BOUNDS),
    "seg_f1": Metric("pixel", "higher", "SegF1", "decision", figures.first_f1),
    **{f"au_spro_{limit:g}": _au_spro(limit) for limit in SPRO_LIMITS},
}
METRICS: Mapping[str, Metric] = MappingProxyType(_METRICS)
"""Name -> metric, in the order of a table. `blemish.metrics.pixels` and `.images` state the definitions."""


def register_metric(name: str, metric: Metric) -> None:
    """Makes a metric one of the table: every evaluation has it from then on.

    Raises:
        BlemishError: The name is taken, or it is no metric.
    """
    check_new_name("metric", name, METRICS)
    if not isinstance(metric, Metric) or not callable(metric.figure):
        raise BlemishError(f"metric {name}: {shown(metric)} is no blemish.metrics.Metric.")
    fields = {"level": ("image", "pixel"), "direction": ("higher", "lower"), "curve": get_args(CurveName)}
    for field, allowed in fields.items():
        if (given := getattr(metric, field)) not in allowed:
            raise BlemishError(f"metric {name}: {field} is {shown(given)}; allowed are {', '.join(allowed)}.")
    _METRICS[name] = metric


def metric_named(name: str) -> Metric:
    """Return a metric of the table.

    Raises:
        MetricInputError: There is none of this name; the message lists those there are.
    """
    if name not in METRICS:
        raise MetricInputError(f"there is no metric '{name}'; there are {', '.join(METRICS)}")
    return METRICS[name]


def evaluate_all(
    labels: ArrayLike,
    scores: ArrayLike,
    pairs: Iterable[tuple[Mask, ArrayLike]] | None = None,
    *,
    pixel_threshold: float | None = None,
) -> dict[str, Value]:
    """Return every metric of the table for one category.

    Args:
        labels: (n,) 1 or True where the image is anomalous.
        scores: (n,) image scores, higher where more anomalous.
        pairs: (mask, map) per image, as `rank_pixels` takes them; None where there are no maps.
        pixel_threshold: The score from which on a pixel is reported, for SegF1.

    Raises:
        MetricInputError: Something cannot be measured; the message says what, at which index, and what is
            allowed.
    """
    image_ranking = rank_images(labels, scores)
    if pairs is None:
        return evaluate_rankings(image_ranking, "no anomaly maps", pixel_threshold=pixel_threshold)
    return evaluate_rankings(image_ranking, rank_labelled(labels, pairs), pixel_threshold=pixel_threshold)


def rank_labelled(labels: ArrayLike, pairs: Iterable[tuple[Mask, ArrayLike]]) -> Ranking | str:
    """Rank the pixels of labelled images; where an anomalous image has no mask, say so instead.

    Without its mask the pixels of an anomalous image are neither good nor anomalous, and leaving the image
    out would make the figures incomparable with those of the whole set.

    Raises:
        MetricInputError: A good image has a mask that marks pixels, labels and pairs differ in number, or as
            `rank_pixels`.
    """
    anomalous = check_labels(labels)
    masks: list[bool] = []

    def noting_masks() -> Iterable[tuple[Mask, ArrayLike]]:
        for mask, scores in pairs:
            masks.append(mask is not None)
            yield mask, scores

    ranking = rank_pixels(noting_masks())
    if len(masks) != anomalous.size:
        raise MetricInputError(f"there are {anomalous.size} labels, but {len(masks)} maps; one label per map is needed")
    for index, image in enumerate(ranking.images):
        if not anomalous[index] and not image.is_good:
            raise MetricInputError(f"image {index} is labelled good, but its mask marks {image.anomalous.size} pixels")
    unmarked = sum(bool(label) and not marked for label, marked in zip(anomalous, masks, strict=True))
    if unmarked:
        return f"{unmarked} of {int(anomalous.sum())} anomalous images have no mask"
    return ranking


def evaluate_rankings(
    images: Ranking | str, pixels: Ranking | str, *, pixel_threshold: float | None = None
) -> dict[str, Value]:
    """Return every metric of the table; a ranking that could not be made is given as the reason instead."""
    rankings = {"image": images, "pixel": pixels}
    return {name: _value(metric, rankings[metric.level], pixel_threshold) for name, metric in METRICS.items()}


def _value(metric: Metric, ranking: Ranking | str, threshold: float | None) -> Value:
    if isinstance(ranking, str):
        return Value(None, ranking)
    try:
        return Value(metric(ranking, threshold))
    except NotApplicable as reason:
        return Value(None, str(reason))
