"""`python train.py` as a user runs it: alone, killed and resumed, as two processes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from blemish.inference.inspector import Inspector
from blemish.model.folder import TENSORS, read_model
from blemish.runs.config import RunConfig
from blemish.runs.run import run

ROOT = Path(__file__).parents[2]
TINY = ["--size", "32", "--width", "4", "--latent_dim", "8", "--batch_size", "4", "--figures", "3"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, make_category) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_category(root, "bolt", num_train=8)
    make_category(root, "nut", num_train=8)
    return root


def command(data: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "train.py", "--data_path", str(data), "--ckpt_path", str(out), *TINY, *more]


def train(data: Path, out: Path, *more: str) -> str:
    done = subprocess.run(command(data, out, *more), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_of_the_mission(data: Path, tmp_path: Path):
    printed = train(data, tmp_path, "--model", "vae", "--epochs", "2")
    lines = printed.strip().splitlines()
    assert lines[0].startswith("bolt: pixel AUROC 0.")
    assert lines[-1].startswith("average pixel AUROC 0.")
    results = json.loads((tmp_path / "results.json").read_text())
    assert [row["category"] for row in results["evaluations"]] == ["bolt", "nut"]
    values = [row["metrics"]["pixel_auroc"] for row in results["evaluations"]]
    assert results["average"]["vae"]["pixel_auroc"] == pytest.approx(sum(values) / 2)
    assert lines[-1] == f"average pixel AUROC {sum(values) / 2:.4f}"
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert [row["category"] for row in rows] == ["bolt", "nut", "average"]
    assert float(rows[1]["pixel_auroc"]) == values[1]
    files = set(read_model(tmp_path / "bolt").files.values())
    expected = {"model.json", "evaluation.json", "record.safetensors", *files}
    assert ({path.name for path in (tmp_path / "bolt").iterdir()}, len(files)) == (expected, 1)
    figures = {path.name for path in (tmp_path / "figures").iterdir()}
    assert figures == {"auroc.png"} | {
        f"{category}_{kind}.png" for category in ("bolt", "nut") for kind in ("examples", "losses", "predictions")
    }


def test_a_category_without_test_images_is_trained(make_category, tmp_path: Path):
    make_category(tmp_path / "data", "washer", num_good=0, num_bad=0)
    printed = train(tmp_path / "data", tmp_path / "out", "--model", "ae", "--epochs", "1")
    assert "no test images to evaluate" in printed
    assert tensors_of(tmp_path / "out" / "washer").exists()


@pytest.mark.slow
def test_test_images_cannot_influence_what_is_kept(make_category, tmp_path: Path):
    # Trap: the best epoch was picked by the AUROC on the test set.
    first = make_category(tmp_path / "first", "bolt", num_train=8)
    make_category(tmp_path / "second", "bolt", num_train=8, num_good=5, num_bad=4)
    for name in ("first", "second"):
        train(tmp_path / name, tmp_path / f"out_{name}", "--epochs", "3")
    assert first.name == "bolt"
    kept = [load_file(tensors_of(tmp_path / f"out_{name}" / "bolt")) for name in ("first", "second")]
    assert_close(kept[0], kept[1], rtol=0, atol=0)


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_gives_the_same_bits(data: Path, tmp_path: Path):
    more = ["--model", "vae", "--epochs", "150", "--category", "bolt"]
    train(data, tmp_path / "whole", *more)
    out, kills = tmp_path / "killed", 0
    checkpoint = out / "bolt" / "checkpoint.safetensors"
    for wait in (0.05, 0.3):
        kills += kill_after(command(data, out, *more, "--resume"), checkpoint, wait)
    train(data, out, *more, "--resume")
    assert kills == 2
    expected, found = (load_file(tensors_of(tmp_path / name / "bolt")) for name in ("whole", "killed"))
    assert_close(found, expected, rtol=0, atol=0)
    assert history(tmp_path / "whole") == history(out)
    assert not checkpoint.exists()
    assert not list(out.rglob(".*"))


def kill_after(arguments: list[str], checkpoint: Path, wait: float) -> bool:
    """Starts the command and kills it `wait` seconds after it has saved; whether it was still running then."""
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before):
        time.sleep(0.005)
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def tensors_of(folder: Path) -> Path:
    return read_model(folder).file(TENSORS)


def history(out: Path) -> dict[str, object]:
    return dict(json.loads((out / "bolt" / "model.json").read_text())["provenance"]["training"])


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(data: Path, tmp_path: Path):
    arguments = command(data, tmp_path, "--epochs", "5000", "--category", "bolt")
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "bolt" / "checkpoint.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert "--resume" in said
    assert "Traceback" not in said


def test_resume_reuses_what_is_finished_and_refuses_what_is_another_run(data: Path, tmp_path: Path):
    train(data, tmp_path, "--epochs", "1")
    tensors = tensors_of(tmp_path / "bolt")
    before = tensors.stat().st_mtime_ns
    assert "average pixel AUROC" in train(data, tmp_path, "--epochs", "1", "--resume")
    assert tensors.stat().st_mtime_ns == before
    other = command(data, tmp_path, "--epochs", "2", "--resume")
    done = subprocess.run(other, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "epochs = 1, while this one has 2" in done.stderr
    assert tensors.stat().st_mtime_ns == before


def test_figures_of_an_earlier_run_are_not_taken_for_those_of_one_that_stopped(data, tmp_path: Path, monkeypatch):
    def of(dimensions: int, resume: bool = False) -> RunConfig:
        fields = {"model": "padim", "size": 32, "data_path": data, "category": ("bolt",), "ckpt_path": tmp_path}
        return RunConfig.create(**fields, resume=resume, options={"backbone": "gabor", "dimensions": dimensions})

    def stopped(*arguments: object) -> None:
        raise KeyboardInterrupt

    run(of(2))
    with monkeypatch.context() as patched:
        patched.setattr("blemish.runs.run.evaluate", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(of(20))
    assert not (tmp_path / "bolt" / "evaluation.json").exists()
    resumed = run(of(20, resume=True))
    assert resumed.metrics == run(of(20)).metrics


def test_what_was_learned_is_not_learned_again_where_testing_was_stopped(data: Path, tmp_path: Path, monkeypatch):
    fields = {"model": "ae", "epochs": 2, "size": 32, "data_path": data, "category": ("bolt",), "options": {"width": 4}}

    def stopped(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("blemish.runs.run.evaluate", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(RunConfig.create(**fields, ckpt_path=tmp_path / "stopped"))
    monkeypatch.setattr("blemish.training.loop._Loop._step", stopped)
    resumed = run(RunConfig.create(**fields, ckpt_path=tmp_path / "stopped", resume=True))
    monkeypatch.undo()
    assert resumed.metrics == run(RunConfig.create(**fields, ckpt_path=tmp_path / "whole")).metrics
    assert not (tmp_path / "stopped" / "bolt" / "checkpoint.safetensors").exists()


@pytest.mark.parametrize(
    ("model", "asked", "expected"),
    [
        ("vae", {}, (100, 1e-3, 0)),
        ("selfsup", {}, (40, 3e-3, 20)),
        ("selfsup", {"epochs": 7, "learning_rate": 0.5, "patience": 0}, (7, 0.5, 0)),
    ],
)
def test_what_is_not_asked_for_is_as_the_detector_has_it(
    data: Path, tmp_path: Path, monkeypatch, model, asked, expected
):
    found = []

    def noted(detector, images, validation, settings, **more):
        found.append((settings.epochs, settings.learning_rate, settings.patience))
        raise KeyboardInterrupt

    monkeypatch.setattr("blemish.training.loop.train", noted)
    with pytest.raises(KeyboardInterrupt):
        run(RunConfig.create(model=model, size=32, data_path=data, category=("bolt",), ckpt_path=tmp_path, **asked))
    assert found == [expected]


def in_two_processes(*arguments: str) -> str:
    """What both print of `python ARGUMENTS`, each in half of the machine."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    del environment["ACCELERATE_TORCH_DEVICE"]  # so that --device auto has to find out
    done = subprocess.run(
        [sys.executable, *launch, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("model", "device"), [("ae", "cpu"), ("vae", "auto")])
def test_two_processes_give_what_one_gives(data: Path, tmp_path: Path, model: str, device: str):
    if device == "auto" and torch.accelerator.is_available():
        pytest.skip("two processes need two accelerators")
    more = ["--model", model, "--epochs", "3", "--category", "bolt", "--precision", "float32", "--device", device]
    more += ["--batch_size", "3"]  # 7 training images: the last batch leaves the second process without a share
    train(data, tmp_path / "one", *more)
    printed = in_two_processes(*command(data, tmp_path / "two", *more)[1:])
    assert printed.count("average pixel AUROC") == 1
    expected, found = (load_file(tensors_of(tmp_path / name / "bolt")) for name in ("one", "two"))
    assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert not all(torch.equal(found[name], expected[name]) for name in expected)  # half of the sum is added last
    assert history(tmp_path / "two")["train"] == pytest.approx(history(tmp_path / "one")["train"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "more", "is_same"),
    [("ensemble", [], True), ("patchcore", ["--selection", "greedy", "--position", "0"], False)],
)
def test_two_processes_learn_the_features_that_one_learns(data: Path, tmp_path: Path, model, more, is_same):
    """By `spread` they have the bank of one process; by `greedy` one as near to other images, on the average."""
    arguments = ["--model", model, "--backbone", "gabor", "--size", "64", "--num_patches", "100", "--align", "off"]
    arguments = ["train.py", "--data_path", str(data), "--category", "bolt", *arguments, *more, "--device", "cpu"]
    done = subprocess.run([sys.executable, *arguments, "--ckpt_path", str(tmp_path / "one")], cwd=ROOT, check=False)
    assert done.returncode == 0
    assert in_two_processes(*arguments, "--ckpt_path", str(tmp_path / "two")).count("average pixel AUROC") == 1
    images = sorted((data / "bolt" / "test" / "good").glob("*.png"))
    expected, found = (
        np.stack([prediction.map for prediction in Inspector.load(tmp_path / name / "bolt").predict(images)])
        for name in ("one", "two")
    )
    assert np.allclose(found, expected, rtol=0, atol=1e-3) == is_same
    assert found.mean() == pytest.approx(expected.mean(), rel=0.02)


@pytest.mark.slow
def test_two_processes_fit_one_detector(data: Path, tmp_path: Path):
    arguments = ["-m", "blemish", "fit", str(data / "bolt" / "train" / "good"), "--out", str(tmp_path / "model")]
    arguments += ["--model", "ae", "--epochs", "1", *TINY[:6], "--device", "cpu"]
    assert in_two_processes(*arguments).count("ae has learned from 7 images") == 1
    expected = {"model.json", tensors_of(tmp_path / "model").name}
    assert {path.name for path in (tmp_path / "model").iterdir()} == expected
