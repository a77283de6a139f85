"""Folders as users have them, through the commands: one rule for all, and what is left out is said."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from blemish.cli import main
from blemish.data.source import read_file
from blemish.model.changes import write_model
from blemish.model.folder import read_model
from blemish.runs.config import RunConfig
from blemish.runs.fit import fit
from blemish.types import Sample


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """The exit code, and all that was said with one space for any white."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return int(stopped.value.code or 0), " ".join((said.out + said.err).split())


@pytest.fixture
def parts(make_category, tmp_path: Path) -> Path:
    """Nine good images in two folders and behind a link, with what cameras, people and tools leave beside them."""
    good = make_category(tmp_path / "data", num_train=9) / "train/good"
    parts, store = tmp_path / "parts", tmp_path / "store"
    for number, path in enumerate(sorted(good.iterdir())):
        folder = (parts / "monday", parts / "tuesday/early", store)[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / path.name)
    (parts / "wednesday").symlink_to(store, target_is_directory=True)
    (parts / "tuesday/again").symlink_to(store, target_is_directory=True)
    (parts / "all").symlink_to(parts, target_is_directory=True)
    for name in (".ipynb_checkpoints", "@eaDir"):
        (parts / name).mkdir()
        shutil.copy(store / "002.png", parts / name / "cached.png")
    (parts / "notes.txt").touch()
    return parts


LEFT_OUT = (
    "left out: 1 hidden folder, 1 folder of a tool, 2 links to a folder that was read already, "
    "1 file not an image by name (.txt)"
)


def test_every_command_reads_the_same_images_and_says_what_it_left_out(parts: Path, tmp_path: Path, capsys):
    model, size = tmp_path / "model", ("--size", 48, "--model", "patchcore", "--backbone", "gabor")
    code, said = run(capsys, "data", "check", parts)
    assert (code, f"{parts}: {LEFT_OUT}." in said, "good 9 48 x 48" in said) == (0, True, True)
    assert run(capsys, "fit", parts, "--out", model, *size)[0] == 0
    known = read_model(model).provenance
    assert len({*known["learned_from"], *known["held_out"]}) == 9
    code, said = run(capsys, "predict", model, parts, "--out", tmp_path / "out")
    assert (code, LEFT_OUT in said, said.count("left out")) == (0, True, 1)
    rows = [json.loads(line)["path"] for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert len({Path(path).resolve() for path in rows}) == len(rows) == 9
    assert run(capsys, "calibrate", model, "--folds", 3, "--data_path", parts)[0] == 0
    code, said = run(capsys, "train", "--data_path", parts, "--ckpt_path", tmp_path / "run", *size)
    assert (code, len(json.loads((tmp_path / "run/parts/evaluation.json").read_text())["validation"])) == (0, 1)
    code, said = run(capsys, "fit", parts, "--update", model)
    assert (code, "no good image is new" in said) == (2, True)


@pytest.fixture
def other_files(make_category, tmp_path: Path) -> tuple[Path, Path]:
    """A folder of ten good images, and one of the same as BMP."""
    good = make_category(tmp_path / "data", num_train=10) / "train/good"
    (tmp_path / "bmp").mkdir()
    for path in good.iterdir():
        assert cv2.imwrite(str(tmp_path / "bmp" / f"{path.stem}.bmp"), cv2.imread(str(path)))
    return good, tmp_path / "bmp"


def patchcore(folder: Path, out: Path, **fields: object) -> RunConfig:
    given = {"model": "patchcore", "size": 48, "data_path": folder, "ckpt_path": out, "align": "off"}
    return RunConfig.create(**given, options={"backbone": "gabor"}, **fields)


def test_a_picture_in_two_kinds_of_file_is_held_out_as_one(other_files, tmp_path: Path):
    good, bmp = other_files
    shutil.copytree(bmp, good, dirs_exist_ok=True)
    for seed in range(3):
        known = fit(patchcore(good, tmp_path / f"{seed}", validation=0.3, seed=seed)).provenance
        assert not set(known["learned_from"]) & set(known["held_out"])
        assert [len(set(known[name])) for name in ("learned_from", "held_out")] == [7, 3]
        assert [len(known[name]) for name in ("learned_from", "held_out")] == [14, 6]


def test_a_picture_that_was_learned_is_known_in_another_kind_of_file(other_files, tmp_path: Path, capsys):
    good, bmp = other_files
    model = tmp_path / "model"
    fit(patchcore(good, model))
    assert "is a training image" in run(capsys, "calibrate", model, "--images", bmp)[1]
    assert "is new to the model" in run(capsys, "fit", bmp, "--update", model)[1]
    assert run(capsys, "calibrate", model, "--folds", 2, "--data_path", bmp)[0] == 0


def test_earlier_models_know_files_and_not_pixels(other_files, tmp_path: Path, capsys):
    good, _ = other_files
    model = tmp_path / "model"
    fitted = fit(patchcore(good, model))
    files = {path: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in sorted(good.iterdir())}
    infos = {path: read_file(Sample(path), fitted.preprocess, with_contents=True)[1] for path in files}
    of_file = {info.pixel_sha256[:16]: files[path] for path, info in infos.items()}
    known = {name: sorted(of_file[one] for one in fitted.provenance[name]) for name in ("learned_from", "held_out")}
    write_model(replace(fitted, provenance=fitted.provenance | known))
    assert "is a training image" in run(capsys, "calibrate", model, "--images", good)[1]
    assert "is new to the model" in run(capsys, "fit", good, "--update", model)[1]
    assert run(capsys, "calibrate", model, "--folds", 2, "--data_path", good)[0] == 0


def test_masks_beside_their_images_are_no_images(make_category, tmp_path: Path, capsys):
    """A data set that keeps `000.png` and `000_label.png` side by side, as many do."""
    folder = make_category(tmp_path, "part", num_train=6, num_good=2, num_bad=3)
    for mask in (folder / "ground_truth/bad").iterdir():
        mask.rename(folder / "test/bad" / mask.name.replace("_mask", "_label"))
    shutil.rmtree(folder / "ground_truth")
    out = tmp_path / "run"
    flags = ("--data_path", folder, "--ckpt_path", out, "--model", "patchcore", "--backbone", "gabor", "--size", 48)
    assert run(capsys, "train", *flags)[0] == 0
    evaluation = json.loads((out / "part/evaluation.json").read_text())
    assert [row["path"] for row in evaluation["images"] if row["label"]] == [
        f"test/bad/00{row}.png" for row in range(3)
    ]
    assert evaluation["metrics"]["pixel_auroc"] > 0.9
    code, said = run(capsys, "data", "check", folder)
    assert (code, "part: 3 masks of 2 values, where what is not black is marked: 6.25% of the image" in said) == (
        0,
        True,
    )
    code, said = run(capsys, "predict", out / "part", folder / "test/bad", "--out", tmp_path / "out")
    assert (code, "left out: 3 masks" in said, "3 images:" in said) == (0, True, True)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda folder: (folder / "test/good").rename(folder / "test/good or not"),
            "good or not: the name does not say",
        ),
        (lambda folder: (folder / "train/good/NG").mkdir(), None),
        (lambda folder: shutil.copytree(folder / "test/bad", folder / "train/good/NG"), "it holds a folder NG"),
        (lambda folder: shutil.copytree(folder / "train/good", folder / "test/bad/OK"), "good images by its name"),
        (lambda folder: shutil.copy(folder / "test/bad/000.png", _mask(folder)), "not a mask by its values"),
        (lambda folder: cv2.imwrite(str(_mask(folder)), np.zeros((48, 48), np.uint8)), "the mask is empty"),
    ],
)
def test_what_cannot_be_told_stops_every_command_in_one_line(spoil, said, make_category, tmp_path: Path, capsys):
    folder = make_category(tmp_path, "part")
    spoil(folder)
    flags = (
        "--data_path",
        folder,
        "--ckpt_path",
        tmp_path / "run",
        "--model",
        "patchcore",
        "--backbone",
        "gabor",
        "--size",
        48,
    )
    for arguments in (("train", *flags), ("data", "check", folder)):
        code, text = run(capsys, *arguments)
        assert (code, said is None or said in text) == (2 if said else 0, True)
    assert (tmp_path / "run").exists() == (said is None)


def _mask(folder: Path) -> Path:
    return folder / "ground_truth/bad/000_mask.png"


def test_further_images_are_refused_where_a_mask_is_among_them(make_category, tmp_path: Path, capsys):
    fit(patchcore(make_category(tmp_path / "data", num_train=4) / "train/good", tmp_path / "model"))
    more = make_category(tmp_path / "more", "other")
    shutil.copy(_mask(more), more / "train/good/segmented.png")
    code, said = run(capsys, "fit", more / "train/good", "--update", tmp_path / "model")
    assert (code, "segmented.png: has only 2 different values, like a mask" in said) == (2, True)
