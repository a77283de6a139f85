"""The other commands, and what the README promises of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import blemish
from blemish.cli import main
from blemish.data import find_categories
from blemish.evaluation.results import read_results
from blemish.inference.inspector import Inspector
from blemish.inference.torch_backend import TorchBackend
from blemish.model.artifact import load
from blemish.runs.demo import MODELS, SETTINGS

ROOT = Path(__file__).parents[2]


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    said, code = capsys.readouterr(), int(stopped.value.code or 0)
    return code, said.out + (said.err if code == 2 else "")


def test_help_and_version_import_no_torch():
    code = "import sys\nfrom blemish.cli import main\n"
    code += "try: main(sys.argv[1:])\nexcept SystemExit: print('torch' in sys.modules)"
    for arguments in (["--help"], ["--version"], []):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert done.stdout.strip().endswith("False")


def test_version(capsys):
    assert run(["--version"], capsys) == (0, f"blemish {blemish.__version__}\n")


def test_data_check(make_category, tmp_path: Path, capsys):
    folder = make_category(tmp_path, "bolt", num_train=5, num_bad=3)
    code, text = run(["data", "check", str(tmp_path)], capsys)
    assert code == 0
    assert "0 errors, 0 warnings" in text
    (folder / "test/good/copy.png").write_bytes(next((folder / "train/good").iterdir()).read_bytes())
    code, text = run(["data", "check", str(tmp_path)], capsys)
    assert code == 2
    assert "copy.png: identical to" in text


def test_synth_makes_a_data_set_that_passes_the_check(tmp_path: Path, capsys):
    code, text = run(["synth", str(tmp_path / "set"), "--size", "64", "--category", "fabric"], capsys)
    assert code == 0
    assert "set: fabric" in text
    assert f"next: blemish fit {tmp_path}/set/fabric/train/good --out model" in text
    assert run(["data", "check", str(tmp_path / "set")], capsys)[0] == 0


def test_train_py_is_the_command_train():
    done = subprocess.run([sys.executable, "train.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--data_path is missing" in done.stderr


def test_evaluate_and_metrics_agree_with_what_train_said(make_category, tmp_path: Path, capsys):
    data, out = tmp_path / "data", tmp_path / "out"
    for name in ("bolt", "nut"):
        make_category(data, name, num_good=4, num_bad=4)
    tiny = ["--epochs", "1", "--size", "32", "--width", "4", "--latent_dim", "4"]
    assert run(["train", "--data_path", str(data), "--ckpt_path", str(out), *tiny], capsys)[0] == 0
    trained = {e.category: e.metrics for e in read_results(out)}
    code, text = run(["evaluate", str(out), "--data_path", str(data), "--resamples", "20"], capsys)
    assert code == 0
    assert "vae, images" in text
    assert "F1-max" in text
    evaluated = read_results(out)
    assert {e.category: e.metrics for e in evaluated} == trained
    assert evaluated[0].intervals["pixel_auroc"][0] < evaluated[0].intervals["pixel_auroc"][1]
    write_maps(out, data, tmp_path / "maps")
    code, _ = run(["metrics", "--maps", str(tmp_path / "maps"), "--data_path", str(data)], capsys)
    assert code == 0
    judged = {e.category: e.metrics for e in read_results(tmp_path / "maps")}
    for name, metrics in judged.items():  # maps of another program bring no pixel threshold
        assert metrics == {key: value for key, value in trained[name].items() if key in metrics}
        assert set(trained[name]) - set(metrics) == {"seg_f1"}
    code, text = run(["compare", str(out), str(tmp_path / "maps")], capsys)
    assert code == 0
    assert "not significant" in text  # the same maps
    page = tmp_path / "report.html"
    files = tmp_path / "files"
    code, text = run(["report", str(out), str(tmp_path / "maps"), "--out", str(page), "--files", str(files)], capsys)
    assert (code, "".join(text.split())) == (0, f"thereportis{page}itstablesandfiguresarein{files}")
    assert {path.suffix for path in files.iterdir()} == {".csv", ".json", ".tex", ".svg", ".png"}
    shown = re.findall(r'<span class="value">(.*?)</span>', page.read_text())
    assert f"{trained['bolt']['pixel_auroc']:.3f}" in shown


def write_maps(out: Path, data: Path, folder: Path) -> None:
    for category in find_categories(data):
        artifact = load(out / category.name)
        inspector = Inspector(TorchBackend(artifact.detector), artifact.preprocess)
        for prediction in inspector.predict(category.of("test")):
            path = folder / prediction.sample.image.relative_to(data).with_suffix(".npy")
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, prediction.map)


def test_maps_that_predict_wrote_are_measured(make_category, run_folder, model, tmp_path: Path, capsys):
    """By their rows, wherever the images lay: two have one stem, and the data has moved since."""
    (model / "evaluation.json").unlink()
    shutil.copytree(run_folder / "data/part", tmp_path / "before/part")
    data, seen = tmp_path / "data", tmp_path / "seen"
    arguments = ["predict", str(model), str(tmp_path / "before/part/test"), "--out", str(seen), "--maps"]
    assert run([*arguments, "--maps-format", "float32"], capsys)[0] == 0
    (tmp_path / "before").rename(data)
    for maps in (seen, seen / "maps"):
        command = ["metrics", "--maps", str(maps), "--data_path", str(data), "--out", str(tmp_path / "out")]
        assert run([*command, "--resamples", "0"], capsys)[0] == 0
        (found,) = read_results(tmp_path / "out")
        expected = json.loads((run_folder / "part" / "evaluation.json").read_text())
        assert found.metrics["pixel_auroc"] == pytest.approx(expected["metrics"]["pixel_auroc"], abs=1e-6)
        assert found.metrics["image_auroc"] == pytest.approx(expected["metrics"]["image_auroc"], abs=1e-6)
    cv2.imwrite(str(data / "part/test/good/new.png"), np.zeros((48, 48, 3), np.uint8))
    code, text = run(command, capsys)
    assert (code, f"good/new.png: 'blemish predict' wrote no map of it to {maps}. Run it" in text) == (2, True)


def test_evaluating_what_was_not_trained_is_one_line(make_category, tmp_path: Path, capsys):
    make_category(tmp_path / "data", "bolt")
    code, text = run(["evaluate", str(tmp_path / "out"), "--data_path", str(tmp_path / "data")], capsys)
    assert code == 2
    assert f"out: holds no detector of a category under {tmp_path / 'data'}. Its categories are bolt." in text
    arguments = ["evaluate", str(tmp_path / "out"), "--data_path", str(tmp_path / "data"), "--category", "bolt"]
    code, text = run(arguments, capsys)
    assert (code, "out/bolt/model.json: no such file" in text) == (2, True)


def test_what_a_run_has_of_a_data_set_is_evaluated(make_category, tmp_path: Path, capsys):
    data, out = tmp_path / "data", tmp_path / "out [b]"  # which is not bold
    for name in ("bolt", "nut"):
        make_category(data, name)
    settings = ["--model", "padim", "--backbone", "gabor", "--size", "32", "--category", "nut"]
    code, text = run(["train", "--data_path", str(data), "--ckpt_path", str(out), *settings], capsys)
    assert (code, f"results and figures are in {out}" in text) == (0, True)
    before = read_results(out)
    for run_path, data_path in ((out, data), (out / "nut", data), (out, data / "nut"), (out / "nut", data / "nut")):
        arguments = ["evaluate", str(run_path), "--data_path", str(data_path), "--out", str(tmp_path / "tables")]
        assert run([*arguments, "--resamples", "0"], capsys)[0] == 0
        found = read_results(tmp_path / "tables")
        assert [(e.category, e.metrics, e.images) for e in found] == [(e.category, e.metrics, e.images) for e in before]


def test_another_category_than_the_detector_s_is_not_evaluated(make_category, tmp_path: Path, capsys):
    make_category(tmp_path / "data", "bolt")
    settings = ["--model", "padim", "--backbone", "gabor", "--size", "32", "--data_path", str(tmp_path / "data")]
    assert run(["train", *settings, "--ckpt_path", str(tmp_path / "out")], capsys)[0] == 0
    arguments = ["evaluate", str(tmp_path / "out" / "bolt"), "--data_path", str(tmp_path / "data"), "--category", "nut"]
    code, text = run(arguments, capsys)
    assert (code, "bolt: is the detector of bolt alone. Give the folder of the run." in text) == (2, True)


def test_runs_on_the_root_and_on_the_category_are_on_the_same_images(make_category, tmp_path: Path, capsys):
    for name in ("bolt", "nut"):
        make_category(tmp_path / "data", name)
    given = ["--backbone", "gabor", "--size", "32", "--category", "nut", "--figures", "0"]
    for model, data in (("padim", tmp_path / "data"), ("patchcore", tmp_path / "data" / "nut")):
        arguments = ["--model", model, "--data_path", str(data), "--ckpt_path", str(tmp_path / model), *given]
        assert run(["train", *arguments], capsys)[0] == 0
    code, text = run(["compare", str(tmp_path / "padim"), str(tmp_path / "patchcore")], capsys)
    assert (code, "different test images" in text) == (0, False)


def test_what_makes_figures_unfair_is_told_in_a_line_each(make_category, tmp_path: Path, caplog, capsys):
    data, outs = tmp_path / "data", [str(tmp_path / name) for name in ("padim", "patchcore")]
    for name in ("bolt", "nut"):
        make_category(data, name)
    given = ["--backbone", "gabor", "--size", "32", "--figures", "0", "--data_path", str(data)]
    assert run(["train", "--model", "padim", "--ckpt_path", outs[0], *given], capsys)[0] == 0
    assert run(["train", "--model", "patchcore", "--ckpt_path", outs[1], *given, "--category", "nut"], capsys)[0] == 0
    assert run(["evaluate", *outs, "--data_path", str(data), "--resamples", "0"], capsys)[0] == 0
    assert not [line for line in caplog.messages if "learned" in line]
    more = str(data / "nut/test/good")
    assert run(["fit", more, "--update", f"{outs[1]}/nut"], capsys)[0] == 0
    caplog.clear()
    assert run(["evaluate", *outs, "--data_path", str(data), "--resamples", "0"], capsys)[0] == 0
    assert run(["compare", *outs], capsys)[0] == 0
    assert [line for line in caplog.messages if "learned" in line or "differ" in line] == [
        f"{more}/000.png: the model has learned 2 of the 4 test images of nut, so its figures are too good. "
        "Test with other images, or fit it again without these.",
        "the categories differ: patchcore lacks bolt; averages are each over a method's own categories. "
        "Run all methods on the same ones.",
        f"{outs[1]}/nut: the model has learned further images since its test; the figures are from before. "
        "To compare what it is now, run 'blemish train' on all its images.",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evaluate", "out", "--data_path", "data", "--out", "file"], "out file: a file. Name a folder."),
        (["metrics", "--maps", "data", "--data_path", "data", "--out", "file"], "out file: a file. Name a folder."),
        (["metrics", "--maps", "nowhere", "--data_path", "data"], "maps nowhere: no such folder. Give nowhere/"),
        (["report", "out", "--out", "data"], "out data: a folder. Name the file to write, such as data/report.html"),
        (["data", "check", "file"], "data_path file: not a folder"),
    ],
)
def test_what_is_in_the_way_is_told_first(arguments, said, make_category, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_category(tmp_path / "data", "bolt")
    (tmp_path / "file").touch()
    code, text = run(arguments, capsys)
    assert (code, said in text) == (2, True)


@pytest.mark.parametrize("command", [["report"], ["compare"]])
def test_a_report_on_no_run_is_one_line_and_leaves_nothing(tmp_path: Path, capsys, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as stopped:
        main([*command, "empty", "nowhere"])
    assert stopped.value.code == 2
    assert "empty: holds no run" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.mark.slow
def test_the_demo_runs_every_method_and_reuses_what_is_there(tmp_path: Path, capsys, monkeypatch):
    one_epoch = {model: {"epochs": 1} for model in ("ae", "vae", "selfsup")}
    monkeypatch.setattr("blemish.runs.demo.SETTINGS", one_epoch | {"selfsup": SETTINGS["selfsup"] | {"epochs": 1}})
    monkeypatch.setattr("blemish.runs.demo.SIZE", 64)
    monkeypatch.setattr("blemish.runs.demo.CATEGORIES", ["gear"])
    code, text = run(["demo", str(tmp_path)], capsys)
    assert code == 0
    assert {e.method for e in read_results(tmp_path)} == set(MODELS)
    assert (tmp_path / "figures" / "auroc.png").exists()
    assert f"the report is {tmp_path / 'report.html'}" in text
    assert (tmp_path / "report.html").stat().st_size > 100_000
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model-*.safetensors")}
    assert len(before) == len(MODELS)
    assert run(["demo", str(tmp_path)], capsys)[1] == text
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model-*.safetensors")} == before
