"""`blemish benchmark` and `blemish compare`: cells are computed once, whatever happens, and the tables are theirs."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_help import run

import blemish
from blemish.data import find_categories
from blemish.detectors import detector_class
from blemish.detectors.padim import PaDiM
from blemish.evaluation.results import read_results
from blemish.reporting.read_runs import read_approaches, read_runs
from blemish.runs.benchmark.cells import cells_of
from blemish.runs.benchmark.config import BenchmarkConfig

SMALL = ["--sizes", "32", "--align", "off"]


@pytest.fixture(scope="module")
def data(make_category, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("benchmark") / "data"
    for name in ("bolt", "nut"):
        make_category(root, name, num_train=6, num_good=3, num_bad=3)
    return root


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory) -> Path:
    """Two methods with two seeds on two categories."""
    out = tmp_path_factory.mktemp("benchmark") / "out"
    config = BenchmarkConfig.create(
        data_path=data, out=out, methods=("padim", "patchcore"), seeds=(0, 1), sizes=(32,), settings={"align": "off"}
    )
    from blemish.runs.benchmark.benchmark import benchmark

    assert benchmark(config).num_cells == 8
    return out


def finished(out: Path) -> dict[str, tuple[int, int]]:
    """evaluation.json of every cell, and what changes if it is written again."""
    paths = sorted((out / "cells").glob("*/*/evaluation.json"))
    return {str(path.relative_to(out)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def command(data: Path, out: Path, *more: str) -> list[str]:
    methods = ["--methods", "padim", "patchcore", "--seeds", "0", "1"]
    return ["benchmark", "--data-path", str(data), "--out", str(out), *methods, *SMALL, *more]


def test_a_second_call_computes_nothing_and_says_the_same(data, done, capsys):
    before, tables = finished(done), (done / "tables" / "results.csv").read_text()
    code, text, _ = run(command(data, done), capsys)
    assert (code, len(before)) == (0, 8)
    assert finished(done) == before
    assert (done / "tables" / "results.csv").read_text() == tables
    assert f"8 cells, 8 of them from before; the page is {done}/benchmark.html" in text.replace("\n", "")
    assert re.search(r"average +\d\.\d{3} ± \d\.\d{3} +\d\.\d{3} ± \d\.\d{3}", text)
    assert re.search(r"mean rank +[12]\.\d\d +[12]\.\d\d", text)
    assert not (done / "decoded").exists()


def test_the_tables_are_those_of_train(data, done, tmp_path, capsys):
    arguments = ["train", "--data_path", str(data), "--ckpt_path", str(tmp_path), "--model", "padim", "--seed", "1"]
    assert run([*arguments, "--size", "32", "--align", "off"], capsys)[0] == 0
    expected = {e.category: e.metrics for e in read_results(tmp_path)}
    own = next(run for run in read_runs([done]) if run.label == "padim, seed 1")
    assert {part.evaluation.category: part.evaluation.metrics for part in own.parts} == expected
    values = [
        part.evaluation.metrics["pixel_auroc"]
        for run in read_approaches([done])[0].runs
        for part in run.parts
        if part.evaluation.category == "bolt"
    ]
    row = next(
        row
        for row in json.loads((done / "tables" / "results.json").read_text())["overview"]
        if (row["metric"], row["category"], row["method"]) == ("pixel_auroc", "bolt", "padim")
    )
    assert row["value"] == pytest.approx(np.mean(values))
    assert row["spread"] == pytest.approx(np.std(values, ddof=1))
    low, high = row["interval"]
    assert low <= row["value"] <= high
    cells = (done / "tables" / "cells.csv").read_text().splitlines()
    assert len(cells) == 1 + 8
    assert cells[0].startswith("method,category,seed,image_auroc,")


def test_a_detector_with_other_defaults_makes_another_cell(data, tmp_path, monkeypatch):
    config = BenchmarkConfig.create(data_path=data, out=tmp_path, methods=("padim",), sizes=(32,))
    before = [cell.key for cell in cells_of(config)]
    assert [cell.key for cell in cells_of(config)] == before
    fields = PaDiM.option_fields()
    kind, default = fields["smoothing"]
    monkeypatch.setattr(PaDiM, "option_fields", lambda: fields | {"smoothing": (kind, default / 2)})
    assert not {cell.key for cell in cells_of(config)} & set(before)


def test_a_detector_that_is_trained_otherwise_by_default_makes_another_cell(data, tmp_path, monkeypatch):
    config = BenchmarkConfig.create(data_path=data, out=tmp_path, methods=("vae",), sizes=(32,))
    before = {cell.key for cell in cells_of(config)}
    vae = detector_class("vae")
    for change in ({"epochs": 7}, {"learning_rate": 0.5}):
        monkeypatch.setattr(vae, "settings", replace(vae.settings, **change))
        after = {cell.key for cell in cells_of(config)}
        assert not after & before
        before |= after


@pytest.mark.slow
def test_processes_compute_the_same(data, done, tmp_path, capsys):
    assert run(command(data, tmp_path / "out", "--jobs", "2"), capsys)[0] == 0
    names = set(finished(done))
    assert set(finished(tmp_path / "out")) == names
    for name in names:
        first, second = (json.loads((out / name).read_text()) for out in (done, tmp_path / "out"))
        assert first | {"durations": 0} == second | {"durations": 0}


@pytest.mark.slow
def test_other_settings_or_data_are_other_cells(data, done, tmp_path, capsys):
    shutil.copytree(data, tmp_path / "data")
    shutil.copytree(done, tmp_path / "out")
    before = set(finished(tmp_path / "out"))
    assert run(command(tmp_path / "data", tmp_path / "out"), capsys)[0] == 0
    assert set(finished(tmp_path / "out")) == before  # where the data lies makes no difference
    (tmp_path / "data" / "bolt" / "train" / "good" / "000.png").unlink()
    assert run(command(tmp_path / "data", tmp_path / "out", "--validation", "0.2"), capsys)[0] == 0
    assert len(finished(tmp_path / "out")) == len(before) + 8
    assert len(read_runs([tmp_path / "out"])) == 4  # of this call alone


def test_a_cell_that_cannot_be_computed_is_named_and_the_others_are_there(data, tmp_path, capsys):
    (tmp_path / "b.toml").write_text(
        f'data_path = "{data}"\nout = "{tmp_path / "out"}"\nsizes = [32]\nmethods = ["padim"]\n'
        '[settings]\nalign = "off"\n[settings.options]\n'
        '[approaches."many [b]"]\nmodel = "patchcore"\n[approaches."many [b]".options]\nbeta = 3\n'
    )
    code, text, err = run(["benchmark", "--config", str(tmp_path / "b.toml")], capsys)
    assert code == 2
    assert err.startswith("error 2 without a result: beta: not an option of PatchCore.")
    assert "2 cells" not in text
    assert "many [b] on bolt" not in text
    page = (tmp_path / "out" / "benchmark.html").read_text()
    assert "many [b], bolt, seed 0: beta: not an option of PatchCore." in page
    assert "<script" not in page


@pytest.mark.slow
def test_maps_of_another_program_join_the_table(data, done, tmp_path, capsys):
    for category in find_categories(data):
        for index, sample in enumerate(category.of("test")):
            path = tmp_path / "maps" / sample.image.relative_to(data).with_suffix(".npy")
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.random.default_rng(index).random((48, 48), np.float32))
    shutil.copytree(done, tmp_path / "out")
    arguments = command(data, tmp_path / "out", "--maps", f"noise={tmp_path / 'maps'}")
    code, text, _ = run(arguments, capsys)
    assert (code, "10 cells, 8 of them from before" in text) == (0, True)
    noise = read_approaches([tmp_path / "out"])[-1]
    assert (noise.label, [run.seed for run in noise.runs]) == ("noise", [None])
    code, text, _ = run(["compare", str(tmp_path / "out"), str(done), "--out", str(tmp_path / "c")], capsys)
    assert code == 0
    compared = json.loads((tmp_path / "c" / "tables" / "results.json").read_text())
    twice = {f"{name} ({out})" for name in ("padim", "patchcore") for out in (tmp_path / "out", done)}
    assert {row["method"] for row in compared["overview"]} == {"noise", *twice}
    assert {path.name for path in (tmp_path / "c").iterdir()} == {"benchmark.html", "figures", "tables"}


@pytest.mark.slow
def test_the_library_gives_the_same_cells(data, done, tmp_path):
    out = blemish.benchmark(
        ["padim", "patchcore"], data, tmp_path / "out", seeds=[0, 1], sizes=[32], align="off", category=["bolt"]
    )
    assert set(finished(out)) == {name for name in finished(done) if "/bolt/" in name}
    assert blemish.report(out, tmp_path / "report.html").read_text().count("padim, seed 1") > 0
    with pytest.raises(blemish.BlemishError, match="num_trees: not an option of PaDiM"):
        blemish.benchmark(["padim"], data, tmp_path / "other", num_trees=3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--data-path is missing: root of the data set"),
        (["--data-path", "D"], "--out is missing: folder for the cells"),
        (["--data-path", "D", "--out", "o", "--methods", "gan"], "methods.0: not a detector; choose from ae,"),
        (
            ["--data-path", "D", "--out", "o", "--sizes", "33"],
            "sizes.0: sides should be multiples of 16 from 32 to 1024",
        ),
        (["--data-path", "D", "--out", "o", "--seeds", "-1"], "seeds.0: input should be greater than or equal to 0"),
        (["--data-path", "D", "--out", "o", "--jobs", "0"], "jobs: input should be greater than or equal to 1"),
        (["--data-path", "D", "--out", "o", "--maps", "x"], "maps: 'x' was given. Give NAME=FOLDER"),
        (["--data-path", "D", "--out", "o", "--epochs", "0"], "ae: epochs: input should be greater than"),
        (["--data-path", "nowhere", "--out", "o"], "data_path nowhere: no such folder"),
        (["--data-path", "D", "--out", "o", "--methods", "ae", "--maps", "ae=D"], "approaches: ae is the name of two"),
    ],
)
def test_what_is_wrong_gets_one_line(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(["benchmark", *arguments], capsys)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(f"error {said}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("epochs = 3", "is not a setting. Settings are data_path, out, methods"),
        (
            "[settings]\nmodel = 'ae'",
            "settings: model is not a setting here. Settings are align, aspect, augment, batch_size",
        ),
        ("settings = 3", "settings: input should be a valid dictionary; 3 was given."),
        ("[approaches.x]\nepochs = 3", "approaches: x names no model. Add model = one of ae, ensemble"),
        ("[approaches.x]\nmodel = 'gan'", "x: model: not a detector"),
        ("[approaches.x]\nmodel = 'ae'\noptions = 3", "x: options is 3, where names with values are needed."),
        ("[approaches.ae]\n[maps]\nae = 'm'", "approaches: ae is the name of two"),
        ("seeds = []", "seeds: at least one is needed"),
        ("maps = 'x", "config b.toml: "),
    ],
)
def test_what_is_wrong_in_a_file_gets_one_line(content, said, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("b.toml").write_text(content)
    code, out, err = run(["benchmark", "--config", "b.toml", "--data-path", str(data), "--out", "o"], capsys)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert said in err
    assert not Path("o").exists()


def test_a_list_of_cells_that_leads_elsewhere_is_refused(done, tmp_path, capsys):
    shutil.copytree(done, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    content["cells"][0]["key"] = "../../else"
    (tmp_path / "out" / "benchmark.json").write_text(json.dumps(content))
    code, _, err = run(["compare", str(tmp_path / "out")], capsys)
    assert (code, "benchmark.json: not the list of a benchmark's cells." in err) == (2, True)
    code, _, err = run(["compare", str(done)], capsys)
    assert code == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="it kills by a signal")
def test_a_benchmark_that_is_killed_ends_with_what_it_would_have(data, done, tmp_path):
    out, generator = tmp_path / "out", random.Random(0)
    words = [sys.executable, "-m", "blemish", "--quiet", *command(data, out, "--jobs", "2")]
    for _ in range(3):
        process = subprocess.Popen(words, start_new_session=True)
        before = len(finished(out))
        deadline = time.monotonic() + 120
        while process.poll() is None and len(finished(out)) < before + 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(generator.random() / 2)
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = finished(out)
    assert kept
    ended = subprocess.run(words, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert kept.items() <= finished(out).items()  # none was computed again
    assert set(finished(out)) == set(finished(done))
    for name in finished(done):
        first, second = (json.loads((folder / name).read_text()) for folder in (done, out))
        assert first | {"durations": 0} == second | {"durations": 0}
    left = [path.name for path in out.rglob("*") if path.name.startswith(".")]
    assert (left, (out / "decoded").exists()) == ([], False)


class Mortal:
    """A cell whose process dies."""

    words = "a cell"
    is_finished = False

    def compute(self, workers: int) -> None:
        os._exit(1)


@pytest.mark.slow
def test_a_cell_whose_process_dies_is_an_error_and_the_others_are_computed():
    from blemish.runs.benchmark.workers import compute_all

    found = list(compute_all([Mortal(), Mortal()], 2))
    assert [outcome.error for outcome in found] == [
        "a cell: its process died 2 times. There may be too little memory: use fewer jobs, or a smaller size."
    ] * 2
