"""`blemish predict` as a user runs it: whatever files, stopped, killed, gone on."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from blemish.calibration.decisions import decide
from blemish.cli import main
from blemish.data.selection import find_images
from blemish.inference.inspector import Inspector
from blemish.inference.predict import output_folders, predict


@pytest.fixture
def images(run_folder: Path, tmp_path: Path) -> Path:
    """Good and bad pictures with the same names in two folders."""
    return Path(shutil.copytree(run_folder / "data" / "part" / "test", tmp_path / "images"))


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["predict", *map(str, arguments)])
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out + said.err


def listing(content: bytes) -> io.TextIOWrapper:
    """What standard input is to a command."""
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")


def rows_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]


def table_of(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


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


def test_an_unreadable_file_is_a_row_and_is_tried_again(model: Path, images: Path, tmp_path: Path, capsys):
    bad = images / "good" / "001.png"
    content = bad.read_bytes()
    bad.write_bytes(content[:-50])
    missing = images / "none.png"
    out = tmp_path / "out"
    code, said = run(capsys, model, images, missing, "--out", out)
    assert code == 2
    assert "9 images" in said
    assert "2 unreadable" in said
    assert "the first error: " in said
    errors = {row["path"]: row["error"] for row in table_of(out) if row["error"]}
    assert "truncated or damaged" in errors[str(bad)]
    assert "No such file" in errors[str(missing)]
    assert sum("error" in row for row in rows_of(out)) == 2
    bad.write_bytes(content)
    shutil.copy(bad, missing)
    code, said = run(capsys, model, images, missing, "--out", out)
    assert (code, "9 images" in said, "0 unreadable" in said) == (0, True, True)
    assert len(rows_of(out)) == len(table_of(out)) == 9


@pytest.mark.parametrize("line", ['{"path": "x', '{"path": "x.png", "score": 1.0', "\x00\x00", '"text"'])
def test_a_half_written_line_is_written_anew(model: Path, images: Path, tmp_path: Path, capsys, line):
    out = tmp_path / "out"
    assert run(capsys, model, images, "--out", out)[0] == 0
    whole = (out / "predictions.jsonl").read_text()
    kept = whole.splitlines(keepends=True)[:5]
    (out / "predictions.jsonl").write_text("".join(kept) + line)
    (out / "predictions.csv").write_text("path,sc")
    code, said = run(capsys, model, images, "--out", out)
    assert (code, "8 images" in said) == (0, True)
    assert [json.loads(line) for line in whole.splitlines()] == rows_of(out)
    assert [row["path"] for row in table_of(out)] == [row["path"] for row in rows_of(out)]


@pytest.mark.slow
def test_killed_it_goes_on(model: Path, images: Path, tmp_path: Path):
    """Several hard kills, each as soon as there are new rows: in the end each image has one row and one map."""
    for index in range(120):
        shutil.copy(images / "bad" / "000.png", images / "good" / f"copy{index:03}.png")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "blemish.cli", "predict", str(model), str(images), "--out", str(out), "--maps"]
    command[1:3] = ["-c", "from blemish.cli import main; main()"]
    for _ in range(2):
        before = len(rows_of(out)) if out.exists() else 0
        process = subprocess.Popen([*command, "--batch_size", "2"], stdout=subprocess.DEVNULL)
        while process.poll() is None and count_lines(out) <= before + 3:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "128 images" in done.stdout
    rows = rows_of(out)
    assert sorted(row["path"] for row in rows) == sorted(map(str, images.rglob("*.png")))
    assert [row["path"] for row in table_of(out)] == [row["path"] for row in rows]
    assert {path.relative_to(out).as_posix() for path in (out / "maps").rglob("*.*")} == {row["map"] for row in rows}


def count_lines(out: Path) -> int:
    try:
        return (out / "predictions.jsonl").read_text().count("\n")
    except FileNotFoundError:
        return 0


def test_files_folders_patterns_and_a_list(model: Path, images: Path, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(images)
    listed = io.StringIO("good/000.png\n\ngood/001.png\n")
    found = find_images(["bad", "good/00[23].png", "-", "good/000.png"], listed).images
    assert [str(path) for path in found] == [
        *(f"bad/00{index}.png" for index in range(4)),
        *(f"good/00{index}.png" for index in (2, 3, 0, 1)),
    ]
    assert find_images([str(images / "**" / "*3.png")]).images == (images / "bad/003.png", images / "good/003.png")
    monkeypatch.setattr("sys.stdin", listing(b"bad/000.png\n../images/good/000.png\n"))
    assert run(capsys, model, "-", "--out", tmp_path / "out", "--maps")[0] == 0
    assert [row["map"] for row in rows_of(tmp_path / "out")] == ["maps/bad/000.tiff", "maps/good/000.tiff"]


def test_pictures_of_one_stem_keep_their_own_maps(model: Path, images: Path, tmp_path: Path):
    picture = cv2.imread(str(images / "good" / "000.png"))
    cv2.imwrite(str(images / "good" / "000.bmp"), picture)
    found = sorted((images / "good").glob("000.*"))
    predict(Inspector.load(model), found, tmp_path / "out", maps="uint16", overlays=True)
    assert [row["map"] for row in rows_of(tmp_path / "out")] == ["maps/000.bmp.tiff", "maps/000.png.tiff"]
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 2


def test_a_name_that_is_not_utf8(model: Path, images: Path, tmp_path: Path, capsys):
    path = os.fsdecode(os.fsencode(images / "good") + b"/\xff,\n.png")
    shutil.copy(images / "good" / "000.png", path)
    for _ in range(2):
        assert run(capsys, model, images / "good", "--out", tmp_path / "out", "--maps")[0] == 0
        assert [row["path"] for row in rows_of(tmp_path / "out")].count(path) == 1
    assert len(rows_of(tmp_path / "out")) == 5


def test_without_a_calibration_there_are_scores_alone(images: Path, tmp_path: Path, capsys):
    yesterday = Path(__file__).parents[1] / "models" / "format1"
    code, said = run(capsys, yesterday, images, "--out", tmp_path / "out", "--overlays")
    assert (code, "not calibrated" in said) == (0, True)
    assert {(row["decision"], row["p_value"]) for row in rows_of(tmp_path / "out")} == {(None, None)}
    assert {(row["decision"], row["p_value"], row["regions"]) for row in table_of(tmp_path / "out")} == {("", "", "")}
    code, said = run(capsys, yesterday, images, "--out", tmp_path / "out", "--fail-on-defect")
    assert (code, "Run 'blemish calibrate' first" in said) == (2, True)


def test_what_is_stored_is_decided_again(model: Path, images: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    assert run(capsys, model, images, "--out", out, "--maps")[0] == 0
    with pytest.raises(SystemExit):
        main(["calibrate", str(model), "--threshold", "-1", "--pixel-threshold", "2"])
    code, said = run(capsys, model, images, "--out", out, "--fail-on-defect")
    assert code == 3
    assert (
        "8 images: 8 defects, 0 unreadable, nothing left to predict\nfrom stored results: 8 decided again by map\n"
        in said
    )
    assert {row["threshold"] for row in rows_of(out)} == {-1}
    one = sorted((images / "good").iterdir())[0]
    assert "1 image: 1 defect, 0 unreadable, nothing left" in run(capsys, model, one, "--out", out)[1]
    assert len(rows_of(out)) == 8
    (one.parent / "new.png").write_bytes(one.read_bytes()[:-50])
    one.write_bytes(sorted((images / "bad").iterdir())[0].read_bytes())
    code, said = run(capsys, model, images, "--out", out, "--overlays")
    assert (code, "9 images: 8 defects, 1 unreadable" in said) == (2, True)
    assert "from stored results: 7 drawn by map\ninspected again: 1 changed since then\n" in said


def test_predictions_of_another_model_are_not_mixed(model: Path, images: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    assert run(capsys, model, images / "good", "--out", out)[0] == 0
    before = (out / "predictions.jsonl").read_bytes()
    document = json.loads((out / "predictions.json").read_text())
    document["identity"]["sha256"]["model.safetensors"] = "0" * 64
    (out / "predictions.json").write_text(json.dumps(document))
    code, said = run(capsys, model, images, "--out", out)
    assert (code, "holds predictions of another model" in said, "--fresh" in said) == (2, True, True)
    assert (out / "predictions.jsonl").read_bytes() == before
    assert run(capsys, model, images, "--out", out, "--fresh")[0] == 0
    assert len(rows_of(out)) == 8


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\0"])
def test_a_list_may_end_its_names_with_nul(end: bytes, model: Path, images: Path, tmp_path: Path, capsys, monkeypatch):
    """As `find -print0` does; names need not be UTF-8, and with NUL they may have line ends in them."""
    odd = os.fsdecode(b"\xff.png" if b"\n" in end else b"\xff\n,.png")
    for name in ("000.png", "001.png"):
        (images / "good" / name).rename(images / "good" / (odd if name == "001.png" else name))
    names = [b"good/000.png", b"good/" + os.fsencode(odd)]
    monkeypatch.chdir(images)
    monkeypatch.setattr("sys.stdin", listing(end.join([*names, b""])))
    code, said = run(capsys, model, "-", "--out", tmp_path / "out")
    assert (code, "2 images" in said) == (0, True)
    assert [os.fsencode(row["path"]) for row in rows_of(tmp_path / "out")] == names


@pytest.mark.slow
def test_an_error_of_any_name_is_printed(model: Path, images: Path, tmp_path: Path):
    """In a process of its own, whose terminal takes UTF-8 alone."""
    odd = os.fsencode(images / "good") + b"/\xff[red].png"
    Path(os.fsdecode(odd)).write_bytes(b"no image")
    command = [sys.executable, "-c", "from blemish.cli import main; main()", "predict", str(model), odd]
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "[red].png: truncated, or not an image" in done.stderr


def test_no_cell_is_a_formula_to_a_spreadsheet(model: Path, images: Path, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(images / "good")
    names = ["=1+1.png", "+1.png", "-1.png", "@SUM(A1).png", "\t=1.png", "\r=1.png", " =1.png", "'=1.png", "a;=1.png"]
    for name in names:
        shutil.copy("000.png", name)
    assert run(capsys, model, "--out", tmp_path / "out", "--", *names)[0] == 0
    cells = [row["path"] for row in table_of(tmp_path / "out")]
    assert cells == [name if name == "a;=1.png" else f"'{name}" for name in names]
    assert [row["path"] for row in rows_of(tmp_path / "out")] == names
    assert b'"a;=1.png"' in (tmp_path / "out" / "predictions.csv").read_bytes()


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


def test_what_it_wrote_is_not_inspected(model: Path, images: Path, capsys):
    out = images / "out"
    for _ in range(2):
        assert run(capsys, model, images, "--out", out, "--maps", "--overlays")[0] == 0
        assert len(rows_of(out)) == 8
    assert set(find_images([f"{images}/**/*"], own=output_folders(out)).images) == set(images.glob("*/*.png"))
    assert set(find_images([str(images / "good")], own=output_folders(images)).images) == set(images.glob("good/*.png"))


def test_a_map_is_not_taken_by_a_later_picture_of_the_same_name(model: Path, images: Path, tmp_path: Path, capsys):
    folder = images / "good"
    assert run(capsys, model, folder, "--out", tmp_path / "out", "--maps")[0] == 0
    shutil.copy(images / "bad" / "000.png", tmp_path / "000.png")
    cv2.imwrite(str(folder / "000.jpg"), cv2.imread(str(tmp_path / "000.png")))
    assert run(capsys, model, folder / "000.jpg", "--out", tmp_path / "out", "--maps")[0] == 0
    maps = {Path(row["path"]).name: row["map"] for row in rows_of(tmp_path / "out")}
    assert (maps["000.png"], maps["000.jpg"]) == ("maps/000.tiff", "maps/000.jpg.tiff")
    shutil.copy(tmp_path / "000.png", folder / "000.jpg.png")
    assert run(capsys, model, folder / "000.jpg.png", "--out", tmp_path / "out", "--maps")[0] == 0
    maps = {Path(row["path"]).name: row["map"] for row in rows_of(tmp_path / "out")}
    assert len(set(maps.values())) == len(maps)


def test_maps_of_names_that_extend_each_other_are_apart(model: Path, images: Path, tmp_path: Path, capsys):
    folder, first = images / "good", images / "good" / "000.png"
    cv2.imwrite(str(folder / "000.jpg"), cv2.imread(str(first)))
    shutil.copy(first, folder / "000.jpg.png")
    assert run(capsys, model, folder, "--out", tmp_path / "out", "--maps", "--overlays")[0] == 0
    rows = rows_of(tmp_path / "out")
    assert len({row["map"] for row in rows}) == len({row["overlay"] for row in rows}) == len(rows)


def test_paths_may_be_given_from_another_folder_later(model: Path, images: Path, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(images)
    model = Path(os.path.relpath(model)) if not model.is_absolute() else model
    assert run(capsys, model, "good/000.png", "good/001.png", "--out", tmp_path / "out", "--maps")[0] == 0
    monkeypatch.chdir(tmp_path)
    again = images / "good" / "001.png"
    assert run(capsys, model, again, "--out", tmp_path / "out", "--maps")[0] == 0
    rows = rows_of(tmp_path / "out")
    assert len({row["map"] for row in rows}) == len(rows) == 3


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


def test_pages_are_refused_together_and_inspected_one_by_one(model: Path, images: Path, tmp_path: Path, capsys):
    drawn = [Pillow.open(path).convert("RGB") for path in sorted(images.rglob("*.png"))[:3]]
    stack = tmp_path / "stack.tiff"
    drawn[0].save(stack, save_all=True, append_images=drawn[1:])
    code, said = run(capsys, model, stack, "--out", tmp_path / "refused")
    assert code == 2
    assert "stack.tiff: holds 3 images (pages). Save each as a file of its own, or inspect each by --pages." in said
    code, _ = run(capsys, model, stack, "--out", tmp_path / "out", "--pages", "--maps", "--overlays")
    rows = rows_of(tmp_path / "out")
    assert code == 0
    assert [row["path"] for row in rows] == [f"{stack}#page={page}" for page in (1, 2, 3)]
    expected = Inspector.load(model, batch_size=8).predict(sorted(images.rglob("*.png"))[:3])
    assert [row["score"] for row in rows] == [found.score for found in expected]
    assert all((tmp_path / "out" / row[kind]).is_file() for row in rows for kind in ("map", "overlay"))


def test_special_files_and_images_that_are_too_large_have_a_row_with_the_reason(
    model: Path, images: Path, tmp_path: Path, capsys
):
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "null.png").symlink_to(os.devnull)
    (tmp_path / "x.gif").write_bytes(b"GIF89a")
    given = [tmp_path / name for name in ("fifo.png", "null.png", "x.gif")]
    some = sorted(images.rglob("*.png"))[0]
    code, _ = run(capsys, model, *given, some, "--out", tmp_path / "out", "--max-pixels", 48 * 48)
    assert code == 2
    errors = {Path(row["path"]).name: row.get("error", "") for row in rows_of(tmp_path / "out")}
    assert "a pipe (FIFO), where a file is expected" in errors["fifo.png"]
    assert "a device, where a file is expected" in errors["null.png"]
    assert "GIF, which is not read. Save each of its images as PNG." in errors["x.gif"]
    assert errors[some.name] == ""
    run(capsys, model, some, "--out", tmp_path / "less", "--max-pixels", 48 * 48 - 1)
    assert "48x48 pixels are 2,304; at most 2,303 are read" in rows_of(tmp_path / "less")[0]["error"]


def test_grey_images_for_a_colour_model_are_told_once(model: Path, images: Path, tmp_path: Path, capsys, caplog):
    for path in images.rglob("*.png"):
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    run(capsys, model, images, "--out", tmp_path / "out")
    told = [record.getMessage() for record in caplog.records if "training images are" in record.getMessage()]
    first = sorted(images.rglob("*.png"))[0]
    assert told == [f"{first}: grey, but the training images are colour. Scores of such images mean little."]
