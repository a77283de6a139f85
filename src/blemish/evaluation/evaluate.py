"""Evaluating predictions: every metric, on raw scores and on maps of each image file's size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.data.kept import NOTHING_KEPT, KeptImages
from blemish.evaluation.official import Measured, official_figures
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.mask_sources import read_defects
from blemish.imaging.roi import Roi, masked_by_roi
from blemish.metrics import (
    METRICS,
    Metric,
    NotApplicable,
    OperatingPoints,
    Ranking,
    Regions,
    Resamples,
    evaluate_rankings,
    operating_points,
    rank_images,
    rank_labelled,
    resample,
)
from blemish.metrics.ranking import Mask
from blemish.types import Evaluation, MaskFiles, Prediction, Sample

NUM_RESAMPLES = 1000
"""The default number of bootstrap resamples."""


@dataclass(frozen=True, slots=True)
class EvaluationDetails:
    """An evaluation with the bootstrap resamples and the operating points behind its intervals and curves."""

    evaluation: Evaluation
    resamples: dict[str, Resamples] = field(default_factory=dict)
    """Metric name -> its values on the resamples; empty unless requested."""
    points: OperatingPoints | None = None
    """Rates of the pixels at descending thresholds; None if pixel metrics are not applicable."""


def evaluate(
    predictions: Iterable[Prediction],
    samples: Sequence[Sample],
    *,
    method: str,
    category: str,
    root: Path,
    num_resamples: int = 0,
    roi: Roi | None = None,
    pixel_threshold: float | None = None,
    layout: str = "",
    kept: KeptImages = NOTHING_KEPT,
) -> Evaluation:
    """The metrics of the predictions; the arguments are those of `evaluate_in_detail`."""
    options: Any = {"method": method, "category": category, "root": root, "num_resamples": num_resamples, "roi": roi}
    options |= {"pixel_threshold": pixel_threshold, "layout": layout, "kept": kept}
    return evaluate_in_detail(predictions, samples, **options).evaluation


def evaluate_in_detail(
    predictions: Iterable[Prediction],
    samples: Sequence[Sample],
    *,
    method: str,
    category: str,
    root: Path,
    num_resamples: int = 0,
    roi: Roi | None = None,
    pixel_threshold: float | None = None,
    kept: KeptImages = NOTHING_KEPT,
    layout: str = "",
) -> EvaluationDetails:
    """The metrics of predictions, which are in the order of `samples` and are consumed one at a time.

    Paths in the result are relative to `root`. Pixels outside of the region of interest do not count, and an image
    whose defect is entirely outside counts as good. With `num_resamples`, each metric has a 95 % confidence interval
    from that many bootstrap resamples of the images. SegF1 takes pixels above `pixel_threshold` as detected. A metric
    without its input (the threshold for SegF1, saturation areas for AU-sPRO) is left out of the evaluation; one that
    is not defined for these images is None. Without samples there are no metrics. Masks come from `kept`, or else from
    their files. `layout` names the data set, whose official figures are added.
    """
    if not samples:
        return EvaluationDetails(Evaluation(method, category, {}))
    rows: list[dict[str, Any]] = []
    labels = [_has_defect(sample, roi, kept) for sample in samples]
    pixels = rank_labelled(labels, _pairs(zip(predictions, labels, strict=True), rows, root, roi, kept))
    images = rank_images(labels, [row["score"] for row in rows])
    reported = None if pixel_threshold is None else float(np.nextafter(np.float32(pixel_threshold), np.float32(np.inf)))
    found = evaluate_rankings(images, pixels, pixel_threshold=reported)
    values = {name: value for name, value in found.items() if _has_input(METRICS[name], pixels, reported)}
    resamples = _resamples([images, pixels], num_resamples, reported) if num_resamples else {}
    metrics = {name: value.value for name, value in values.items()}
    evaluation = Evaluation(
        method,
        category,
        metrics,
        {name: value.reason for name, value in values.items() if value.reason},
        {name: (found.interval().low, found.interval().high) for name, found in resamples.items()},
        rows,
        official=official_figures(layout, Measured(rows, pixels, metrics)),
    )
    return EvaluationDetails(evaluation, resamples, _points(pixels))


def _has_defect(sample: Sample, roi: Roi | None, kept: KeptImages) -> bool:
    """Whether the image is labelled anomalous and, if it has a mask, the mask marks the region of interest."""
    if roi is None or sample.mask is None or not sample.label:
        return bool(sample.label)
    mask = kept.mask(sample.mask)
    return bool(mask[roi.inside((mask.shape[0], mask.shape[1]))].any())


def _pairs(
    labelled: Iterable[tuple[Prediction, bool]],
    rows: list[dict[str, Any]],
    root: Path,
    roi: Roi | None,
    kept: KeptImages,
) -> Iterator[tuple[Mask, NDArray[Any]]]:
    """The mask and the map of each prediction; appends a row per image to `rows`."""
    for prediction, label in labelled:
        sample = prediction.sample
        path = sample.image.relative_to(root).as_posix()
        rows.append({"path": path, "defect": sample.defect, "label": label, "score": prediction.score})
        limit = max(MAX_PIXELS, prediction.map.size)  # a mask may be as large as its image
        yield _mask_of(sample, kept, limit), masked_by_roi(prediction.map, roi)


def _mask_of(sample: Sample, kept: KeptImages, limit: int) -> Mask:
    """The sample's mask, as `Regions` where its data set gives the defects saturation areas."""
    if isinstance(sample.mask, MaskFiles) and sample.mask.saturations:
        return Regions(*read_defects(sample.mask, limit))
    return kept.mask(sample.mask, limit) if sample.mask else None


def _has_input(metric: Metric, pixels: Ranking | str, pixel_threshold: float | None) -> bool:
    """Whether the metric's input other than masks and maps is given."""
    if metric.curve == "spro":
        return not isinstance(pixels, str) and pixels.has_saturation_areas
    return metric.curve != "decision" or pixel_threshold is not None


def _resamples(
    rankings: Iterable[Ranking | str], num_resamples: int, pixel_threshold: float | None
) -> dict[str, Resamples]:
    """Metric name -> its resamples, for all applicable metrics."""
    options: Any = {"num_resamples": num_resamples, "threshold": pixel_threshold}
    parts = [resample(ranking, **options) for ranking in rankings if not isinstance(ranking, str)]
    return {name: found for part in parts for name, found in part.items()}


def _points(pixels: Ranking | str) -> OperatingPoints | None:
    try:
        return None if isinstance(pixels, str) else operating_points(pixels)
    except NotApplicable:
        return None
