"""What a run keeps for its report, and how it is read again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from written_runs import NOISE, predictions_of, write_run

from blemish.calibration.decisions import find_regions
from blemish.calibration.thresholds import PIXEL_RATES, calibrate
from blemish.data import find_categories
from blemish.errors import BlemishError
from blemish.evaluation.evaluate import EvaluationDetails, evaluate, evaluate_in_detail
from blemish.evaluation.report_data import (
    ReportData,
    collect_previews,
    read_report_data,
    write_report_data,
)
from blemish.imaging.masks import read_mask
from blemish.imaging.read import read_image
from blemish.imaging.thumbnails import decoded
from blemish.inference.previews import MOST_REGIONS, OUTLINE_UNITS, Preview
from blemish.reporting.read_runs import read_runs
from blemish.reporting.render import report
from blemish.types import Evaluation


def test_runs_of_one_method_are_told_apart_by_their_folders(data: Path, tmp_path: Path):
    for name in ("a", "b"):
        write_run(tmp_path / name, data, "good eyes")
    assert [run.label for run in read_runs([tmp_path / "a", tmp_path / "b"])] == ["good eyes (a)", "good eyes (b)"]
    with pytest.raises(BlemishError, match="given twice"):
        read_runs([tmp_path / "a", tmp_path / "a"])
    with pytest.raises(BlemishError, match="holds no run"):
        read_runs([tmp_path])


def test_a_record_gives_back_what_was_kept(folders, runs, data: Path):
    record = read_report_data(folders[0] / "bolt")
    category = find_categories(data, ["bolt"])[0]
    predictions = list(predictions_of(category, NOISE["good eyes"]))
    assert [p.path for p in record.previews] == [row["path"] for row in runs[0].parts[0].evaluation.images]
    first, prediction = record.previews[0], predictions[0]
    np.testing.assert_array_equal(first.map, prediction.map)  # 48 pixels are small enough as they are
    picture = read_image(prediction.sample.image)
    assert np.abs(decoded(first.picture).astype(float) - picture).mean() < 12
    mask = read_mask(prediction.sample.mask)
    assert first.mask_area == mask.mean()
    polygon = np.array(first.outline[0]).reshape(-1, 2) * 48 / OUTLINE_UNITS
    rows, columns = np.nonzero(mask)
    assert polygon.min(axis=0) == pytest.approx([columns.min() + 0.5, rows.min() + 0.5], abs=0.02)
    assert polygon.max(axis=0) == pytest.approx([columns.max() + 0.5, rows.max() + 0.5], abs=0.02)


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_damaged_record_is_one_line(folders, tmp_path: Path, content):
    (tmp_path / "record.safetensors").write_bytes(content)
    with pytest.raises(BlemishError, match=r"record\.safetensors: damaged"):
        read_report_data(tmp_path)


def test_a_run_that_kept_no_record_is_still_reported(folders, data: Path, tmp_path: Path):
    write_run(tmp_path / "run", data, "good eyes")
    for path in (tmp_path / "run").glob("*/record.safetensors"):
        path.unlink()
    summary = report([tmp_path / "run"], tmp_path / "report.html")
    assert {row["status"] for check in summary["health"] for row in check["findings"]} == {"not applicable"}
    assert summary["parts"][0]["counts"]["found"] > 0
    assert "picture" not in summary["parts"][0]["images"][0]


def test_the_regions_that_a_run_keeps_are_those_that_inspecting_finds(data: Path, tmp_path: Path):
    category = find_categories(data, ["bolt"])[0]
    level = float(np.quantile(next(predictions_of(category, 150.0)).map, 0.9))
    calibration = calibrate([1.0, 2.0], [level] * len(PIXEL_RATES), 0.5)
    previews: list[Preview] = []
    predictions = list(collect_previews(predictions_of(category, 150.0), category.root, previews, calibration))
    write_report_data(tmp_path, ReportData(previews, regions_by=(level, 0)))
    kept = read_report_data(tmp_path)
    assert kept.regions_by == (level, 0)
    assert max(preview.num_regions for preview in kept.previews) > MOST_REGIONS
    for prediction, preview in zip(predictions, kept.previews, strict=True):
        found = find_regions(prediction.map, level)
        assert preview.num_regions == len(found)
        assert json.loads(json.dumps([asdict(region) for region in found[:MOST_REGIONS]])) == preview.regions


def test_evaluating_is_measuring_without_the_rest(data: Path):
    category = find_categories(data, ["bolt"])[0]
    options = {"method": "m", "category": "bolt", "root": category.root}
    measured = evaluate_in_detail(predictions_of(category, 15.0), category.of("test"), **options)
    assert measured.evaluation == evaluate(predictions_of(category, 15.0), category.of("test"), **options)
    assert measured.resamples == {}
    assert measured.points.recall[-1] == 1
    assert evaluate_in_detail([], [], **options) == EvaluationDetails(Evaluation("m", "bolt", {}))
