"""What `blemish predict` takes: files of any name, folders, patterns, lists, pages."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from PIL import Image as Pillow
from predictions import listing, rows_of, run, table_of

from blemish.data.selection import find_images
from blemish.inference.inspector import Inspector
from blemish.inference.predict import output_folders, predict


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


def test_what_it_wrote_is_not_inspected(model: Path, images: Path, capsys):
    out = images / "out"
    for _ in range(2):
        assert run(capsys, model, images, "--out", out, "--maps", "--overlays")[0] == 0
        assert len(rows_of(out)) == 8
    assert set(find_images([f"{images}/**/*"], own=output_folders(out)).images) == set(images.glob("*/*.png"))
    assert set(find_images([str(images / "good")], own=output_folders(images)).images) == set(images.glob("good/*.png"))


def test_maps_of_names_that_extend_each_other_are_apart(model: Path, images: Path, tmp_path: Path, capsys):
    folder, first = images / "good", images / "good" / "000.png"
    cv2.imwrite(str(folder / "000.jpg"), cv2.imread(str(first)))
    shutil.copy(first, folder / "000.jpg.png")
    assert run(capsys, model, folder, "--out", tmp_path / "out", "--maps", "--overlays")[0] == 0
    rows = rows_of(tmp_path / "out")
    assert len({row["map"] for row in rows}) == len({row["overlay"] for row in rows}) == len(rows)


def test_pages_are_refused_together_and_inspected_one_by_one(model: Path, images: Path, tmp_path: Path, capsys):
    drawn = [Pillow.open(path).convert("RGB") for path in sorted(images.rglob("*.png"))[:3]]
    stack = tmp_path / "stack.tiff"
    drawn[0].save(stack, save_all=True, append_images=drawn[1:])
    code, said = run(capsys, model, stack, "--out", tmp_path / "refused")
    assert code == 2
    assert (
        "stack.tiff: holds 3 images (pages). Save each as a file of its own, or run 'blemish predict --pages'." in said
    )
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
