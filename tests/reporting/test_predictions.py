"""The page of predictions before it is looked at: every figure of it, by value."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blemish.calibration.decisions import find_regions
from blemish.calibration.thresholds import false_alarm_bound, with_thresholds
from blemish.cli import main
from blemish.errors import BlemishError
from blemish.inference.inspector import Inspector
from blemish.model.changes import write_model
from blemish.model.folder import read_model
from blemish.reporting.decisions import decision_counts
from blemish.reporting.predictions import MOST_UNREADABLE, read_predictions
from blemish.reporting.render import render, report


@pytest.fixture
def images(run_folder: Path, tmp_path: Path) -> Path:
    """Good and bad pictures with the same names in two folders, and a file that is none."""
    folder = Path(shutil.copytree(run_folder / "data" / "part" / "test", tmp_path / "images"))
    (folder / "broken <b>.png").write_bytes(b"no picture")
    return folder


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, arguments)])
    return int(stopped.value.code or 0)


def part_of(out: Path) -> dict:
    (part,) = report([out], out / "again.html")["parts"]
    return part


def test_the_summary_says_what_inspecting_said(model: Path, images: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert run("predict", model, images, "--out", out, "--report") == 2  # for the broken file
    assert (out / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    part, inspector = part_of(out), Inspector.load(model, batch_size=8)
    calibration = inspector.calibration
    predictions = {
        str(found.sample.image.relative_to(images)): found
        for found in inspector.predict(sorted(images.rglob("0*.png")))
    }
    assert {image["path"]: image["score"] for image in part["images"]} == {
        path: found.score for path, found in predictions.items()
    }
    decisions = [inspector.decide(found).is_defect for found in predictions.values()]
    assert part["counts"] == {"defects": sum(decisions), "good": len(decisions) - sum(decisions)}
    assert 0 < part["counts"]["defects"] < 8
    assert part["held_out"] == list(calibration.good_scores)
    assert part["threshold"]["value"] == calibration.threshold
    assert part["threshold"]["text"].startswith(
        "calibrated on 40 held-out good images for a false-alarm rate of at most"
    )
    assert part["inspected_by"] == {"model": str(model), "method": "patchcore", "backend": "torch"}
    assert part["num_unreadable"] == 1
    assert part["unreadable"][0]["error"].startswith(str(images / "broken <b>.png"))
    assert part["num_previews"] == 8
    for image in part["images"]:
        values = predictions[image["path"]].map
        assert image["size"] == list(values.shape)
        expected = find_regions(values, calibration.pixel_threshold)
        assert [region["area"] for region in image["regions"]] == [region.area for region in expected[:12]]
        assert image["num_regions"] == len(expected)
        assert image["map"] is not None
        assert image["picture"] is not None


def test_predictions_are_reported_again_when_images_and_model_are_gone(model: Path, images: Path, tmp_path: Path):
    out = tmp_path / "out"
    run("predict", model, images, "--out", out, "--report")
    before = (out / "report.html").read_bytes()
    shutil.rmtree(model)
    shutil.rmtree(images)
    assert run("report", out, "--out", out / "again.html") == 0
    assert (out / "again.html").read_bytes() == before


def test_without_previews_the_page_shows_the_files_as_they_are(model: Path, images: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    run("predict", model, images, "--out", out)
    assert f"blemish report {out}" in capsys.readouterr().out
    (images / "good" / "000.png").unlink()
    part = part_of(out)
    assert part["num_previews"] == 0
    shown = {image["path"]: image for image in part["images"]}
    assert shown["good/000.png"]["picture"] is None
    assert shown["good/001.png"]["picture"] is not None
    assert all(image.get("map") is None for image in shown.values())
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    found = {os.path.relpath(row["path"], images): row for row in rows if row.get("decision") == "defect"}
    assert len(found) > 1
    for path, row in found.items():
        assert shown[path]["size"] == [48, 48]
        assert [region["box"] for region in shown[path]["regions"]] == [region["box"] for region in row["regions"]]
    assert "8 images without a map" in (out / "again.html").read_text(encoding="utf-8")
    assert run("predict", model, images, "--out", out, "--report") == 2  # keeps the previews that are missing
    assert part_of(out)["num_previews"] == 7


def test_a_preview_that_is_damaged_is_done_without(model: Path, images: Path, tmp_path: Path):
    out = tmp_path / "out"
    run("predict", model, images, "--out", out, "--report")
    for path in (out / "previews").rglob("*.preview"):
        path.write_bytes(path.read_bytes()[:-7])
    part = part_of(out)
    assert part["num_previews"] == 0
    assert all(image["picture"] is not None for image in part["images"])


def test_a_model_without_calibration_decides_nothing(model: Path, images: Path, tmp_path: Path):
    out = tmp_path / "out"
    write_model(replace(read_model(model), calibration=None))
    run("predict", model, images, "--out", out, "--report")
    part = part_of(out)
    assert (part["counts"], part["held_out"], part["threshold"]["value"]) == (None, [], None)
    assert "not calibrated" in part["threshold"]["text"]
    assert part["pixel_threshold"]["text"].endswith("1% of these images' area is above it")


def test_a_minimum_area_counts(model: Path, images: Path, tmp_path: Path):
    for number, min_area in enumerate((1, 30, 100_000)):
        out = tmp_path / f"out {number}"
        calibration = with_thresholds(read_model(model).calibration, min_area=min_area)
        write_model(replace(read_model(model), calibration=calibration))
        run("predict", model, images, "--out", out, "--report")
        rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
        part = part_of(out)
        assert part["counts"]["defects"] == sum(row.get("decision") == "defect" for row in rows)
        assert "which is not counted" not in part["threshold"]["text"]
        # The threshold that lets all pass: what is left is the area.
        large = [
            find_regions(found.map, calibration.pixel_threshold, min_area)
            for found in Inspector.load(model).predict(sorted(images.rglob("0*.png")))
        ]
        assert decision_counts(part["images"], -np.inf)["defects"] == sum(map(bool, large))


def test_the_words_of_the_page_are_right_for_one_and_for_many(model: Path, images: Path, tmp_path: Path):
    out = tmp_path / "out"
    run("predict", model, images / "good" / "000.png", "--out", out, "--report")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "1 image inspected" in page
    assert "unreadable" not in page.split("<dialog")[0].split("<main>")[1].lower()
    run("predict", model, images, "--out", tmp_path / "many", "--report")
    page = (tmp_path / "many/report.html").read_text(encoding="utf-8")
    assert "8 images inspected" in page
    assert "1 file could not be read." in page
    assert "broken &lt;b&gt;.png" in page
    assert "broken <b>.png" not in page


def test_names_that_are_no_text_and_countless_unreadable_files(model: Path, images: Path, tmp_path: Path):
    out = tmp_path / "out"
    odd = os.fsdecode(os.fsencode(images) + b"/ungl\xfcck.png")
    shutil.copy(images / "good/000.png", odd)
    broken = [images / f"broken {number}.png" for number in range(MOST_UNREADABLE + 3)]
    for path in broken:
        path.write_bytes(b"")
    assert run("predict", model, images, "--out", out, "--report") == 2
    part = part_of(out)
    assert any(image["path"] == "ungl\N{REPLACEMENT CHARACTER}ck.png" for image in part["images"])
    assert (len(part["unreadable"]), part["num_unreadable"]) == (MOST_UNREADABLE, MOST_UNREADABLE + 4)
    assert "and 4 more" in (out / "report.html").read_text(encoding="utf-8")


def test_nothing_but_unreadable_files(model: Path, tmp_path: Path):
    (tmp_path / "broken.png").write_bytes(b"")
    out = tmp_path / "out"
    assert run("predict", model, tmp_path / "broken.png", "--out", out, "--report") == 2
    part = part_of(out)
    assert (part["images"], part["counts"], part["num_unreadable"]) == ([], None, 1)


def test_several_folders_stand_in_one_page(model: Path, images: Path, tmp_path: Path):
    outs = [tmp_path / "monday", tmp_path / "tuesday"]
    for out, folder in zip(outs, ("good", "bad"), strict=True):
        run("predict", model, images / folder, "--out", out, "--report")
    summary = report(outs, tmp_path / "report.html")
    assert summary["methods"] == ["patchcore (monday)", "patchcore (tuesday)"]
    assert [len(part["images"]) for part in summary["parts"]] == [4, 4]
    assert "8 images inspected" in render(summary)


def test_what_cannot_be_reported_is_one_line(run_folder: Path, model: Path, images: Path, tmp_path: Path):
    out, page = tmp_path / "out", tmp_path / "report.html"
    run("predict", model, images, "--out", out)
    with pytest.raises(BlemishError, match=r"holds no predictions.*separate reports"):
        report([out, run_folder], page)
    with pytest.raises(BlemishError, match="files: is not available"):
        report([out], page, tmp_path / "files")
    with pytest.raises(BlemishError, match="given twice"):
        report([out, out], page)
    for content in ("", "{}", "[1]", '{"calibration": {"threshold": 1}}', "{"):
        (out / "inspected_by.json").write_text(content)
        with pytest.raises(BlemishError, match=r"inspected_by\.json: missing or damaged"):
            report([out], page)
    assert not page.exists()


def test_what_is_decided_again_is_shown_as_it_is_decided_then(model: Path, images: Path, tmp_path: Path):
    out = tmp_path / "out"
    run("predict", model, images, "--out", out, "--maps", "--report")
    before = {path: path.stat().st_mtime_ns for path in (out / "previews").rglob("*.preview")}
    scores = sorted(image["score"] for image in part_of(out)["images"])
    fitted = read_model(model)
    write_model(replace(fitted, calibration=with_thresholds(fitted.calibration, threshold=scores[5])))
    run("predict", model, images, "--out", out, "--report")
    assert {path: path.stat().st_mtime_ns for path in (out / "previews").rglob("*.preview")} == before
    part = part_of(out)
    assert (part["threshold"]["value"], part["counts"]["defects"]) == (scores[5], 2)
    assert part["threshold"]["text"] == "set by hand"
    level = fitted.calibration.pixel_levels[3]  # by which the regions in the previews are not known
    write_model(replace(fitted, calibration=with_thresholds(fitted.calibration, pixel_threshold=level)))
    run("predict", model, images, "--out", out, "--report")
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    found = {os.path.relpath(row["path"], images): row["regions"] for row in rows if row.get("regions")}
    shown = {image["path"]: image["regions"] for image in part_of(out)["images"] if "regions" in image}
    assert found
    assert shown == {path: regions[:12] for path, regions in found.items()}


def test_a_row_that_is_half_written_is_left_out(model: Path, images: Path, tmp_path: Path):
    out = tmp_path / "out"
    run("predict", model, images, "--out", out)
    rows = out / "predictions.jsonl"
    rows.write_bytes(rows.read_bytes()[:-9])
    part = part_of(out)
    assert len(part["images"]) + part["num_unreadable"] == 8


def test_the_chance_of_a_false_alarm_is_that_of_the_calibration(model: Path, images: Path, tmp_path: Path):
    out = tmp_path / "out"
    run("predict", model, images, "--out", out)
    (read,) = read_predictions([out])
    calibration = read_model(model).calibration
    assert read.parts[0].calibration["good_scores"] == list(calibration.good_scores)
    assert false_alarm_bound(calibration.threshold, calibration.good_scores) <= calibration.false_alarm_rate
