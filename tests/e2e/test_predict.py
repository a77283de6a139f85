"""`blemish predict` as a user runs it: whatever files, stopped, killed, gone on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from predictions import listing, rows_of, run, table_of

from blemish.calibration.decisions import decide
from blemish.cli import main
from blemish.inference.inspector import Inspector


def test_rows_say_what_the_inspector_says(model: Path, images: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    code, said = run(capsys, model, images, "--out", out, "--maps", "--overlays")
    assert code == 0
    rows, table = rows_of(out), table_of(out)
    inspector = Inspector.load(model, batch_size=8)
    expected = list(inspector.predict(sorted(images.rglob("*.png"))))
    assert [row["path"] for row in rows] == [str(found.sample.image) for found in expected]
    assert len(rows) == 8
    for row, cells, found in zip(rows, table, expected, strict=True):
        decision = decide(found, inspector.calibration)
        assert row["score"] == found.score == float(cells["score"])
        assert row["decision"] == ("defect" if decision.is_defect else "good") == cells["decision"]
        assert row["p_value"] == decision.p_value == float(cells["p_value"])
        assert [tuple(region["box"]) for region in row["regions"]] == [region.box for region in decision.regions]
        assert int(cells["regions"]) == len(decision.regions)
        if decision.regions:
            first = decision.regions[0]
            assert tuple(int(cells[name]) for name in ("x", "y", "width", "height", "area")) == (*first.box, first.area)
            assert (tuple(row["regions"][0]["centroid"]), float(cells["peak"])) == (first.centroid, first.peak)
        saved, step = (
            cv2.imread(str(out / row["map"]), cv2.IMREAD_UNCHANGED),
            (found.map.max() - found.map.min()) / 4095,
        )
        np.testing.assert_allclose(found.map.min() + step * saved, found.map, atol=0.51 * step)
        assert cv2.imread(str(out / row["overlay"])).shape[1] == 480
    assert {row["map"] for row in rows} >= {"maps/good/000.tiff", "maps/bad/000.tiff"}
    defects = [row for row in rows if row["decision"] == "defect"]
    assert {"bad"} <= {Path(row["path"]).parent.name for row in defects}
    assert f"8 images: {len(defects)} defects, 0 unreadable" in said


def test_exit_codes(model: Path, images: Path, tmp_path: Path, capsys):
    scores = [found.score for found in Inspector.load(model).predict(sorted((images / "good").iterdir()))]
    with pytest.raises(SystemExit):
        main(["calibrate", str(model), "--threshold", str(max(scores))])
    assert run(capsys, model, images / "bad", "--out", tmp_path / "a", "--fail-on-defect")[0] == 3
    assert run(capsys, model, images / "bad", "--out", tmp_path / "a", "--fail-on-defect")[0] == 3  # nothing left to do
    assert run(capsys, model, images / "bad", "--out", tmp_path / "a")[0] == 0
    assert run(capsys, model, images / "good", "--out", tmp_path / "b", "--fail-on-defect")[0] == 0


def test_without_a_calibration_there_are_scores_alone(images: Path, tmp_path: Path, capsys):
    yesterday = Path(__file__).parents[1] / "models" / "format1"
    code, said = run(capsys, yesterday, images, "--out", tmp_path / "out", "--overlays")
    assert (code, "not calibrated" in said) == (0, True)
    assert {(row["decision"], row["p_value"]) for row in rows_of(tmp_path / "out")} == {(None, None)}
    assert {(row["decision"], row["p_value"], row["regions"]) for row in table_of(tmp_path / "out")} == {("", "", "")}
    code, said = run(capsys, yesterday, images, "--out", tmp_path / "out", "--fail-on-defect")
    assert (code, "Run 'blemish calibrate' first" in said) == (2, True)


WRONG = {
    "no such model": (["nowhere", "IMAGES", "--out", "OUT"], "model.json: no such file"),
    "no images in a folder": (["MODEL", "EMPTY", "--out", "OUT"], "no images found"),
    "no match": (["MODEL", "IMAGES/*.gif", "--out", "OUT"], "no images found"),
    "no list": (["MODEL", "-", "--out", "OUT"], "no images were named"),
    "no out": (["MODEL", "IMAGES"], "Missing option '--out'"),
    "no such device": (["MODEL", "IMAGES", "--out", "OUT", "--device", "cuda:99"], "device: cuda:99 was given, but"),
    "a device that the backend has not": (
        ["MODEL", "IMAGES", "--out", "OUT", "--device", "cuda", "--backend", "onnx"],
        "device: cuda was given, but onnx runs on the processor only",
    ),
    "no such backend": (["MODEL", "IMAGES", "--out", "OUT", "--backend", "x"], "backend x: unknown"),
    "out is a file": (["MODEL", "IMAGES", "--out", "MODEL/model.json"], "cannot make this folder"),
}


@pytest.mark.parametrize(("arguments", "expected"), WRONG.values(), ids=WRONG)
def test_bad_input_is_one_line(arguments, expected, model, images, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", listing(b"\n"))
    (tmp_path / "empty").mkdir()
    names = {"MODEL": model, "IMAGES": images, "OUT": tmp_path / "out", "EMPTY": tmp_path / "empty"}
    for name, path in names.items():
        arguments = [argument.replace(name, str(path)) for argument in arguments]
    code, said = run(capsys, *arguments)
    assert code == 2
    assert expected in said
    assert len([line for line in said.splitlines() if line.strip()]) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_full_disk_is_one_line(model: Path, images: Path, tmp_path: Path):
    code = (
        "import resource, sys; from blemish.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))\n"
        "main(['predict', *sys.argv[1:]])"
    )
    arguments = [sys.executable, "-c", code, str(model), str(images), "--out", str(tmp_path / "out")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cannot be written (File too large). Free some space" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistyped_name_does_not_take_the_folder(model: Path, images: Path, tmp_path: Path, capsys):
    assert run(capsys, model, "nowhere", "--out", tmp_path / "out")[0] == 2
    assert run(capsys, model, images, "--out", tmp_path / "out")[0] == 0
    assert len(rows_of(tmp_path / "out")) == 8


def test_predictions_are_not_put_into_a_fitted_detector(model: Path, images: Path, capsys):
    before = sorted(path.name for path in model.iterdir())
    code, said = run(capsys, model, images, "--out", model)
    assert (code, "holds a fitted detector. Choose another folder" in said) == (2, True)
    assert sorted(path.name for path in model.iterdir()) == before


@pytest.mark.slow
def test_pictures_that_a_full_disk_does_not_take_are_told_in_their_rows(model: Path, images: Path, tmp_path: Path):
    """The rows are short enough; the maps are not."""
    code = (
        "import resource, sys; from blemish.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))\n"
        "main(['predict', *sys.argv[1:]])"
    )
    files = []
    for name in ("000.png", "001.png"):
        files.append(str(tmp_path / name))
        cv2.imwrite(files[-1], cv2.resize(cv2.imread(str(images / "good" / name)), (96, 96)))
    arguments = [sys.executable, "-c", code, str(model), *files, "--out", str(tmp_path / "out")]
    done = subprocess.run([*arguments, "--maps-format", "float32"], capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "0 unreadable, 2 without the requested files" in done.stdout
    assert "000.tiff: cannot be written (File too large)" in done.stderr
    rows = rows_of(tmp_path / "out")
    assert all(row["score"] > 0 and "cannot be written" in row["error"] and "map" not in row for row in rows)
    assert len(rows) == 2


def test_grey_images_for_a_colour_model_are_told_once(model: Path, images: Path, tmp_path: Path, capsys, caplog):
    for path in images.rglob("*.png"):
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    run(capsys, model, images, "--out", tmp_path / "out")
    told = [record.getMessage() for record in caplog.records if "training images are" in record.getMessage()]
    first = sorted(images.rglob("*.png"))[0]
    assert told == [f"{first}: grey, but the training images are colour. Scores of such images mean little."]
