"""From predictions to figures: every metric of the table on raw scores, at each file's own size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.data.category import Category
from blemish.data.kept import NOTHING_KEPT, KeptImages
from blemish.errors import BlemishError
from blemish.files import read_bytes
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.read import read_image
from blemish.imaging.roi import Roi, counted
from blemish.metrics import (
    METRICS,
    Metric,
    NotApplicable,
    OperatingPoints,
    Ranking,
    Resamples,
    evaluate_rankings,
    operating_points,
    rank_images,
    rank_labelled,
    resample,
)
from blemish.types import Evaluation, Prediction, Sample

NUM_RESAMPLES = 1000
MAP_SUFFIXES = (".tiff", ".tif", ".npy")


@dataclass(frozen=True, slots=True)
class Measured:
    """An evaluation, and what its figures, intervals and curves were made of."""

    evaluation: Evaluation
    resamples: dict[str, Resamples] = field(default_factory=dict)
    """Metric -> its resamples, where that was asked for."""
    points: OperatingPoints | None = None
    """Of the pixels, at falling thresholds; None where pixel metrics are not applicable."""


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
) -> Evaluation:
    """The figures of the predictions, and nothing else; see `measure`."""
    options: Any = {"method": method, "category": category, "root": root, "num_resamples": num_resamples, "roi": roi}
    return measure(predictions, samples, **options, pixel_threshold=pixel_threshold).evaluation


def measure(
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
) -> Measured:
    """The figures of the predictions of `samples`, which come one at a time and in the same order.

    Paths are given relative to `root`. Pixels outside of the region of interest do not count, and an image whose
    defect lies there altogether counts as good. With `num_resamples`, each figure has a 95 % confidence interval
    from so many bootstrap resamples of the images. Pixels above `pixel_threshold` are those reported, for SegF1. A
    metric whose input is not given (SegF1 that threshold, AU-sPRO saturation areas) is no part of the evaluation; one
    that is not defined for these images is None. Where there are no samples, there is no metric. Masks are taken from
    what was `kept` of them, or else read.
    """
    if not samples:
        return Measured(Evaluation(method, category, {}))
    rows: list[dict[str, Any]] = []
    labels = [_has_defect(sample, roi, kept) for sample in samples]
    pixels = rank_labelled(labels, _pairs(zip(predictions, labels, strict=True), rows, root, roi, kept))
    images = rank_images(labels, [row["score"] for row in rows])
    reported = None if pixel_threshold is None else float(np.nextafter(np.float32(pixel_threshold), np.float32(np.inf)))
    found = evaluate_rankings(images, pixels, pixel_threshold=reported)
    values = {name: value for name, value in found.items() if _has_input(METRICS[name], pixels, reported)}
    resamples = _resamples([images, pixels], num_resamples, reported) if num_resamples else {}
    evaluation = Evaluation(
        method,
        category,
        {name: value.value for name, value in values.items()},
        {name: value.reason for name, value in values.items() if value.reason},
        {name: (found.interval().low, found.interval().high) for name, found in resamples.items()},
        rows,
    )
    return Measured(evaluation, resamples, _points(pixels))


def predictions_from_maps(maps_path: Path, category: Category) -> Iterator[Prediction]:
    """The anomaly maps that another program wrote of the test images, the score being the maximum of the map.

    The layout is that of the official MVTec AD evaluation: `<maps_path>/<category>/test/<type>/<stem>.tiff`; .tif and
    .npy are read too. Raises BlemishError where a map is missing, unreadable, or not of its image's size.
    """
    for sample in category.of("test"):
        inner = sample.image.relative_to(category.root).with_suffix("")
        base = maps_path / category.name / "test" / (inner.relative_to("test") if inner.parts[0] == "test" else inner)
        anomaly_map = _read_map(base)
        expected = read_image(sample.image, max(MAX_PIXELS, anomaly_map.size)).shape[:2]
        if anomaly_map.shape != expected:
            shapes = " x ".join(map(str, anomaly_map.shape)), " x ".join(map(str, expected))
            raise BlemishError(f"{base}: the map is {shapes[0]}, its image {shapes[1]}. Save maps at the images' size.")
        yield Prediction(sample, float(anomaly_map.max()), anomaly_map)


def _read_map(base: Path) -> NDArray[Any]:
    path = next((path for suffix in MAP_SUFFIXES if (path := Path(f"{base}{suffix}")).is_file()), None)
    if path is None:
        raise BlemishError(f"{base}.tiff: no such map (nor .tif or .npy). Every test image needs one.")
    try:
        if path.suffix == ".npy":
            content = np.load(BytesIO(read_bytes(path)), allow_pickle=False)
        else:
            content = cv2.imdecode(np.frombuffer(read_bytes(path), np.uint8), cv2.IMREAD_UNCHANGED)
    except (EOFError, ValueError, cv2.error):  # numpy would advise to run what is in the file
        content = None
    if not isinstance(content, np.ndarray) or content.ndim != 2 or content.dtype.kind not in "biuf":
        raise BlemishError(f"{path}: not a map of one channel of numbers. Write it as float32 TIFF or as .npy.")
    if not np.isfinite(content).all():
        raise BlemishError(f"{path}: has values that are no finite numbers. Write a map without them.")
    return content


def _has_defect(sample: Sample, roi: Roi | None, kept: KeptImages) -> bool:
    """Whether the image is labelled anomalous and, where that is known, is so within the region of interest."""
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
) -> Iterator[tuple[NDArray[np.bool_] | None, NDArray[Any]]]:
    """Mask and map of each prediction; what is known of the image is put into `rows` on the way."""
    for prediction, label in labelled:
        sample = prediction.sample
        path = sample.image.relative_to(root).as_posix()
        rows.append({"path": path, "defect": sample.defect, "label": label, "score": prediction.score})
        limit = max(MAX_PIXELS, prediction.map.size)  # of an image that was taken, its mask is
        yield kept.mask(sample.mask, limit) if sample.mask else None, counted(prediction.map, roi)


def _has_input(metric: Metric, pixels: Ranking | str, pixel_threshold: float | None) -> bool:
    """Whether what the metric needs beside masks and maps is there."""
    if metric.curve == "spro":
        return not isinstance(pixels, str) and pixels.has_saturation_areas
    return metric.curve != "decision" or pixel_threshold is not None


def _resamples(
    rankings: Iterable[Ranking | str], num_resamples: int, pixel_threshold: float | None
) -> dict[str, Resamples]:
    """Metric -> its resamples, for those that are applicable."""
    options: Any = {"num_resamples": num_resamples, "threshold": pixel_threshold}
    parts = [resample(ranking, **options) for ranking in rankings if not isinstance(ranking, str)]
    return {name: found for part in parts for name, found in part.items()}


def _points(pixels: Ranking | str) -> OperatingPoints | None:
    try:
        return None if isinstance(pixels, str) else operating_points(pixels)
    except NotApplicable:
        return None
