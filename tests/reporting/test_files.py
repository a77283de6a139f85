"""The report's tables and figures as files: what stands in them, by value."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from blemish.evaluation.results import AVERAGE
from blemish.reporting.figures import averages, curves, image_precision, image_roc, scores
from blemish.reporting.files import write_files

METRIC = {"name": "pixel_auroc", "title": "pixel AUROC", "direction": "higher"}
POINTS = {
    "threshold": [3.0, 2.0],
    "fpr": [0.1, 0.4],
    "recall": [0.5, 0.9],
    "precision": [0.8, 0.6],
    "overlap": [0.4, 1],
}


def cell(value: float | None, *, best: bool = False) -> dict:
    return {"value": value, "interval": None if value is None else [value - 0.1, value + 0.1], "best": best}


def part(method: str, points: dict | None = POINTS) -> dict:
    rows = [("good", 0.5), ("good", 2.0), ("dent", 2.0), ("dent", 3.0), ("cut", 1.0)]
    images = [{"path": f"{i}.png", "defect": d, "label": d != "good", "score": s} for i, (d, s) in enumerate(rows)]
    threshold = {"value": 1.5, "calibrated": True, "rate": 0.1}
    return {"method": method, "category": "bolt", "images": images, "points": points, "threshold": threshold}


@pytest.fixture
def summary() -> dict:
    rows = [
        {"category": "bolt", "cells": [cell(0.9, best=True), cell(0.7)]},
        {"category": "$nut", "cells": [cell(0.8), cell(None)]},
        {"category": AVERAGE, "cells": [cell(0.85), cell(0.7)]},
    ]
    return {
        "methods": ["a_b", "c d/e"],
        "metrics": [METRIC],
        "overview": {"pixel_auroc": rows},
        "cost": [{"method": "a_b", "fit_seconds": 2.0}],
        "parts": [part("a_b"), part("c d/e", None), {"images": [], "category": "$nut", "method": "a_b"}],
    }


def test_every_table_and_figure_is_a_file(summary, tmp_path: Path):
    paths = write_files(summary, tmp_path / "files")
    figures = ("average-pixel_auroc", "curves-bolt", "scores-bolt-a_b", "scores-bolt-c_d_e")
    expected = ["results.csv", "results.json", "pixel_auroc.tex"]
    expected += [f"{name}.{kind}" for name in figures for kind in ("svg", "png")]
    assert [path.name for path in paths] == expected
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == sorted(expected)
    with (tmp_path / "files" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["category"], row["method"], row["value"], row["significantly_best"]) for row in rows[:4]] == [
        ("bolt", "a_b", "0.9", "1"),
        ("bolt", "c d/e", "0.7", "0"),
        ("$nut", "a_b", "0.8", "0"),
        ("$nut", "c d/e", "", "0"),
    ]
    content = json.loads((tmp_path / "files" / "results.json").read_text())
    assert content["overview"][0]["value"] == 0.9
    assert content["cost"] == summary["cost"]
    latex = (tmp_path / "files" / "pixel_auroc.tex").read_text()
    assert r"bolt & \textbf{90.0} & 70.0 \\" in latex
    assert r"\$nut & 80.0 & -- \\" in latex
    assert r"\toprule" in latex
    svg = (tmp_path / "files" / "average-pixel_auroc.svg").read_text()
    assert ">0.850</text>" in svg
    assert (tmp_path / "files" / "curves-bolt.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_summary_gives_the_same_files(summary, tmp_path: Path):
    first, second = (write_files(summary, tmp_path / name) for name in ("first", "second"))
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_bars_and_points_are_the_averages_and_the_categories(summary):
    axis = averages(summary, METRIC).axes[0]
    assert [bar.get_height() for bar in axis.patches] == [0.85, 0.7]
    points = [sorted(points.get_offsets()[:, 1].tolist()) for points in axis.collections]
    assert points == [[0.8, 0.9], [0.7]]


def test_image_curves_count_every_distinct_score():
    # at or above 3: one defect; 2: two defects, one good; 1: all three defects; 0.5: all
    assert image_roc(part("a")) == [(0, 0), (0, 1 / 3), (0.5, 2 / 3), (0.5, 1), (1, 1)]
    assert image_precision(part("a")) == [(0, 1), (1 / 3, 1), (2 / 3, 2 / 3), (1, 0.75), (1, 0.6)]
    only_good = part("a") | {"images": part("a")["images"][:2]}
    assert image_roc(only_good) == image_precision(only_good) == []


def test_curves_are_those_of_each_method():
    figure = curves([part("a"), part("b", None)])
    drawn = {axis.get_title(): [line.get_xydata().tolist() for line in axis.lines] for axis in figure.axes}
    diagonal = [[0, 0], [1, 1]]
    roc = [[0, 0], [0, 1 / 3], [0.5, 2 / 3], [0.5, 1], [1, 1]]
    assert drawn["images: ROC"] == [roc, roc, diagonal]
    assert drawn["pixels: ROC"] == [[[0, 0], [0.1, 0.5], [0.4, 0.9], [1, 1]], diagonal]
    assert drawn["pixels: precision"] == [[[0.5, 0.8], [0.9, 0.6]]]
    assert drawn["pixels: PRO"] == [[[0, 0], [0.1, 0.4], [0.4, 1], [1, 1]], diagonal]


def test_scores_are_a_row_per_type_good_first():
    axes = scores(part("a")).axes
    assert [axis.get_ylabel() for axis in axes] == ["2 good", "1 cut", "2 dent"]
    assert [int(sum(bar.get_height() for bar in axis.patches)) for axis in axes] == [2, 1, 2]
    assert {axis.lines[0].get_xdata()[0] for axis in axes} == {1.5}
