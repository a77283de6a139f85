"""The part of a page's data on one run and category: images, thresholds, decisions and curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from blemish.inference.previews import Preview
from blemish.metrics import OperatingPoints
from blemish.report.page_images import PageImages, maps_of
from blemish.report.read_runs import Part

DIGITS = 5
"""Significant digits of the points of a curve."""
SHOWN_PIXEL_RATE = 0.01
"""Without calibration and masks: the fraction of the good test images' area above the pixel threshold."""
JsonDict = dict[str, Any]
"""A dict that JSON can represent."""


def part_summary(part: Part, page_images: PageImages) -> JsonDict:
    """The data of one part: its images, thresholds, counts of decisions, and curves.

    "counts" is from `confusion_counts` for labelled images, otherwise from `decision_counts`; None without a threshold.
    """
    evaluation, record = part.evaluation, part.report_data
    images = _images(part, page_images)
    threshold = image_threshold(part, images)
    count = confusion_counts if is_labelled(part) else decision_counts
    return {
        "method": evaluation.method,
        "category": evaluation.category,
        "images": images,
        "held_out": held_out_scores(part),
        "threshold": threshold,
        "counts": count(images, threshold["value"]) if images and threshold["value"] is not None else None,
        "pixel_threshold": pixel_threshold(part),
        "map_range": page_images.ranges.get((evaluation.method, evaluation.category)),
        "display_range": page_images.display.get((evaluation.method, evaluation.category)),
        "points": _plain_points(record.points),
        "metrics": {name: value for name, value in evaluation.metrics.items() if value is not None},
    }


def is_labelled(part: Part) -> bool:
    """Whether all images have labels."""
    return all(row["label"] is not None for row in part.evaluation.images)


def _images(part: Part, page_images: PageImages) -> list[JsonDict]:
    """The data of each image; with its regions if they were found with the present calibration."""
    evaluation, previews = part.evaluation, {shown.path: shown for shown in part.report_data.previews}
    images = []
    for row in evaluation.images:
        image = {"path": row["path"], "defect": row["defect"], "label": row["label"], "score": row["score"]}
        shown = page_images.shown.get((evaluation.method, evaluation.category, row["path"]))
        if shown:
            kept = previews[row["path"]]
            image |= {"picture": shown.picture, "map": shown.map, "reconstruction": shown.reconstruction}
            image |= {"size": list(kept.size), "outline": kept.outline} | _regions(part, kept)
        images.append(image)
    return images


def _regions(part: Part, kept: Preview) -> JsonDict:
    """The regions of at least the minimum area, and whether there is any; empty if unknown."""
    if not part.calibration or part.report_data.regions_by is None or kept.regions is None:
        return {}
    (level, former_min_area), min_area = part.report_data.regions_by, part.calibration["min_area"]
    if level != part.calibration["pixel_threshold"] or former_min_area > min_area:
        return {}
    regions = [region for region in kept.regions if region["area"] >= min_area]
    is_complete = len(kept.regions) == kept.num_regions
    found: JsonDict = {}
    if is_complete or former_min_area == min_area:
        found = {"regions": regions, "num_regions": len(regions) if is_complete else kept.num_regions}
    if min_area and (regions or is_complete or kept.largest_region is not None):
        found["has_region"] = bool(regions) or (not is_complete and (kept.largest_region or 0) >= min_area)
    return found


def is_defect(row: JsonDict, threshold: float) -> bool:
    """Whether an image is classified as a defect: its score exceeds the threshold, and it has a required region."""
    return bool(row["score"] > threshold and row.get("has_region", True))


def confusion_counts(rows: Sequence[JsonDict], threshold: float) -> JsonDict:
    """The confusion matrix of labelled images at a threshold, with precision and recall (None if undefined)."""
    outcomes = [(bool(row["label"]), is_defect(row, threshold)) for row in rows]
    found, missed = outcomes.count((True, True)), outcomes.count((True, False))
    alarms, passed = outcomes.count((False, True)), outcomes.count((False, False))
    return {
        "found": found,
        "missed": missed,
        "false_alarms": alarms,
        "passed": passed,
        "precision": found / (found + alarms) if found + alarms else None,
        "recall": found / (found + missed) if found + missed else None,
    }


def decision_counts(rows: Sequence[JsonDict], threshold: float) -> JsonDict:
    """The numbers of images without labels that are classified as defect and as good."""
    defects = sum(is_defect(row, threshold) for row in rows)
    return {"defects": defects, "good": len(rows) - defects}


def image_threshold(part: Part, images: Sequence[JsonDict]) -> JsonDict:
    """The initial threshold of the page and its origin in words; the value is None without calibration and labels."""
    calibration = part.calibration
    if calibration:
        text = _origin(calibration) + _least_area(calibration["min_area"], images)
        return {
            "value": calibration["threshold"],
            "calibrated": True,
            "rate": calibration["false_alarm_rate"],
            "text": text,
        }
    found: JsonDict = {"value": None, "calibrated": False, "rate": None}
    if is_labelled(part):
        text = "not calibrated: the threshold with the highest F1 on these test images, chosen with their labels"
        return found | {"value": best_threshold(part.evaluation.images), "text": text}
    text = "the model is not calibrated, so no image is classified until you choose a threshold here"
    return found | {"text": f"{text}; 'blemish calibrate' computes one from good images"}


def _origin(calibration: JsonDict) -> str:
    rate, number = calibration["false_alarm_rate"], len(calibration["good_scores"])
    if rate is None:
        return "set by hand"
    good, held_out = (f"{number} {kind}{'' if number == 1 else 's'}" for kind in ("good image", "held-out good image"))
    if calibration.get("method") == "folds":
        return (
            f"chosen on {good}, each scored by a detector fitted without it, for a false-alarm rate of about {rate:.2%}"
        )
    return f"calibrated on {held_out} for a false-alarm rate of at most {rate:.2%}"


def _least_area(min_area: int, images: Sequence[JsonDict]) -> str:
    """How a minimum area affects the counts, in words."""
    if not min_area:
        return ""
    pixels = f"{min_area} pixel{'' if min_area == 1 else 's'}"
    unknown = sum("has_region" not in image for image in images)
    text = f"; an image without a region of {pixels} above the pixel threshold is good too"
    if unknown == len(images):
        return f"{text}, which is ignored here, because the regions at this threshold are unknown"
    return f"{text}, which is ignored for {unknown} of them" if unknown else text


def best_threshold(rows: Sequence[JsonDict]) -> float:
    """The score threshold with the highest F1, half-way between two scores."""
    scores = sorted({row["score"] for row in rows})
    if not scores:
        return 0.0
    below = [scores[0] - (scores[-1] - scores[0] or 1.0) / 100, *scores[:-1]]
    candidates = [(low + high) / 2 for low, high in zip(below, scores, strict=True)]
    return float(max([*candidates, scores[-1]], key=lambda value: (_f1(confusion_counts(rows, value)), value)))


def pixel_threshold(part: Part) -> JsonDict:
    """The initial pixel threshold of the page and its origin in words."""
    calibration, points = part.calibration, part.report_data.points
    if calibration:
        rate = calibration["pixel_rate"]
        text = f"calibrated: {rate:.2%} of the held-out good images' area is above it" if rate else "set by hand"
        return {"value": calibration["pixel_threshold"], "calibrated": True, "text": text}
    if points is not None:
        sums = points.precision + points.recall
        f1 = np.divide(2 * points.precision * points.recall, sums, out=np.zeros_like(sums), where=sums > 0)
        text = "not calibrated: about the highest F1 of the test pixels, chosen with their masks"
        return {"value": float(points.thresholds[int(np.argmax(f1))]), "calibrated": False, "text": text}
    good = {row["path"] for row in part.evaluation.images if row["label"] is False}
    maps = maps_of([shown for shown in part.report_data.previews if shown.path in good or not good])
    value = float(np.quantile(np.concatenate([shown.ravel() for shown in maps]), 1 - SHOWN_PIXEL_RATE)) if maps else 0.0
    whose = "the good test images' area" if good else "these images' area"
    text = f"not calibrated: {SHOWN_PIXEL_RATE:.0%} of {whose} is above it"
    return {"value": value, "calibrated": False, "text": text}


def held_out_scores(part: Part) -> list[float]:
    """The scores of the held-out good images; empty if unknown."""
    calibration = part.calibration or {}
    return list(calibration.get("good_scores") or [row["score"] for row in part.evaluation.validation])


def _plain_points(points: OperatingPoints | None) -> JsonDict | None:
    if points is None:
        return None
    columns = {
        "threshold": (points.thresholds, DIGITS + 2),
        "fpr": (points.false_positive_rate, DIGITS),
        "recall": (points.recall, DIGITS),
        "precision": (points.precision, DIGITS),
        "overlap": (points.overlap, DIGITS),
    }
    return {name: [float(f"{value:.{digits}g}") for value in values] for name, (values, digits) in columns.items()}


def _f1(counts: JsonDict) -> float:
    found, wrong = counts["found"], counts["missed"] + counts["false_alarms"]
    return float(2 * found / (2 * found + wrong)) if found else 0.0
