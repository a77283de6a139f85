"""The decisions on the images of a part, as plain data: the thresholds, and what they make of the scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from blemish.inference.previews import Preview
from blemish.metrics import OperatingPoints
from blemish.reporting.pictures import Album, maps_of
from blemish.reporting.read import Part

DIGITS = 5
"""Significant digits of a curve's points: more than a screen shows."""
SHOWN_PIXEL_RATE = 0.01
"""Without calibration and masks: the part of the good test images' area that the pixel threshold leaves lit."""
Plain = dict[str, Any]


def part_summary(part: Part, album: Album) -> Plain:
    """One part of a page: its images, thresholds, what they make of the images, and curves.

    `counts` are those of `counts_at` where the images are labelled, else of `called_at`; None where nothing decides.
    """
    evaluation, record = part.evaluation, part.record
    images = _images(part, album)
    threshold = image_threshold(part, images)
    count = counts_at if is_labelled(part) else called_at
    return {
        "method": evaluation.method,
        "category": evaluation.category,
        "images": images,
        "held_out": held_out_scores(part),
        "threshold": threshold,
        "counts": count(images, threshold["value"]) if images and threshold["value"] is not None else None,
        "pixel_threshold": pixel_threshold(part),
        "map_range": album.ranges.get((evaluation.method, evaluation.category)),
        "display_range": album.display.get((evaluation.method, evaluation.category)),
        "points": _plain_points(record.points),
        "metrics": {name: value for name, value in evaluation.metrics.items() if value is not None},
    }


def is_labelled(part: Part) -> bool:
    """Whether it is known which images are defects."""
    return all(row["label"] is not None for row in part.evaluation.images)


def _images(part: Part, album: Album) -> list[Plain]:
    """What is shown of each image; its regions where it is still calibrated as it was when they were found."""
    evaluation, previews = part.evaluation, {shown.path: shown for shown in part.record.previews}
    images = []
    for row in evaluation.images:
        image = {"path": row["path"], "defect": row["defect"], "label": row["label"], "score": row["score"]}
        shown = album.shown.get((evaluation.method, evaluation.category, row["path"]))
        if shown:
            kept = previews[row["path"]]
            image |= {"picture": shown.picture, "map": shown.map, "reconstruction": shown.reconstruction}
            image |= {"size": list(kept.size), "outline": kept.outline} | _regions(part, kept)
        images.append(image)
    return images


def _regions(part: Part, kept: Preview) -> Plain:
    """The regions that count, and whether there is one (where a minimum area is set); empty where it is not known."""
    if not part.calibration or part.record.regions_by is None or kept.regions is None:
        return {}
    (level, least), min_area = part.record.regions_by, part.calibration["min_area"]
    if level != part.calibration["pixel_threshold"] or least > min_area:
        return {}
    regions = [region for region in kept.regions if region["area"] >= min_area]
    is_complete = len(kept.regions) == kept.num_regions
    found: Plain = {}
    if is_complete or least == min_area:
        found = {"regions": regions, "num_regions": len(regions) if is_complete else kept.num_regions}
    if min_area and (regions or is_complete or kept.largest_region is not None):
        found["has_region"] = bool(regions) or (not is_complete and (kept.largest_region or 0) >= min_area)
    return found


def is_defect(row: Plain, threshold: float) -> bool:
    """Whether an image is called a defect: above the threshold, and not without a region where one is needed."""
    return bool(row["score"] > threshold and row.get("has_region", True))


def counts_at(rows: Sequence[Plain], threshold: float) -> Plain:
    """The confusion matrix of labelled images at a threshold.

    Precision and recall are None where nothing is called a defect, or nothing is one.
    """
    called = [(bool(row["label"]), is_defect(row, threshold)) for row in rows]
    found, missed = called.count((True, True)), called.count((True, False))
    alarms, passed = called.count((False, True)), called.count((False, False))
    return {
        "found": found,
        "missed": missed,
        "false_alarms": alarms,
        "passed": passed,
        "precision": found / (found + alarms) if found + alarms else None,
        "recall": found / (found + missed) if found + missed else None,
    }


def called_at(rows: Sequence[Plain], threshold: float) -> Plain:
    """What images without labels are called at a threshold."""
    defects = sum(is_defect(row, threshold) for row in rows)
    return {"defects": defects, "good": len(rows) - defects}


def image_threshold(part: Part, images: Sequence[Plain]) -> Plain:
    """The threshold that the page opens with, and where it comes from; its value is None where nothing decides."""
    calibration = part.calibration
    if calibration:
        text = _origin(calibration) + _least_area(calibration["min_area"], images)
        return {
            "value": calibration["threshold"],
            "calibrated": True,
            "rate": calibration["false_alarm_rate"],
            "text": text,
        }
    found: Plain = {"value": None, "calibrated": False, "rate": None}
    if is_labelled(part):
        text = "not calibrated: the threshold of the highest F1 on these test images, chosen with their labels known"
        return found | {"value": best_threshold(part.evaluation.images), "text": text}
    text = "the model is not calibrated, so nothing is called a defect until you choose a threshold here"
    return found | {"text": f"{text}; 'blemish calibrate' chooses one by good images"}


def _origin(calibration: Plain) -> str:
    rate, number = calibration["false_alarm_rate"], len(calibration["good_scores"])
    if rate is None:
        return "set by hand"
    good, held_out = (f"{number} {kind}{'' if number == 1 else 's'}" for kind in ("good image", "held-out good image"))
    if calibration.get("method") == "folds":
        return f"chosen on {good}, each scored without having been learned, for about {rate:.2%}"
    return f"calibrated on {held_out} for a false-alarm rate of at most {rate:.2%}"


def _least_area(min_area: int, images: Sequence[Plain]) -> str:
    """What a minimum area means for the counts."""
    if not min_area:
        return ""
    pixels = f"{min_area} pixel{'' if min_area == 1 else 's'}"
    unknown = sum("has_region" not in image for image in images)
    text = f"; an image without a region of {pixels} above the level passes too"
    if unknown == len(images):
        return f"{text}, which is not counted here: the regions at this level are not known"
    return f"{text}, which is not counted for {unknown} of them" if unknown else text


def best_threshold(rows: Sequence[Plain]) -> float:
    """A score above which calling images defects gives the highest F1, half-way to the next lower score."""
    scores = sorted({row["score"] for row in rows})
    if not scores:
        return 0.0
    below = [scores[0] - (scores[-1] - scores[0] or 1.0) / 100, *scores[:-1]]
    candidates = [(low + high) / 2 for low, high in zip(below, scores, strict=True)]
    return float(max([*candidates, scores[-1]], key=lambda value: (_f1(counts_at(rows, value)), value)))


def pixel_threshold(part: Part) -> Plain:
    """The level above which a pixel of a map is drawn as anomalous, and where it comes from."""
    calibration, points = part.calibration, part.record.points
    if calibration:
        rate = calibration["pixel_rate"]
        text = f"calibrated: {rate:.2%} of the held-out good images' area lies above" if rate else "set by hand"
        return {"value": calibration["pixel_threshold"], "calibrated": True, "text": text}
    if points is not None:
        sums = points.precision + points.recall
        f1 = np.divide(2 * points.precision * points.recall, sums, out=np.zeros_like(sums), where=sums > 0)
        text = "not calibrated: about the highest F1 of the test pixels, chosen with their masks known"
        return {"value": float(points.thresholds[int(np.argmax(f1))]), "calibrated": False, "text": text}
    good = {row["path"] for row in part.evaluation.images if row["label"] is False}
    maps = maps_of([shown for shown in part.record.previews if shown.path in good or not good])
    value = float(np.quantile(np.concatenate([shown.ravel() for shown in maps]), 1 - SHOWN_PIXEL_RATE)) if maps else 0.0
    whose = "the good test images' area" if good else "these images' area"
    text = f"not calibrated: {SHOWN_PIXEL_RATE:.0%} of {whose} lies above"
    return {"value": value, "calibrated": False, "text": text}


def held_out_scores(part: Part) -> list[float]:
    """The scores of the held-out good images, as far as they are known."""
    calibration = part.calibration or {}
    return list(calibration.get("good_scores") or [row["score"] for row in part.evaluation.validation])


def _plain_points(points: OperatingPoints | None) -> Plain | None:
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


def _f1(counts: Plain) -> float:
    found, wrong = counts["found"], counts["missed"] + counts["false_alarms"]
    return float(2 * found / (2 * found + wrong)) if found else 0.0
