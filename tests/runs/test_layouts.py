"""A run on each public layout: split, fitted, calibrated and scored."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees import TREES

from blemish.data import find_categories
from blemish.runs.config import RunConfig
from blemish.runs.evaluate import evaluate_run
from blemish.runs.run import run

FIELDS = {"model": "patchcore", "size": 32, "figures": 0, "validation": 0.3, "options": {"num_patches": 50}}


@pytest.mark.slow
@pytest.mark.parametrize("layout", TREES)
def test_a_run_on_a_layout(layout, tmp_path: Path):
    root = TREES[layout](tmp_path / "data")
    category = find_categories(root)[0]
    evaluation = run(RunConfig.create(**FIELDS, data_path=root, ckpt_path=tmp_path / "run", category=(category.name,)))
    assert len(evaluation.images) == len(category.of("test"))
    assert evaluation.calibration is not None
    assert evaluation.metrics["image_auroc"] is not None
    assert evaluation.metrics["pixel_auroc"] > 0.8
    has_areas = layout in ("mvtec_loco", "autovi")
    assert ("au_spro_0.05" in evaluation.metrics) is has_areas
    assert bool(evaluation.official) is (layout in ("mvtec_loco", "mvtec_ad_2", "real_iad"))


def test_a_run_by_name_and_groups_is_evaluated_in_the_same_way(tmp_path: Path):
    root = TREES["visa"](tmp_path / "data")
    fields = FIELDS | {"data_path": root, "ckpt_path": tmp_path / "run", "category": ("pcb1",)}
    config = RunConfig.create(**fields, layout="visa", group=r"(\d+)\.JPG")
    first = run(config)
    again = evaluate_run(tmp_path / "run", root)[0]
    assert [row["path"] for row in again.images] == [row["path"] for row in first.images]
    other = evaluate_run(tmp_path / "run", root, layout="visa_fewshot")[0]
    assert len(other.images) == 10
