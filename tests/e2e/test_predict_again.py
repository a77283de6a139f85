"""`blemish predict` into a folder with earlier results: gone on with, decided again, replaced."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
from predictions import rows_of, run, table_of

from blemish.cli import main


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


def test_paths_may_be_given_from_another_folder_later(model: Path, images: Path, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(images)
    model = Path(os.path.relpath(model)) if not model.is_absolute() else model
    assert run(capsys, model, "good/000.png", "good/001.png", "--out", tmp_path / "out", "--maps")[0] == 0
    monkeypatch.chdir(tmp_path)
    again = images / "good" / "001.png"
    assert run(capsys, model, again, "--out", tmp_path / "out", "--maps")[0] == 0
    rows = rows_of(tmp_path / "out")
    assert len({row["map"] for row in rows}) == len(rows) == 3


def test_a_page_on_former_results_goes_and_one_of_the_user_s_stays(model: Path, images: Path, tmp_path: Path, capsys):
    out, page = tmp_path / "out", tmp_path / "out" / "report.html"
    assert run(capsys, model, images / "good", "--out", out, "--report")[0] == 0
    assert page.exists()
    assert run(capsys, model, images, "--out", out)[0] == 0
    assert not page.exists()
    assert run(capsys, model, images, "--out", out, "--report", "--overlays")[0] == 0
    assert run(capsys, model, images / "bad", "--out", out, "--fresh")[0] == 0
    assert (page.exists(), [path for path in (out / "overlays").rglob("*") if path.is_file()]) == (False, [])
    page.write_text("mine")
    assert run(capsys, model, images, "--out", out)[0] == 0
    assert page.read_text() == "mine"
