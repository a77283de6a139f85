"""Data sets through the commands: layouts by name, groups, official figures, import, archives, submission."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from trees import TREES, document, image

from blemish.cli import main
from blemish.evaluation.results import read_results

PATCHCORE = ("--model", "patchcore", "--size", "32", "--num-patches", "50", "--figures", "0")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """The exit code, and all that was said with one space for any white."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return int(stopped.value.code or 0), " ".join((said.out + said.err).split())


@pytest.mark.slow
def test_loco_is_trained_on_and_judged(tmp_path: Path, capsys):
    root = TREES["mvtec_loco"](tmp_path / "loco")
    code, said = run(capsys, "train", "--data_path", root, "--ckpt_path", tmp_path / "run", *PATCHCORE)
    assert code == 0
    assert "patchcore, official figures" in said
    assert "AU-sPRO" in said
    evaluations = read_results(tmp_path / "run")
    assert [len(one.official) for one in evaluations] == [6, 6]
    assert [len(one.validation) for one in evaluations] == [3, 3]
    again = tmp_path / "again"
    code, _ = run(capsys, "evaluate", tmp_path / "run", "--data-path", root, "--resamples", 0, "--out", again)
    assert code == 0
    assert [one.official for one in read_results(again)] == [
        pytest.approx(one.official, abs=1e-6) for one in evaluations
    ]


def test_a_layout_that_does_not_fit_and_one_by_name(tmp_path: Path, capsys):
    root = TREES["dagm"](tmp_path / "dagm")
    code, said = run(capsys, "data", "check", root, "--layout", "btad")
    assert (code, said.startswith(f"error data_path {root}: does not have the layout btad. BTAD has")) == (2, True)
    code, said = run(capsys, "data", "check", root, "--layout", "dagm")
    assert code == 0
    assert "Class10 test defect 2" in said


def test_groups_are_held_out_together(tmp_path: Path, capsys):
    for part in "abcdefgh":
        for shot in range(3):
            image(tmp_path / f"good/{part}_{shot}.png")
    options = ("--model", "patchcore", "--size", "32", "--num-patches", "50", "--validation", "0.25")
    code, _ = run(capsys, "fit", tmp_path / "good", "--out", tmp_path / "m", *options, "--group", r"(\w)_\d")
    about = json.loads((tmp_path / "m/model.json").read_text())
    assert code == 0
    assert about["provenance"]["config"]["group"] == r"(\w)_\d"
    assert [len(about["provenance"][name]) for name in ("learned_from", "held_out")] == [18, 6]
    code, said = run(capsys, "calibrate", tmp_path / "m", "--folds", 9)
    assert (code, "allowed are 2 to 8, the number of different images" in said) == (2, True)
    code, _ = run(capsys, "calibrate", tmp_path / "m", "--folds", 4)
    assert code == 0
    assert len(json.loads((tmp_path / "m/model.json").read_text())["calibration"]["good_scores"]) == 24


def test_annotations_are_imported(tmp_path: Path, capsys):
    for number in range(3):
        image(tmp_path / f"raw/{number}.png")
    content = {
        "images": [{"id": number, "file_name": f"{number}.png"} for number in range(2)],
        "annotations": [{"image_id": 1, "category_id": 1, "segmentation": [[2, 2, 9, 2, 9, 9]]}],
        "categories": [{"id": 1, "name": "dent"}],
    }
    document(tmp_path / "coco.json", content)
    code, said = run(capsys, "data", "import", tmp_path / "coco.json", tmp_path / "raw", "--out", tmp_path / "parts")
    assert code == 0
    assert f"2 images of coco in {tmp_path / 'parts'}: dent 1, good 1" in said
    assert "not taken: 1 image, such as 2.png: no annotations (--unannotated-good takes them as good)" in said
    code, said = run(capsys, "data", "check", tmp_path / "parts")
    assert (code, "0 errors" in said) == (0, True)
    code, said = run(capsys, "data", "import", tmp_path / "coco.json", tmp_path / "raw", "--out", tmp_path / "parts")
    assert (code, said) == (2, f"error {tmp_path / 'parts'}: there is something already. Name a folder that is new.")


def test_an_archive_is_unpacked(tmp_path: Path, capsys):
    image(tmp_path / "good/1.png")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.write(tmp_path / "good/1.png", "good/1.png")
    code, said = run(capsys, "train", "--data_path", tmp_path / "set.zip", "--ckpt_path", tmp_path / "run")
    assert (code, "an archive. Unpack it: blemish data unpack" in said) == (2, True)
    code, said = run(capsys, "data", "unpack", tmp_path / "set.zip", "--out", tmp_path / "set")
    assert (code, said.startswith(f"1 file in {tmp_path / 'set'}")) == (0, True)
    assert (tmp_path / "set/good/1.png").read_bytes() == (tmp_path / "good/1.png").read_bytes()


def test_a_submission_needs_everything(tmp_path: Path, capsys):
    code, said = run(capsys, "submit", "mvtec_ad_2", tmp_path)
    assert (code, "--out is missing" in said) == (2, True)
    code, said = run(capsys, "submit", "mvtec_ad_2", tmp_path, "--out", tmp_path / "a.zip")
    assert (code, "the server takes .tar.gz" in said) == (2, True)
    code, said = run(capsys, "submit", "mvtec_ad_2", tmp_path, "--out", tmp_path / "a.tar.gz")
    assert (code, f"error {tmp_path / 'can'}: no detector" in said) == (2, True)
    (tmp_path / "a.tar.gz").write_bytes(b"x")
    code, said = run(capsys, "submit", "mvtec_ad_2", tmp_path / "a.tar.gz", "--check")
    assert (code, "not a .tar.gz file that can be read" in said) == (2, True)
