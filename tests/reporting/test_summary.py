"""The report before it is looked at: every figure of it, by value."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from written_runs import DASH, NAMES_ON_DISK, NOISE

from blemish.evaluation.report_data import (
    ReportData,
)
from blemish.inference.previews import MOST_REGIONS, Preview
from blemish.reporting.decisions import best_threshold, confusion_counts
from blemish.reporting.page_images import make_page_images
from blemish.reporting.read_runs import Part, Run
from blemish.reporting.render import duration, render, report
from blemish.reporting.summarize import summarize
from blemish.types import Evaluation


def test_the_confusion_matrix_of_scores_above_a_threshold():
    rows = [{"label": label, "score": score} for label, score in ((1, 3.0), (1, 1.0), (0, 2.0), (0, 1.0), (0, 0.5))]
    assert confusion_counts(rows, 1.0) == {
        "found": 1, "missed": 1, "false_alarms": 1, "passed": 2, "precision": 0.5, "recall": 0.5
    }  # fmt: skip
    assert confusion_counts(rows, 3.0)["precision"] is None
    assert confusion_counts(rows[2:], 1.0)["recall"] is None


def test_the_threshold_without_calibration_has_the_highest_f1_there_is():
    generator = np.random.default_rng(3)
    for _ in range(20):
        labels = generator.random(12) < 0.5
        rows = [
            {"label": bool(y), "score": float(s)} for y, s in zip(labels, generator.integers(0, 9, 12), strict=True)
        ]

        def f1(threshold: float, rows=rows) -> float:
            counts = confusion_counts(rows, threshold)
            found = counts["found"]
            return 2 * found / (2 * found + counts["missed"] + counts["false_alarms"]) if found else 0.0

        assert f1(best_threshold(rows)) == max(f1(threshold) for threshold in np.arange(-0.5, 9, 0.5))


def test_the_threshold_of_good_images_alone_raises_no_alarm():
    rows = [{"label": False, "score": score} for score in (1.0, 2.0)]
    assert confusion_counts(rows, best_threshold(rows))["false_alarms"] == 0
    assert best_threshold([]) == 0.0


def test_the_page_shows_the_figures_of_results_json(folders, tmp_path: Path):
    report(folders, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    documents = [json.loads((folder / "results.json").read_text()) for folder in folders]
    names = [name for name, value in documents[0]["average"]["good eyes"].items() if value is not None]
    assert len(names) > 5
    for name in names:
        table = re.search(rf'<div class="scroll" data-metric="{name}".*?</table>', page, re.DOTALL).group()
        cells = re.findall(r'<span class="value">(.*?)</span>(?: <span class="interval">(.*?)</span>)?', table)
        expected = []
        for category in sorted(NAMES_ON_DISK):
            for document in documents:
                row = next(e for e in document["evaluations"] if e["category"] == category)
                expected.append((f"{row['metrics'][name]:.3f}", DASH.join(f"{e:.3f}" for e in row["intervals"][name])))
        for method, document in zip(NOISE, documents, strict=True):
            ends = document["average_intervals"][method][name]
            expected.append((f"{document['average'][method][name]:.3f}", DASH.join(f"{end:.3f}" for end in ends)))
        assert cells == expected


def test_names_from_the_data_are_text_wherever_they_stand(runs):
    hostile = [replace(run, label=f"<img src=x onerror=alert(1)>{index}") for index, run in enumerate(runs)]
    renamed = [
        replace(
            run,
            parts=tuple(replace(p, evaluation=replace(p.evaluation, method=run.label)) for p in run.parts),
        )
        for run in hostile
    ]
    page = render(summarize(renamed, make_page_images(renamed)))
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert page.count("</script>") == 4  # its own: data, files, colours, program
    assert "&lt;script&gt;alert(1)" in page
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL).group(1))
    assert data["categories"] == sorted(NAMES_ON_DISK)


def test_a_page_asks_no_host_for_anything(summary):
    page = render(summary)
    assert "default-src 'none'" in page
    outside = [address for address in re.findall(r"https?://[^\s\"'<>)]+", page) if "www.w3.org" not in address]
    assert outside == []
    assert not re.search(r"<(link|script|img|iframe)[^>]+(src|href)=\"(?!data:)", page)


def test_what_is_calibrated_is_marked(runs):
    calibration = {
        "threshold": 7.5,
        "pixel_threshold": 6.0,
        "false_alarm_rate": 0.05,
        "pixel_rate": 0.001,
        "min_area": 12,
        "good_scores": [1.0, 2.0, 3.0],
    }
    part = runs[0].parts[0]
    run = replace(runs[0], parts=(replace(part, evaluation=replace(part.evaluation, calibration=calibration)),))
    summary = summarize([run], make_page_images([run]))["parts"][0]
    assert summary["threshold"]["value"] == 7.5
    assert summary["threshold"]["text"].endswith(
        "an image without a region of 12 pixels above the pixel threshold is good too, which is ignored here, "
        "because the regions at this threshold are unknown"
    )
    assert summary["threshold"]["rate"] == 0.05
    assert "3 held-out good images for a false-alarm rate of at most 5.00%" in summary["threshold"]["text"]
    assert summary["pixel_threshold"]["value"] == 6.0
    assert summary["held_out"] == [1.0, 2.0, 3.0]
    assert summary["counts"] == confusion_counts(part.evaluation.images, 7.5)


def test_500_images_fit_10_mb(tmp_path: Path):
    generator = np.random.default_rng(0)
    texture = cv2.resize(generator.integers(0, 255, (160, 160, 3), np.uint8), (320, 320))
    picture = cv2.imencode(".jpg", texture)[1].tobytes()
    noise = generator.random((160, 160), np.float32)
    previews = [Preview(f"{i}.png", (1024, 1024), picture + bytes([i % 256, i // 256]), noise) for i in range(500)]
    rows = [{"path": p.path, "defect": "x", "label": i % 2 == 0, "score": float(i)} for i, p in enumerate(previews)]
    part = Part(Evaluation("m", "c", {"image_auroc": 0.5}, images=rows), ReportData(previews), Path())
    run = Run("m", Path("m"), (part,))
    page = render(summarize([run], make_page_images([run])))
    assert 3 << 20 < len(page) < 10_000_000


@pytest.mark.parametrize(("seconds", "words"), [(None, "-"), (3.14, "3.1 s"), (61, "1 min 01 s"), (7260, "2 h 01 min")])
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_the_tables_for_other_programs(summary):
    page = render(summary)
    files = json.loads(re.search(r'id="files">(.*?)</script>', page, re.DOTALL).group(1))
    first = summary["overview"]["pixel_auroc"][-1]["cells"][0]
    assert rf"\textbf{{{100 * first['value']:.1f}}}" in files["pixel_auroc.tex"]
    assert r"\toprule" in files["pixel_auroc.tex"]
    assert f"pixel_auroc,average,good eyes,{first['value']}" in files["results.csv"]
    assert json.loads(files["results.json"])["cost"][0] == {
        "method": "good eyes", "fit_seconds": 4.0, "num_categories": 2, "milliseconds": 10.0, "num_images": 32
    }  # fmt: skip


def test_regions_are_those_of_the_whole_map_as_long_as_the_calibration_stands(runs):
    shown = {"box": [3, 4, 5, 6], "area": 21, "peak": 7.5, "peak_at": [4, 5], "centroid": [5.0, 6.5]}
    part = runs[0].parts[0]
    previews = [replace(preview, regions=[shown], num_regions=1) for preview in part.report_data.previews]
    record = replace(part.report_data, previews=previews, regions_by=(0.5, 10))
    calibration = {"threshold": 1.0, "pixel_threshold": 0.5, "min_area": 10, "false_alarm_rate": 0.1, "pixel_rate": 0.1}
    for changed, expected in (({}, True), ({"pixel_threshold": 0.6}, False), ({"min_area": 0}, False)):
        evaluation = replace(part.evaluation, calibration=calibration | {"good_scores": [1.0]} | changed)
        run = replace(runs[0], parts=(replace(part, evaluation=evaluation, report_data=record),))
        images = summarize([run], make_page_images([run]))["parts"][0]["images"]
        assert {image.get("regions") == [shown] for image in images} == {expected}


def region(area: int, peak: float) -> dict:
    return {"box": [0, 0, area, 1], "area": area, "peak": peak, "peak_at": [0, 0], "centroid": [0.0, 0.0]}


@pytest.mark.parametrize(
    ("min_area", "expected"),
    [
        # found: the defects that are called so; the first good image is called one by its score alone
        (0, {"found": 4, "missed": 0, "false_alarms": 1, "passed": 3}),
        (5, {"found": 3, "missed": 1, "false_alarms": 0, "passed": 4}),
        (40, {"found": 2, "missed": 2, "false_alarms": 0, "passed": 4}),
        (41, {"found": 1, "missed": 3, "false_alarms": 0, "passed": 4}),
        (900, {"found": 0, "missed": 4, "false_alarms": 0, "passed": 4}),
    ],
)
def test_the_counts_regard_the_minimum_area(min_area, expected):
    found = [
        ("many", True, 9.0, MOST_REGIONS * [region(1, 9.0)], MOST_REGIONS + 1, 40),  # the large one has a low peak
        ("two", True, 8.0, [region(5, 8.0), region(2, 7.0)], 2, 5),
        ("none", True, 7.0, [], 0, 0),
        ("large", True, 6.0, [region(99, 6.0)], 1, 99),
        ("loud", False, 5.0, [region(4, 5.0)], 1, 4),
        *((f"good {number}", False, float(number), [region(99, 1.0)], 1, 99) for number in range(3)),
    ]
    map_, size = np.zeros((4, 4), np.float32), (4, 4)
    previews = [
        Preview(path, size, b"", map_, regions=own, num_regions=number, largest_region=largest)
        for path, _, _, own, number, largest in found
    ]
    rows = [{"path": path, "defect": "x", "label": label, "score": score} for path, label, score, *_ in found]
    calibration = {
        "threshold": 4.5, "pixel_threshold": 0.5, "min_area": min_area, "false_alarm_rate": 0.1, "pixel_rate": 0.1,
        "good_scores": [1.0],
    }  # fmt: skip
    evaluation = Evaluation("m", "c", {}, images=rows, calibration=calibration)
    run = Run("m", Path("m"), (Part(evaluation, ReportData(previews, regions_by=(0.5, 0)), Path()),))
    part = summarize([run], make_page_images([run]))["parts"][0]
    assert {name: part["counts"][name] for name in expected} == expected
    shown = {image["path"]: [own["area"] for own in image["regions"]] for image in part["images"] if "regions" in image}
    assert shown["two"] == [area for area in (5, 2) if area >= min_area]
    assert ("many" in shown) == (min_area == 0)  # of whose other regions only the largest one's area is known
    assert "which is not counted" not in part["threshold"]["text"]
