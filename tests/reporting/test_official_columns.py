"""Official figures are columns of all tables and pages, as metrics are."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from blemish.evaluation.columns import column, columns, value_in, why_not
from blemish.evaluation.report_data import ReportData
from blemish.evaluation.results import average_of, to_latex, write_results
from blemish.reporting.benchmark import compare_approaches, tables_for_terminal
from blemish.reporting.benchmark_page import to_cells, write_comparison
from blemish.reporting.page_images import make_page_images
from blemish.reporting.read_runs import Approach, Part, Run
from blemish.reporting.summarize import summarize
from blemish.types import Evaluation

SEG, AREA = "official SegF1", "official AU-PRO 5 %"


def evaluation(method: str, category: str, seg_f1: float | None, seed: int = 0) -> Evaluation:
    shift = 0.2 * seed
    official = {"AU-PRO 5 %": 0.25 + shift, "SegF1": None if seg_f1 is None else seg_f1 + shift}
    return Evaluation(method, category, {"image_auroc": 0.9}, official=official)


ONE = [evaluation("m", "can", 0.5), evaluation("m", "nut", 0.25)]


def approach(label: str, seg_f1: float, seeds: int = 1, count: int = 2) -> Approach:
    runs = []
    for seed in range(seeds):
        parts = (evaluation(label, f"c{at}", seg_f1 + 0.01 * at, seed) for at in range(count))
        runs.append(Run(label, Path(), tuple(Part(part, ReportData(), Path()) for part in parts), seed))
    return Approach(label, tuple(runs))


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_columns_are_the_metrics_with_a_value_and_then_the_official_figures():
    assert [one.name for one in columns(ONE)] == ["image_auroc", AREA, SEG]
    assert [one.title for one in columns(ONE)] == ["image AUROC", AREA, SEG]
    assert (column(SEG).direction, column("image_fpr_at_full_recall").direction) == ("higher", "lower")
    assert value_in(ONE[0], SEG) == 0.5
    assert value_in(ONE[0], "pixel_auroc") is None
    assert why_not(evaluation("m", "can", None), SEG)


def test_the_average_of_an_official_figure_needs_all_categories():
    assert average_of(ONE, "m", SEG) == 0.375
    lacking = [ONE[0], evaluation("m", "nut", None)]
    assert average_of(lacking, "m", SEG) is None
    assert average_of(lacking, "m", AREA) == 0.25


def test_the_tables_of_an_evaluation(tmp_path: Path):
    write_results(ONE, tmp_path)
    found = rows((tmp_path / "results.csv").read_text())
    assert [(row["category"], row[SEG]) for row in found] == [("can", "0.5"), ("nut", "0.25"), ("average", "0.375")]
    assert f"{SEG}_low" not in found[0]
    latex = to_latex(ONE)
    assert r"category & image AUROC & official AU-PRO 5 \% & official SegF1 \\" in latex
    assert r"average & 90.0 & 25.0 & 37.5 \\" in latex


def test_the_tables_and_the_page_of_a_benchmark(tmp_path: Path):
    approaches = [approach("first", 0.5, seeds=2), approach("second", 0.4, seeds=2)]
    compared = compare_approaches(approaches)
    assert [metric["name"] for metric in compared.summary["metrics"]] == ["image_auroc", AREA, SEG]
    average = compared.summary["overview"][SEG][-1]["cells"]
    assert [cell["value"] for cell in average] == pytest.approx([0.605, 0.505])
    assert [cell["spread"] for cell in average] == pytest.approx([0.2 / 2**0.5] * 2)
    page = write_comparison(compared, approaches, tmp_path)
    assert SEG in page.read_text()
    assert {row["metric"] for row in rows((tmp_path / "tables/results.csv").read_text())} == {"image_auroc", AREA, SEG}
    assert "60.5" in (tmp_path / "tables/official_SegF1.tex").read_text()
    assert (tmp_path / "tables/official_AU-PRO_5_.tex").exists()
    assert [float(row[SEG]) for row in rows(to_cells(approaches))[:2]] == pytest.approx([0.5, 0.51])


def test_official_figures_are_tested_by_categories_alone():
    compared = compare_approaches([approach("first", 0.5, count=6), approach("second", 0.4, count=6)])
    (pair,) = compared.summary["pairs"][SEG]
    assert pair["p_images"] is None
    assert pair["p_categories"] == pytest.approx(2 / 64)
    assert pair["reasons"] == ["official figures are not resampled"]
    assert list(tables_for_terminal(compared))


def test_the_report_shows_them():
    run = approach("first", 0.5).runs[0]
    other = replace(run, label="other")
    found = summarize([run, other], make_page_images([run, other]))["overview"][SEG]
    assert [row["cells"][0]["value"] for row in found] == pytest.approx([0.5, 0.51, 0.505])
