"""`blemish fit` as a user at a line runs it: a folder of good images, further ones later."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

import blemish
from blemish.cli import main
from blemish.errors import BlemishError
from blemish.features.registry import default_backbone
from blemish.inference.inspector import Inspector
from blemish.model.folder import read_model
from blemish.model.locking import locked


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


@pytest.fixture
def good(make_category, tmp_path: Path) -> Path:
    return make_category(tmp_path / "data", num_train=9) / "train" / "good"


def test_a_folder_is_enough_and_choices_are_told(good, tmp_path, capsys):
    assert run("fit", good, "--out", tmp_path / "model", "--size", 48) == 0
    document = json.loads((tmp_path / "model" / "model.json").read_text())
    assert document["model"] == "ensemble"
    assert document["options"]["shared"] is False
    name, reason = default_backbone()
    assert document["options"]["backbone"] == name
    aligned, backbone, *_ = document["provenance"]["choices"]
    assert aligned == "align: off, since there is no background that a part could move on"
    assert backbone == reason
    assert len(document["provenance"]["learned_from"]) == 8
    said, threshold = capsys.readouterr().out, document["calibration"]["threshold"]
    assert said.splitlines() == [
        f"ensemble has learned from 8 images; the model is in {tmp_path / 'model'}",
        f"an image that scores above {threshold:.4g} is a defect: about 1 in 2 good parts will be flagged, "
        "by 1 good image held out",
        "99 held-out images, about 990 good ones in all, are needed to guarantee 1 in 100",
        "next:",
        f"  blemish predict {tmp_path / 'model'} {good.parents[1] / 'test'} --out predictions --report",
        "    finds the defects: look at predictions/report.html; the table is predictions/predictions.csv",
        f"  blemish calibrate {tmp_path / 'model'}",
        "    shows the threshold and alternatives, and sets another one",
    ]
    scores = [found.score for found in Inspector.load(tmp_path / "model").predict(sorted(good.glob("*.png")))]
    assert np.isfinite(scores).all()


def test_one_image_gives_no_threshold_and_that_is_told(make_category, tmp_path, capsys):
    good = make_category(tmp_path / "data", num_train=1) / "train" / "good"
    assert run("fit", good, "--out", tmp_path / "model", "--size", 48, "--backbone", "gabor") == 0
    said = capsys.readouterr().out
    assert f"ensemble has learned from 1 image; the model is in {tmp_path / 'model'}\n" in said
    assert "there is no threshold, because no good image could be held out: use more images, or run\n" in said
    assert f"  blemish calibrate {tmp_path / 'model'} --images FOLDER_OF_OTHER_GOOD_IMAGES\n" in said


def test_a_category_with_masks_is_learned_from_without_a_word_about_them(good, tmp_path, capsys):
    assert (
        run(
            "fit",
            good.parents[1],
            "--out",
            tmp_path / "model",
            "--model",
            "patchcore",
            "--backbone",
            "gabor",
            "--size",
            48,
        )
        == 0
    )
    assert "mask" not in capsys.readouterr().err


def test_what_is_set_aside_and_copies_of_it_are_each_told_in_a_line(good, tmp_path, caplog):
    shutil.copytree(good, tmp_path / "parts/good")
    shutil.copytree(good.parents[1] / "test/bad", tmp_path / "parts/scratch")
    shutil.copy(good.parents[1] / "test/bad/000.png", tmp_path / "parts/good/0.png")
    few = ("--model", "padim", "--backbone", "gabor", "--size", 48, "--align", "off")
    with caplog.at_level("INFO", "blemish"):
        assert run("fit", tmp_path / "parts", "--out", tmp_path / "model", *few) == 0
    said = [line.removeprefix(f"{tmp_path / 'parts'}") for line in caplog.messages if "set aside" in line]
    assert said == [
        ": 8 images to learn from; set aside for testing: 2 good images and 2 defective ones",
        f"/good/0.png: identical to {tmp_path / 'parts/scratch/000.png'}, set aside for testing. Remove one of them.",
    ]
    assert not [line for line in caplog.messages if "left out" in line]


@pytest.mark.parametrize("model", ["ensemble", "padim", "patchcore"])
def test_further_images_are_learned_once(good, tmp_path, make_category, model, capsys):
    assert run("fit", good, "--out", tmp_path / "model", "--size", 48, "--model", model, "--backbone", "gabor") == 0
    more = make_category(tmp_path / "more", "other", num_train=3) / "train" / "good"
    assert run("fit", more, "--update", tmp_path / "model", "--out", tmp_path / "new") == 0
    before, after = (json.loads((tmp_path / name / "model.json").read_text()) for name in ("model", "new"))
    assert len(after["provenance"]["learned_from"]) == len(before["provenance"]["learned_from"]) + 3
    assert after["options"] == before["options"]
    assert after["calibration"] == before["calibration"]
    path = sorted(more.glob("*.png"))[0]
    old, new = (next(iter(Inspector.load(tmp_path / name).predict([path]))).score for name in ("model", "new"))
    assert new < old or (new == old and model == "patchcore")  # whose bank may hold their like already
    capsys.readouterr()
    assert run("fit", more, "--update", tmp_path / "new") == 2
    assert "is new to the model" in capsys.readouterr().err
    assert run("fit", good, "--update", tmp_path / "model") == 2  # the pictures held out by it are known too
    assert "is new to the model" in capsys.readouterr().err


def test_a_detector_that_cannot_go_on_says_so(good, tmp_path, make_category, capsys):
    assert run("fit", good, "--out", tmp_path / "model", "--model", "ae", "--epochs", 1, "--size", 32) == 0
    more = make_category(tmp_path / "more", "other", num_train=3) / "train" / "good"
    assert run("fit", more, "--update", tmp_path / "model") == 2
    assert "Fit it to all of them again" in capsys.readouterr().err


def test_a_model_is_not_overwritten_unless_it_is_asked_for(good, tmp_path, make_category, capsys):
    first, second = tmp_path / "m1", tmp_path / "m2"
    for out in (first, second):
        assert run("fit", good, "--out", out, "--size", 48, "--model", "padim", "--backbone", "gabor") == 0
    more = make_category(tmp_path / "more", "other", num_train=3) / "train" / "good"
    before = (first / "model.json").read_bytes()
    for arguments in ((good, "--size", 32), (more, "--update", second)):
        capsys.readouterr()
        assert run("fit", *arguments, "--out", first) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said == f"error {first}: holds a model already. Give another folder as out, or force to replace it."
        assert (first / "model.json").read_bytes() == before
    assert run("fit", more, "--update", second, "--out", first, "--force") == 0
    assert len(read_model(first).provenance["learned_from"]) == 8 + 3
    assert run("fit", good, "--size", 32, "--model", "patchcore", "--backbone", "gabor", "--out", first, "--force") == 0
    assert read_model(first).model == "patchcore"
    assert {path.name for path in first.iterdir()} == {"model.json", *read_model(first).files.values()}
    assert run("fit", more, "--update", second, "--out", tmp_path / "m1" / ".." / "m2") == 0  # its own place


@pytest.mark.parametrize("fitted", ["bolt", "bolt/train/good"])
def test_a_model_knows_what_it_was_fitted_to_whatever_its_folder_is_called(fitted, make_category, tmp_path, capsys):
    for name in ("bolt", "nut"):
        make_category(tmp_path / "data", name, num_train=12)
    assert (
        run(
            "fit",
            tmp_path / "data" / fitted,
            "--out",
            tmp_path / "m1",
            "--size",
            48,
            "--model",
            "patchcore",
            "--backbone",
            "gabor",
        )
        == 0
    )
    assert read_model(tmp_path / "m1").category == "bolt"
    (tmp_path / "m1").rename(tmp_path / "m2")
    for data in ((), ("--data_path", tmp_path / "data"), ("--data_path", tmp_path / "data" / "bolt")):
        assert run("calibrate", tmp_path / "m2", "--folds", 3, *data) == 0
        assert read_model(tmp_path / "m2").calibration.num_images == 12
    assert run("evaluate", tmp_path / "m2", "--data_path", tmp_path / "data", "--out", tmp_path, "--resamples", 0) == 0
    (found,) = json.loads((tmp_path / "results.json").read_text())["evaluations"]
    assert (found["category"], len(found["images"])) == ("bolt", 4)
    capsys.readouterr()
    (tmp_path / "data").rename(tmp_path / "moved")
    for command in (("calibrate", tmp_path / "m2", "--folds", 3), ("export", tmp_path / "m2")):
        assert run(*command) == 2
        assert (
            "no such folder. Give --data-path, the data set that the detector was fitted to" in capsys.readouterr().err
        )


@pytest.mark.slow
def test_a_model_of_any_name_is_exported(make_category, tmp_path):
    make_category(tmp_path / "data", "bolt", num_train=12)
    make_category(tmp_path / "data", "nut")
    good = tmp_path / "data" / "bolt" / "train" / "good"
    assert run("fit", good, "--out", tmp_path / "m1", "--size", 48, "--model", "patchcore", "--backbone", "gabor") == 0
    for data in ((), ("--data_path", tmp_path / "data")):
        assert run("export", tmp_path / "m1", *data) == 0
    assert Inspector.load(tmp_path / "m1", "onnx")


def test_who_comes_second_is_told_who_is_at_it(good, tmp_path, capsys):
    assert run("fit", good, "--out", tmp_path / "m", "--size", 48, "--model", "padim", "--backbone", "gabor") == 0
    before = (tmp_path / "m" / "model.json").read_bytes()
    others = (
        ("fit", good, "--update", tmp_path / "m"),
        ("fit", good, "--out", tmp_path / "m", "--force"),
        ("calibrate", tmp_path / "m", "--folds", 3),
        ("export", tmp_path / "m"),
        ("train", "--data_path", good.parents[2], "--ckpt_path", tmp_path, "--model", "padim", "--backbone", "gabor"),
    )
    (tmp_path / "part").symlink_to(tmp_path / "m")  # where train writes to
    held = threading.Event()
    done = threading.Event()

    def hold() -> None:
        with locked(tmp_path / "m", "nightly update"):
            held.set()
            done.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    for command in others:
        capsys.readouterr()
        assert run(*command) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert f"is being changed by nightly update (process {os.getpid()} on" in said
    assert run("calibrate", tmp_path / "m") == 0  # which only shows
    done.set()
    holder.join()
    assert (tmp_path / "m" / "model.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--out is missing"),
        (["--update", "nowhere"], "nowhere"),
        (["--update", "nowhere", "--seed", "3"], "keeps its settings"),
        (["--out", "m", "--backbone", "resnet19"], "neither gabor, pca nor"),
        (["--out", "m", "--layers", "1", "9", "--backbone", "resnet18"], "resnet18 has 0 to 4"),
        (["--out", "m", "--backbone", "resnet18", "--weights", "nowhere.pth"], "no such file"),
        (["--out", "m", "--shrinkage", "-1"], "shrinkage"),
    ],
)
def test_what_is_wrong_is_one_line(good, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert run("fit", good, *arguments) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "m" / "model.json").exists()


def test_a_model_that_is_replaced_leaves_no_results_behind(run_folder, make_category, tmp_path):
    more = make_category(tmp_path / "more", "other", num_train=3) / "train" / "good"
    results = {"evaluation.json", "record.safetensors"}
    few = ("--model", "padim", "--backbone", "gabor", "--size", 32)
    for words in (("--update", run_folder / "part"), few):
        out = Path(shutil.copytree(run_folder / "part", tmp_path / words[0].strip("-")))
        assert results <= {path.name for path in out.iterdir()}
        assert run("fit", more, "--out", out, "--force", *words) == 0
        assert not results & {path.name for path in out.iterdir()}
        assert read_model(out).metrics == {}


def test_training_settings_of_a_method_without_a_training_are_told_in_a_line(good, tmp_path, capsys, caplog):
    line = (
        "has no effect on padim, which is not trained in epochs. Leave it out, or choose a method that is: ae, selfsup"
    )
    few = ("--model", "padim", "--backbone", "gabor", "--size", 32)
    for name, value in (("epochs", 3), ("learning_rate", 0.1), ("patience", 2)):
        assert run("fit", good, "--out", tmp_path / "model", *few, f"--{name}", value) == 2
        assert f"{name}: {line}" in capsys.readouterr().err
        assert not (tmp_path / "model").exists()
    with pytest.raises(BlemishError, match="epochs: has no effect on padim"):
        blemish.fit(good, method="padim", epochs=3)
    data = ("--data_path", good.parents[1], "--ckpt_path", tmp_path / "run")
    assert run("train", *data, *few, "--epochs", 3) == 0  # every method takes the arguments of train.py
    assert [message for message in caplog.messages if "epochs" in message] == [f"epochs: {line}, vae."]
