"""Good images unlike the others: found, named with the place, and left out with their copies."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from blemish.cli.app import main
from blemish.data.category import find_categories
from blemish.data.source import load
from blemish.detectors.patchcore import PatchCore
from blemish.imaging.preprocess import Preprocess
from blemish.reporting.read_runs import read_runs
from blemish.runs.config import RunConfig
from blemish.runs.outliers import EXPECTED, FEWEST, Outliers, Scored, find_outliers, limit_of, without
from blemish.runs.steps import plan, prepare
from blemish.types import Sample

SPOT = (30, 12)
"""(x, y) of the spots, by which two of the good images are defective."""


@pytest.fixture(autouse=True)
def _weight_free(monkeypatch):
    """Features that are quick, whatever is installed."""
    monkeypatch.setattr("blemish.detectors.base.default_backbone", lambda: ("gabor", "backbone: gabor"))


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


@pytest.fixture
def good(make_category, tmp_path: Path) -> Path:
    folder = make_category(tmp_path / "data", num_train=24) / "train" / "good"
    for name in ("005.png", "016.png"):
        image = cv2.imread(str(folder / name))
        cv2.imwrite(str(folder / name), cv2.circle(image, SPOT, 5, (255, 255, 255), -1))
    return folder


def source_of(folder: Path):
    samples = [Sample(path, False, split="train") for path in sorted(folder.glob("*.png"))]
    return load(samples, Preprocess((48, 48)))


def create() -> PatchCore:
    return PatchCore.create(size=48, backbone="gabor", num_patches=200)


def names(outliers: Outliers) -> set[str]:
    return {found.sample.image.name for found in outliers.suspects}


def test_defective_images_are_found_with_the_place(good):
    source = source_of(good)
    found = find_outliers(source, create)
    assert names(found) == {"005.png", "016.png"}
    assert len(found.scored) == 24
    for suspect in found.suspects:
        assert np.hypot(*(np.array(suspect.peak) - SPOT)) < 8
    assert "2 of 24 different good images" in found.summary
    assert f"{found.suspects[0].ratio:.2f} times the median" in found.problems[0].message
    assert {problem.severity for problem in found.problems} == {"warning"}
    assert find_outliers(source, create) == found
    assert len(without(source, found).samples) == 22


def test_copies_count_once_and_are_left_out_with_their_image(good):
    shutil.copy(good / "005.png", good / "copy.png")
    source = source_of(good)
    found = find_outliers(source, create)
    assert len(found.scored) == 24
    assert names(found) == {"005.png", "016.png"}
    assert {"005.png", "copy.png"}.isdisjoint(sample.image.name for sample in without(source, found).samples)


def test_too_few_images_have_no_suspects(good):
    for path in sorted(good.glob("*.png"))[FEWEST - 1 :]:
        path.unlink()
    found = find_outliers(source_of(good), create)
    assert (found.scored, found.limit, found.suspects) == ((), math.inf, [])
    assert "12 different good images are needed" in found.summary


def test_the_limit_lets_as_many_good_images_pass_as_is_stated():
    generator = np.random.default_rng(0)
    counts = []
    for _ in range(400):
        ratios = np.exp(generator.normal(0, 0.2, 60))
        counts.append(int((ratios > limit_of(ratios.tolist())).sum()))
    assert np.mean(counts) == pytest.approx(EXPECTED, abs=0.35)


@pytest.mark.parametrize("part", [0.05, 0.2])
def test_defects_hardly_move_the_limit(part):
    good = np.exp(np.random.default_rng(0).normal(0, 0.2, 200))
    mixed = np.concatenate([good, np.full(round(200 * part), 50.0)])
    assert limit_of(mixed.tolist()) < 1.35 * limit_of(good.tolist())


def test_scores_near_zero_hardly_move_the_limit():
    good = np.exp(np.random.default_rng(0).normal(0, 0.2, 60))
    low = good.copy()
    low[:3] = -0.1, 0.0, 1e-9
    assert limit_of(low.tolist()) < 1.5 * limit_of(good.tolist())


def test_equal_scores_are_no_outliers():
    scored = tuple(Scored(Sample(Path(f"{i}.png")), 1.0, (0, 0)) for i in range(20))
    assert Outliers(scored, limit_of([1.0] * 20)).suspects == []
    assert Outliers(scored, limit_of([0.0] * 20)).limit >= 0


def test_the_summary_names_the_images_that_come_next():
    ratios = {"a": 0.9, "b": 1.3, "c": 3.0, "d": 1.1, "e": 1.2}
    scored = tuple(Scored(Sample(Path(f"{name}.png")), ratio, (0, 0)) for name, ratio in ratios.items())
    said = Outliers(scored, 2.0).summary
    assert said.startswith("outliers: 1 of 5 different good images, by 2.00 times their median score; ")
    assert said.endswith("the next to look at: b.png (1.30), e.png (1.20), d.png (1.10)")


@pytest.mark.slow
def test_data_check_names_them_and_ends_well(good, capsys, monkeypatch):
    monkeypatch.setattr("blemish.runs.resolution.SIZES", (48,))  # that of the images, as in the other tests
    assert run("data", "check", good, "--outliers") == 0
    said = capsys.readouterr().out
    assert "good: outliers: 2 of 24 different good images" in said
    assert f"warning {good / '005.png'}: unlike the other good images: scores " in said
    assert said.splitlines()[-1] == "0 errors, 2 warnings"
    (good / "bad.png").write_bytes(b"no image")
    assert run("data", "check", good, "--outliers") == 2
    assert "outliers: not looked for, since there are errors" in capsys.readouterr().out


def test_they_are_left_out_before_validation_images_are_drawn(good):
    fields = {"model": "ensemble", "size": 48, "data_path": good, "ckpt_path": Path(), "outliers": "leave-out"}
    planned = plan(RunConfig.create(**fields), find_categories(good)[0])
    prepared = prepare(planned)
    assert prepared.outliers is not None
    assert names(prepared.outliers) == {"005.png", "016.png"}
    assert len(prepared.left_out) == 2
    assert [len(prepared.of(split).files) for split in ("train", "val")] == [20, 2]
    assert list(prepared.category.samples) == prepared.source.samples
    shown = prepare(replace(planned, config=planned.config.model_copy(update={"outliers": "show"})))
    assert shown.outliers == prepared.outliers
    assert (shown.left_out, len(shown.source.files)) == ((), 24)


@pytest.mark.slow
def test_fit_leaves_them_out_and_says_so(good, tmp_path, caplog):
    options = ("--model", "patchcore", "--size", 48, "--backbone", "gabor")
    assert run("fit", good, "--out", tmp_path / "all", *options, "--outliers", "show") == 0
    assert run("fit", good, "--out", tmp_path / "some", *options, "--outliers", "leave-out") == 0
    assert sum("005.png: unlike the other good images" in line for line in caplog.messages) == 2
    shown, some = (json.loads((tmp_path / name / "model.json").read_text())["provenance"] for name in ("all", "some"))
    assert len(shown["learned_from"]) + len(shown["held_out"]) == 24
    assert len(some["learned_from"]) + len(some["held_out"]) == 22
    assert (len(shown["left_out"]), len(some["left_out"])) == (0, 2)
    assert any("left out: " in line and "005.png" in line and "016.png" in line for line in some["choices"])
    assert not set(some["left_out"]) & {*some["learned_from"], *some["held_out"]}
    assert run("calibrate", tmp_path / "some", "--folds", 2) == 0
    assert len(json.loads((tmp_path / "some" / "model.json").read_text())["calibration"]["images"]) == 22


@pytest.mark.slow
def test_the_report_of_a_run_names_them(good, tmp_path):
    data = good.parents[2]
    options = ("--model", "patchcore", "--size", 48, "--backbone", "gabor", "--outliers", "leave-out")
    assert run("train", "--data_path", data, "--ckpt_path", tmp_path / "run", *options) == 0
    part = read_runs([tmp_path / "run"])[0].parts[0]
    facts = part.report_data.facts["outliers"]
    assert set(facts["paths"]) == {"train/good/005.png", "train/good/016.png"}
    assert facts["left_out"]
