"""From what runs left on disk to plain data: every figure of the page, before anything is drawn."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

import blemish
from blemish.errors import number_of
from blemish.evaluation.results import AVERAGE, applicable, average_interval, average_of
from blemish.metrics import METRICS, OperatingPoints
from blemish.report.compare import best_of
from blemish.report.health import CHECKS
from blemish.report.pictures import Album
from blemish.report.read import Part, Run, categories_of
from blemish.runs.config import RunConfig
from blemish.types import GOOD

FIRST = "pixel_auroc"
"""The metric that a page opens with, where it is applicable."""
DIGITS = 5
"""Significant digits of a curve's points: more than a screen shows."""
SHOWN_PIXEL_RATE = 0.01
"""Without calibration and masks: the part of the good test images' area that the pixel threshold leaves lit."""
Plain = dict[str, Any]


def summarize(runs: Sequence[Run], album: Album) -> Plain:
    """Everything that the page shows: lists, dicts, numbers and strings, ready for JSON."""
    evaluations = [part.evaluation for run in runs for part in run.parts]
    names = applicable(evaluations)
    return {
        "blemish": blemish.__version__,
        "methods": [run.label for run in runs],
        "categories": categories_of(runs),
        "metrics": [
            {"name": name, "title": METRICS[name].title, "direction": METRICS[name].direction} for name in names
        ],
        "first_metric": FIRST if FIRST in names else next(iter(names), None),
        "overview": {name: overview(name, runs) for name in names},
        "cost": [cost(run) for run in runs],
        "parts": [part_summary(part, album) for run in runs for part in run.parts],
        "pictures": album.addresses,
        "health": health(runs),
        "provenance": [provenance(run) for run in runs],
    }


def overview(metric: str, runs: Sequence[Run]) -> list[Plain]:
    """A row per category and one for the average, a cell per run; `best` where it is significantly the best."""
    rows = []
    for category in [*categories_of(runs), None]:
        best = best_of(metric, runs, category)
        cells = [_cell(metric, run, category) | {"best": run.label == best} for run in runs]
        rows.append({"category": category or AVERAGE, "cells": cells})
    return rows


def _cell(metric: str, run: Run, category: str | None) -> Plain:
    if category is None:
        evaluations = [part.evaluation for part in run.parts]
        interval = average_interval(evaluations, run.label, metric)
        return {"value": average_of(evaluations, run.label, metric), "interval": interval, "reason": ""}
    part = run.part(category)
    if part is None:
        return {"value": None, "interval": None, "reason": "not run"}
    evaluation = part.evaluation
    return {
        "value": evaluation.metrics.get(metric),
        "interval": evaluation.intervals.get(metric),
        "reason": evaluation.reasons.get(metric, "no test images"),
    }


def cost(run: Run) -> Plain:
    """What the run took: seconds of fitting over all categories, milliseconds per image of predicting."""
    fit = [part.evaluation.durations["fit"] for part in run.parts if "fit" in part.evaluation.durations]
    timed = [part.evaluation for part in run.parts if part.evaluation.durations.get("predict")]
    images = sum(len(evaluation.images) for evaluation in timed)
    seconds = sum(evaluation.durations["predict"] for evaluation in timed)
    return {
        "method": run.label,
        "fit_seconds": sum(fit) if fit else None,
        "milliseconds": 1000 * seconds / images if images else None,
        "num_images": images,
    }


def part_summary(part: Part, album: Album) -> Plain:
    """One run on one category: its images, thresholds, counts at them, and curves."""
    evaluation, record = part.evaluation, part.record
    images = _images(part, album)
    threshold = image_threshold(part)
    return {
        "method": evaluation.method,
        "category": evaluation.category,
        "images": images,
        "held_out": held_out_scores(part),
        "threshold": threshold,
        "counts": counts_at(evaluation.images, threshold["value"]) if images else None,
        "pixel_threshold": pixel_threshold(part),
        "map_range": album.ranges.get((evaluation.method, evaluation.category)),
        "display_range": album.display.get((evaluation.method, evaluation.category)),
        "points": _plain_points(record.points),
        "metrics": {name: value for name, value in evaluation.metrics.items() if value is not None},
    }


def _images(part: Part, album: Album) -> list[Plain]:
    """What is shown of each test image; its regions where it is still calibrated as it was when they were found."""
    evaluation, previews = part.evaluation, {shown.path: shown for shown in part.record.previews}
    calibration = part.calibration or {}
    by = calibration.get("pixel_threshold"), calibration.get("min_area")
    images = []
    for row in evaluation.images:
        image = {"path": row["path"], "defect": row["defect"], "label": bool(row["label"]), "score": row["score"]}
        shown = album.shown.get((evaluation.method, evaluation.category, row["path"]))
        if shown:
            kept = previews[row["path"]]
            image |= {"picture": shown.picture, "map": shown.map, "reconstruction": shown.reconstruction}
            image |= {"size": list(kept.size), "outline": kept.outline}
            image |= {"regions": kept.regions, "num_regions": kept.num_regions} if by == part.record.regions_by else {}
        images.append(image)
    return images


def counts_at(rows: Sequence[Plain], threshold: float) -> Plain:
    """The confusion matrix of the images where those that score above the threshold are called defects.

    Precision and recall are None where nothing is called a defect, or nothing is one.
    """
    called = [(bool(row["label"]), row["score"] > threshold) for row in rows]
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


def image_threshold(part: Part) -> Plain:
    """The threshold that the page opens with, and where it comes from."""
    calibration = part.calibration
    if calibration:
        rate, number = calibration["false_alarm_rate"], len(calibration["good_scores"])
        good = number_of(number, "held-out good image")
        chosen = f"calibrated on {good} for a false-alarm rate of at most {rate or 0:.2%}"
        if calibration.get("method") == "folds":
            good = number_of(number, "good image")
            chosen = f"chosen on {good}, each scored without having been learned, for about {rate or 0:.2%}"
        text = "set by hand" if rate is None else chosen
        if calibration["min_area"]:
            text += (
                f"; pictures without a region of {calibration['min_area']} pixels pass too, which is not counted here"
            )
        return {"value": calibration["threshold"], "calibrated": True, "rate": rate, "text": text}
    text = "not calibrated: the threshold of the highest F1 on these test images, chosen with their labels known"
    return {"value": best_threshold(part.evaluation.images), "calibrated": False, "rate": None, "text": text}


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
    good = {row["path"] for row in part.evaluation.images if not row["label"]}
    maps = [shown.map.ravel() for shown in part.record.previews if shown.path in good or not good]
    value = float(np.quantile(np.concatenate(maps), 1 - SHOWN_PIXEL_RATE)) if maps else 0.0
    text = f"not calibrated: {SHOWN_PIXEL_RATE:.0%} of the good test images' area lies above"
    return {"value": value, "calibrated": False, "text": text}


def held_out_scores(part: Part) -> list[float]:
    """The scores of the held-out good images, as far as they are known."""
    calibration = part.calibration or {}
    return list(calibration.get("good_scores") or [row["score"] for row in part.evaluation.validation])


def health(runs: Sequence[Run]) -> list[Plain]:
    """Every check on every run and category; equal findings of several runs on one category stand once."""
    checks = []
    for code, (title, check) in CHECKS.items():
        findings: dict[tuple[str, str, str], Plain] = {}
        for run in runs:
            for part in run.parts:
                found, category = check(part), part.evaluation.category
                row = {"category": category, "status": found.status, "text": found.text, "paths": list(found.paths)}
                key = category, found.status, found.text
                findings.setdefault(key, row | {"methods": []})["methods"].append(run.label)
        rows = sorted(findings.values(), key=lambda row: row["category"])
        checks.append({"code": code, "title": title, "status": _worst(rows), "findings": rows})
    return checks


def _worst(rows: Sequence[Plain]) -> str:
    found = {row["status"] for row in rows}
    return next(status for status in ("warning", "ok", "not applicable") if status in found)


def provenance(run: Run) -> Plain:
    """Where a run came from, and the command that runs it again."""
    facts = next((part.record.facts for part in run.parts if "config" in part.record.facts), {})
    categories = [part.evaluation.category for part in run.parts]
    hidden = {"data_path", "ckpt_path", "category", "resume"}
    return {
        "method": run.label,
        "folder": str(run.folder),
        "command": command(facts["config"], categories) if facts else None,
        "config": {name: value for name, value in facts.get("config", {}).items() if name not in hidden},
        "versions": facts.get("versions", {}),
        "machine": facts.get("machine", {}),
        "categories": [
            {
                "category": part.evaluation.category,
                "data_sha256": part.record.facts.get("data_sha256"),
                "num_train": _count(part, "train"),
                "num_held_out": _count(part, "val"),
                "num_test": len(part.evaluation.images),
                "num_anomalous": sum(row["defect"] != GOOD for row in part.evaluation.images),
                "durations": part.evaluation.durations,
            }
            for part in run.parts
        ],
    }


def command(config: Plain, categories: Sequence[str]) -> str:
    """The command that reproduces a run with this configuration: what differs from the defaults."""
    fields = RunConfig.model_fields
    defaults = {name: field.default for name, field in fields.items()}
    given = {
        name: value
        for name, value in config.items()
        if name in ("model", "seed", "data_path", "ckpt_path")
        or (name not in ("options", "category", "resume", "figures") and value != defaults.get(name))
    }
    words = ["blemish", "train"]
    for name, value in (given | config["options"]).items():
        words += _flag(name, value)
    for category in categories:
        words += ["--category", category]
    return shlex.join(words)


def _flag(name: str, value: Any) -> list[str]:
    """The words that set a field or an option on the command line."""
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", *map(str, value if isinstance(value, list | tuple) else [value])]


def _count(part: Part, split: str) -> int | None:
    rows = part.record.facts.get("images")
    return None if rows is None else sum(row["split"] == split for row in rows)


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
