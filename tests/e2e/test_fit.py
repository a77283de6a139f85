"""`blemish fit` as a user at a line runs it: a folder of good images, further ones later."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from blemish.cli import main
from blemish.inference.inspector import Inspector


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
    assert isinstance(document["options"]["shared"], bool)
    assert document["options"]["shrinkage"] in (0.01, 0.03, 0.1, 0.3)
    aligned, likeliest, *_ = document["provenance"]["choices"]
    assert aligned == "align: off, since there is no background that a part could move on"
    assert "1 held-out good image is likeliest so" in likeliest
    assert len(document["provenance"]["learned_from"]) == 8
    said, threshold = capsys.readouterr().out, document["calibration"]["threshold"]
    assert said.splitlines() == [
        f"ensemble has learned from 8 images; the model is in {tmp_path / 'model'}",
        f"an image that scores above {threshold:.4g} is a defect: about 1 in 2 good parts will be flagged, "
        "by 1 good image held out",
        "99 held-out images, about 990 good ones in all, are needed to promise 1 in 100",
        "next:",
        f"  blemish predict {tmp_path / 'model'} {good.parents[1] / 'test'} --out predictions --report",
        "    finds the defects: look at predictions/report.html; the table is predictions/predictions.csv",
        f"  blemish calibrate {tmp_path / 'model'}",
        "    shows the threshold and what others would mean, and sets another",
    ]
    scores = [found.score for found in Inspector.load(tmp_path / "model").predict(sorted(good.glob("*.png")))]
    assert np.isfinite(scores).all()


def test_one_image_gives_no_threshold_and_that_is_told(make_category, tmp_path, capsys):
    good = make_category(tmp_path / "data", num_train=1) / "train" / "good"
    assert run("fit", good, "--out", tmp_path / "model", "--size", 48) == 0
    said = capsys.readouterr().out
    assert f"ensemble has learned from 1 image; the model is in {tmp_path / 'model'}\n" in said
    assert "there is no threshold, since no good image could be held out: learn from more images, or run\n" in said
    assert f"  blemish calibrate {tmp_path / 'model'} --images FOLDER_OF_OTHER_GOOD_IMAGES\n" in said


def test_a_category_with_masks_is_learned_from_without_a_word_about_them(good, tmp_path, capsys):
    assert run("fit", good.parents[1], "--out", tmp_path / "model", "--model", "patchcore", "--size", 48) == 0
    assert "mask" not in capsys.readouterr().err


@pytest.mark.parametrize("model", ["ensemble", "padim", "patchcore"])
def test_further_images_are_learned_once(good, tmp_path, make_category, model, capsys):
    assert run("fit", good, "--out", tmp_path / "model", "--size", 48, "--model", model) == 0
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
    assert "does not know already" in capsys.readouterr().err
    assert run("fit", good, "--update", tmp_path / "model") == 2  # the pictures held out by it are known too
    assert "does not know already" in capsys.readouterr().err


def test_a_detector_that_cannot_go_on_says_so(good, tmp_path, make_category, capsys):
    assert run("fit", good, "--out", tmp_path / "model", "--model", "ae", "--epochs", 1, "--size", 32) == 0
    more = make_category(tmp_path / "more", "other", num_train=3) / "train" / "good"
    assert run("fit", more, "--update", tmp_path / "model") == 2
    assert "Fit it anew on all of them" in capsys.readouterr().err


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
