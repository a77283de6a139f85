"""Summarizing runs as plain data: everything that a page shows, before rendering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import blemish
from blemish.evaluation.columns import columns, value_in, why_not
from blemish.evaluation.results import AVERAGE, average_interval, average_of
from blemish.reporting.command import command
from blemish.reporting.compare import best_of
from blemish.reporting.data_checks import CHECKS
from blemish.reporting.decisions import part_summary
from blemish.reporting.page_images import PageImages
from blemish.reporting.read_runs import Part, Run, categories_of
from blemish.types import GOOD

FIRST = "pixel_auroc"
"""The metric that is selected first, if it is applicable."""
JsonDict = dict[str, Any]


def summarize(runs: Sequence[Run], page_images: PageImages) -> JsonDict:
    """All data of a page, ready for JSON."""
    evaluations = [part.evaluation for run in runs for part in run.parts]
    shown = columns(evaluations)
    names = [one.name for one in shown]
    return {
        "blemish": blemish.__version__,
        "labelled": True,
        "methods": [run.label for run in runs],
        "categories": categories_of(runs),
        "metrics": [one.plain for one in shown],
        "first_metric": FIRST if FIRST in names else next(iter(names), None),
        "overview": {name: overview(name, runs) for name in names},
        "cost": [cost(run) for run in runs],
        "parts": [part_summary(part, page_images) for run in runs for part in run.parts],
        "pictures": page_images.addresses,
        "health": health(runs),
        "provenance": [provenance(run) for run in runs],
    }


def overview(metric: str, runs: Sequence[Run]) -> list[JsonDict]:
    """A row per category and one for the average, with a cell per run; "best" if it is significantly the best."""
    rows = []
    for category in [*categories_of(runs), None]:
        best = best_of(metric, runs, category)
        cells = [_cell(metric, run, category) | {"best": run.label == best} for run in runs]
        rows.append({"category": category or AVERAGE, "cells": cells})
    return rows


def _cell(metric: str, run: Run, category: str | None) -> JsonDict:
    if category is None:
        evaluations = [part.evaluation for part in run.parts]
        interval = average_interval(evaluations, run.label, metric)
        return {"value": average_of(evaluations, run.label, metric), "interval": interval, "reason": ""}
    part = run.part(category)
    if part is None:
        return {"value": None, "interval": None, "reason": "not run"}
    evaluation = part.evaluation
    return {
        "value": value_in(evaluation, metric),
        "interval": evaluation.intervals.get(metric),
        "reason": why_not(evaluation, metric),
    }


def cost(run: Run) -> JsonDict:
    """The run's training time in seconds over all categories, and its prediction time in milliseconds per image."""
    fit = [part.evaluation.durations["fit"] for part in run.parts if "fit" in part.evaluation.durations]
    timed = [part.evaluation for part in run.parts if part.evaluation.durations.get("predict")]
    images = sum(len(evaluation.images) for evaluation in timed)
    seconds = sum(evaluation.durations["predict"] for evaluation in timed)
    return {
        "method": run.label,
        "fit_seconds": sum(fit) if fit else None,
        "num_categories": len(run.parts),
        "milliseconds": 1000 * seconds / images if images else None,
        "num_images": images,
    }


def health(runs: Sequence[Run]) -> list[JsonDict]:
    """The findings of every check on every run and category; equal findings of several runs are merged."""
    checks = []
    for code, (title, check) in CHECKS.items():
        findings: dict[tuple[str, str, str], JsonDict] = {}
        for run in runs:
            for part in run.parts:
                found, category = check(part), part.evaluation.category
                row = {"category": category, "status": found.status, "text": found.text, "paths": list(found.paths)}
                key = category, found.status, found.text
                findings.setdefault(key, row | {"methods": []})["methods"].append(run.label)
        rows = sorted(findings.values(), key=lambda row: row["category"])
        checks.append({"code": code, "title": title, "status": _worst(rows), "findings": rows})
    return checks


def _worst(rows: Sequence[JsonDict]) -> str:
    found = {row["status"] for row in rows}
    return next(status for status in ("warning", "ok", "not applicable") if status in found)


def provenance(run: Run) -> JsonDict:
    """How a run was made: configuration, versions, machine, data, and the command that repeats it."""
    facts = next((part.report_data.facts for part in run.parts if "config" in part.report_data.facts), {})
    categories = [part.evaluation.category for part in run.parts]
    hidden = {"data_path", "ckpt_path", "category", "resume"}
    return {
        "method": run.label,
        "folder": str(run.folder),
        "command": command(facts, categories),
        "config": {name: value for name, value in facts.get("config", {}).items() if name not in hidden},
        "versions": facts.get("versions", {}),
        "machine": facts.get("machine", {}),
        "categories": [
            {
                "category": part.evaluation.category,
                "data_sha256": part.report_data.facts.get("data_sha256"),
                "num_train": _count(part, "train"),
                "num_held_out": _count(part, "val"),
                "num_test": len(part.evaluation.images),
                "num_anomalous": sum(row["defect"] != GOOD for row in part.evaluation.images),
                "durations": part.evaluation.durations,
            }
            for part in run.parts
        ],
    }


def _count(part: Part, split: str) -> int | None:
    rows = part.report_data.facts.get("images")
    return None if rows is None else sum(row["split"] == split for row in rows)
