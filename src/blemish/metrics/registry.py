"""METRICS, the registry of all metrics, and functions that evaluate all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal

from numpy.typing import ArrayLike

from blemish.metrics import formulas
from blemish.metrics.formulas import Points
from blemish.metrics.pimo import PIMO_BOUNDS, mean_aupimo
from blemish.metrics.points import CurveName, exact_points
from blemish.metrics.ranking import Mask, Ranking, rank_images, rank_pixels
from blemish.metrics.scores import MetricInputError, NotApplicable, check_labels

SPRO_LIMITS = (0.01, 0.05, 0.1, 0.3, 1.0)
"""The limits at which MVTec LOCO reports AU-sPRO."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: a formula of the points of a curve. Calling it with a ranking returns the value in [0, 1]."""

    level: Literal["image", "pixel"]
    direction: Literal["higher", "lower"]
    """Whether a higher or a lower value is better."""
    title: str
    """The name in tables."""
    curve: CurveName
    """The curve that the formula is applied to."""
    formula: Callable[[Points, Points], Points]
    """(x, y) of shape (..., P) -> values of shape (...)."""
    exact: Callable[[Ranking], float] | None = None
    """Computes the exact value of a ranking, if the formula of the curve does not suffice."""

    def __call__(self, ranking: Ranking, threshold: float | None = None) -> float:
        """Return the exact value.

        Args:
            ranking: Of pixels or of images, according to `level`.
            threshold: A pixel with at least this score is predicted anomalous; for metrics of one decision.

        Raises:
            NotApplicable: The metric is undefined for this data set; the message says why.
        """
        if self.exact is not None:
            return self.exact(ranking)
        return float(self.formula(*exact_points(ranking, self.curve, threshold)))


@dataclass(frozen=True, slots=True)
class Value:
    """The value of a metric on a data set, or the reason why it is not applicable."""

    value: float | None
    """In [0, 1]; None if the metric is not applicable."""
    reason: str = ""
    """The reason why it is not applicable; empty if it is."""


def _aupro(limit: float) -> Metric:
    formula = partial(formulas.area_under, limit=limit)
    return Metric("pixel", "higher", f"AUPRO {limit:.0%}".replace("%", " %"), "pro", formula)


def _au_spro(limit: float) -> Metric:
    formula = partial(formulas.area_under, limit=limit)
    return Metric("pixel", "higher", f"AU-sPRO {limit:.0%}".replace("%", " %"), "spro", formula)


def _aupimo(bounds: tuple[float, float]) -> Metric:
    formula = partial(formulas.log_area_under, bounds=bounds)
    exact = partial(mean_aupimo, bounds=bounds)
    return Metric("pixel", "higher", "AUPIMO", "pimo", formula, exact)


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "image_auroc": Metric("image", "higher", "image AUROC", "counts", formulas.area_under_roc),
        "image_ap": Metric("image", "higher", "image AP", "counts", formulas.average_precision),
        "image_f1_max": Metric("image", "higher", "image F1-max", "counts", formulas.f1_max),
        "image_fpr_at_full_recall": Metric(
            "image", "lower", "image FPR at full recall", "counts", formulas.false_alarms_at_full_recall
        ),
        "pixel_auroc": Metric("pixel", "higher", "pixel AUROC", "counts", formulas.area_under_roc),
        "pixel_ap": Metric("pixel", "higher", "pixel AP", "counts", formulas.average_precision),
        "pixel_f1_max": Metric("pixel", "higher", "pixel F1-max", "counts", formulas.f1_max),
        "aupro": _aupro(0.3),
        "aupro_0.05": _aupro(0.05),
        "aupimo": _aupimo(PIMO_BOUNDS),
        "seg_f1": Metric("pixel", "higher", "SegF1", "decision", formulas.first_f1),
        **{f"au_spro_{limit:g}": _au_spro(limit) for limit in SPRO_LIMITS},
    }
)
"""Name -> metric, in the order of a table. `blemish.metrics.pixels` and `.images` state the definitions."""


def metric_named(name: str) -> Metric:
    """Return the metric of this name.

    Raises:
        MetricInputError: There is no metric of this name; the message lists all names.
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
    """Return the value of every metric for one category.

    Args:
        labels: (n,) 1 or True for anomalous images.
        scores: (n,) image scores; higher means more anomalous.
        pairs: (mask, map) per image, as in `rank_pixels`; None without maps.
        pixel_threshold: A pixel with at least this score is predicted anomalous, for SegF1.

    Raises:
        MetricInputError: The input is invalid; the message says what is wrong, at which index, and what is allowed.
    """
    image_ranking = rank_images(labels, scores)
    if pairs is None:
        return evaluate_rankings(image_ranking, "no anomaly maps", pixel_threshold=pixel_threshold)
    return evaluate_rankings(image_ranking, rank_labelled(labels, pairs), pixel_threshold=pixel_threshold)


def rank_labelled(labels: ArrayLike, pairs: Iterable[tuple[Mask, ArrayLike]]) -> Ranking | str:
    """Return the ranking of the pixels of labelled images, or the reason why there is none, as a string.

    An anomalous image without a mask prevents the ranking: its pixels have no labels, and leaving it out would change
    the data set.

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
    """Return the value of every metric; a string in place of a ranking is the reason why there is none."""
    rankings = {"image": images, "pixel": pixels}
    return {name: _value(metric, rankings[metric.level], pixel_threshold) for name, metric in METRICS.items()}


def _value(metric: Metric, ranking: Ranking | str, threshold: float | None) -> Value:
    if isinstance(ranking, str):
        return Value(None, ranking)
    try:
        return Value(metric(ranking, threshold))
    except NotApplicable as reason:
        return Value(None, str(reason))
