"""`blemish calibrate` as a user runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from blemish.calibration.thresholds import PIXEL_RATES, conformal_threshold, to_dict
from blemish.cli import main
from blemish.detectors import detector_class
from blemish.errors import BlemishError
from blemish.export.graphs import to_onnx, write_onnx
from blemish.imaging.preprocess import Preprocess
from blemish.inference.inspector import Inspector
from blemish.model.artifact import Artifact, load_detector, save
from blemish.model.changes import write_model
from blemish.model.folder import TENSORS, read_model
from blemish.runs.config import RunConfig
from blemish.runs.export import export
from blemish.runs.fit import fit
from blemish.runs.run import run


def calibrate(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["calibrate", *map(str, arguments)])
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out, said.err


def test_a_run_calibrates_on_the_images_that_it_held_out(run_folder: Path):
    model = read_model(run_folder / "part")
    evaluation = json.loads((run_folder / "part" / "evaluation.json").read_text())
    scores = sorted(row["score"] for row in evaluation["validation"])
    assert len(scores) == 40
    expected = conformal_threshold(scores, 1 / 41)  # too few for 0.01, so the smallest rate that 40 support
    assert model.calibration.threshold == expected > scores[-1]
    assert model.calibration.false_alarm_rate == pytest.approx(1 / 41)
    assert list(model.calibration.good_scores) == scores
    assert evaluation["calibration"] == json.loads(json.dumps(to_dict(model.calibration)))
    bad = sorted(row["score"] for row in evaluation["images"] if row["label"])
    assert list(model.calibration.defect_scores) == bad
    assert model.metrics == evaluation["metrics"]
    assert 0 < model.metrics["seg_f1"] < 1  # at the calibrated pixel threshold
    assert not [name for name in model.metrics if name.startswith("au_spro")]  # no areas are known
    assert all(row["path"].startswith("train/good/") for row in evaluation["validation"])
    paths = {row["score"]: row["path"] for row in evaluation["validation"]}
    named = zip(model.calibration.good_scores, model.calibration.images, strict=True)
    assert all(Path(image) == run_folder.resolve() / "data/part" / paths[score] for score, image in named)


def test_without_options_it_is_shown_and_nothing_is_written(model: Path, capsys):
    before = (model / "model.json").stat().st_mtime_ns
    code, out, _ = calibrate(capsys, model)
    assert code == 0
    assert "with a probability of at most 0.02439, by 40 held-out good images" in out
    assert "defects missed" in out
    assert (model / "model.json").stat().st_mtime_ns == before


def test_a_threshold_is_chosen_set_and_chosen_again_without_images(model: Path, capsys):
    first, tensors = read_model(model).calibration, read_model(model).file(TENSORS).read_bytes()
    assert calibrate(capsys, model, "--false-alarm-rate", "0.1", "--min-area", "5")[0] == 0
    chosen = read_model(model).calibration
    assert first.good_scores[-4] < chosen.threshold < first.good_scores[-3]
    assert chosen.min_area == 5
    code, out, _ = calibrate(capsys, model, "--threshold", "3.2")
    assert code == 0
    assert "score is above 3.2" in out
    assert (read_model(model).calibration.threshold, read_model(model).calibration.min_area) == (3.2, 5)
    assert calibrate(capsys, model, "--false-alarm-rate", str(1 / 41), "--min-area", "0")[0] == 0
    assert read_model(model).calibration == first
    assert read_model(model).file(TENSORS).read_bytes() == tensors


def test_other_good_images_and_defects(model: Path, make_category, tmp_path: Path, capsys):
    folder = make_category(tmp_path / "new", "another", num_good=30, num_bad=3, with_masks=False)
    code, out, _ = calibrate(capsys, model, "--images", folder / "test", "--min-area", "2", "--apply")
    found = read_model(model).calibration
    assert (code, found.num_images, len(found.defect_scores), found.min_area) == (0, 30, 3, 2)
    assert "by 30 held-out good images" in out
    code, out, _ = calibrate(capsys, model, "--images", folder / "test" / "good", "--false-alarm-rate", "0.2")
    again = read_model(model).calibration
    assert (again.good_scores, again.defect_scores, again.min_area) == (found.good_scores, found.defect_scores, 2)
    assert again.threshold == conformal_threshold(found.good_scores, 0.2)
    assert again.good_scores[-6] < again.threshold < again.good_scores[-5]


def test_what_images_would_change_is_shown_and_written_when_it_is_asked_for(
    model: Path, make_category, tmp_path, capsys
):
    folder = make_category(tmp_path / "new", "another", num_good=30, num_bad=3, with_masks=False) / "test"
    before, bytes_before = read_model(model).calibration, (model / "model.json").read_bytes()
    code, out, _ = calibrate(capsys, model, "--images", folder)
    assert (code, (model / "model.json").read_bytes()) == (0, bytes_before)
    assert "nothing is saved yet: add --apply, or give a --false-alarm-rate" in out
    assert calibrate(capsys, model, "--images", folder, "--apply")[0] == 0
    after = read_model(model).calibration
    assert f"threshold: {before.threshold:.6g} before, {after.threshold:.6g} now" in out
    above = [sum(score > one.threshold for score in after.good_scores) for one in (before, after)]
    assert f"defects among the 30 good images: {above[0]} before, {above[1]} now" in out
    found = [sum(score > one.threshold for score in after.defect_scores) for one in (before, after)]
    assert f"defects among the 3 labelled defects: {found[0]} before, {found[1]} now" in out
    assert f"this good image sets the threshold: {after.images[-1]}" in out


def test_given_images_that_look_defective_are_named(model: Path, run_folder: Path, capsys):
    bad = run_folder / "data/part/test/bad"
    code, out, _ = calibrate(capsys, model, "--images", bad)
    assert code == 0
    assert "warning: 4 of these 4 good images are above the former threshold" in out
    assert str(bad.resolve()) in out


@pytest.fixture
def odd(make_category, tmp_path: Path) -> Path:
    """A model in `odd`, fitted to 24 images of which one that is held out by no fold's kindness shows a defect."""
    data = make_category(tmp_path / "data", "odd", num_train=24, num_good=3, num_bad=3)
    shutil.copy(data / "test/bad/000.png", data / "train/good/strange.png")
    fields = {"model": "patchcore", "size": 48, "data_path": data / "train/good", "ckpt_path": tmp_path / "odd"}
    fit(RunConfig.create(**fields, align="off", options={"backbone": "gabor", "num_patches": 200}))
    return tmp_path / "odd"


def test_one_image_that_moves_the_threshold_is_named_left_out_and_undone(odd: Path, tmp_path: Path, capsys):
    """Good images of which one shows a defect: the calibration that switches inspection off."""
    first, data = read_model(odd).calibration, tmp_path / "data/odd"
    folds = ("--folds", "5", "--data_path", data)
    code, out, _ = calibrate(capsys, odd, *folds, "--false-alarm-rate", "0.05")
    moved = read_model(odd).calibration
    strange = str((data / "train/good/strange.png").resolve())
    assert (code, moved.images[-1], moved.num_images) == (0, strange, 25)
    assert f"this good image sets the threshold: {strange}" in out
    assert "warning: 1 of the 25 good images scores" in out
    assert f"--leave-out {strange}" in out
    assert len(moved.defect_scores) == 3  # those that lie beside the good images
    code, _, said = calibrate(capsys, odd, "--leave-out", "good/strange.png")
    assert (code, "Repeat that command with --leave-out" in said) == (2, True)
    assert calibrate(capsys, odd, *folds, "--leave-out", strange, "--false-alarm-rate", "0.05")[0] == 0
    mended = read_model(odd).calibration
    assert (mended.left_out, mended.num_images, mended.false_alarm_rate) == ((strange,), 24, 0.05)
    assert mended.threshold == conformal_threshold(moved.good_scores[:-1], 0.05)
    code, out, _ = calibrate(capsys, odd)
    assert f"left out by hand: {strange}" in out
    assert "warning" not in out
    for former in (moved, first):
        code, out, _ = calibrate(capsys, odd, "--undo")
        assert (code, read_model(odd).calibration) == (0, former)
        assert f", {former.threshold:.6g} now" in out
    code, _, said = calibrate(capsys, odd, "--undo")
    assert (code, "has no earlier calibration" in said) == (2, True)


def test_without_an_image_both_thresholds_come_from_the_others(model: Path, run_folder: Path, tmp_path, capsys):
    """Otherwise that of the pixels stays above that of the score, and a defect has no region."""
    good = Path(shutil.copytree(run_folder / "data/part/test/good", tmp_path / "good"))
    shutil.copy(run_folder / "data/part/test/bad/000.png", good / "strange.png")
    assert calibrate(capsys, model, "--images", good, "--apply", "--false-alarm-rate", "0.2")[0] == 0
    strange = read_model(model).calibration
    code, _, _ = calibrate(capsys, model, "--leave-out", "strange.png")
    mended = read_model(model).calibration
    assert (code, mended.num_images, mended.left_out) == (0, 4, (str((good / "strange.png").resolve()),))
    assert mended.threshold < strange.pixel_threshold
    (good / "strange.png").unlink()
    assert calibrate(capsys, model, "--images", good, "--apply")[0] == 0
    fresh = read_model(model).calibration
    assert (mended.good_scores, mended.pixel_levels) == (fresh.good_scores, fresh.pixel_levels)
    assert (mended.threshold, mended.pixel_threshold) == (fresh.threshold, fresh.pixel_threshold)
    (good / "001.png").unlink()
    code, _, said = calibrate(capsys, model, "--leave-out", "good/000.png")
    assert (code, "good/001.png is read too, and is not there. Put it back" in said) == (2, True)


@pytest.mark.parametrize(
    ("chosen", "kept"), [(("--pixel-rate", "0.02"), (0.02, None)), (("--pixel-threshold", "7.5"), (None, 7.5))]
)
def test_other_images_leave_the_choice_of_pixels_as_it_was(chosen, kept, model: Path, run_folder: Path, capsys):
    assert calibrate(capsys, model, *chosen, "--min-area", "3")[0] == 0
    assert calibrate(capsys, model, "--folds", "2", "--data_path", run_folder / "data")[0] == 0
    found = read_model(model).calibration
    assert (found.pixel_rate, found.min_area) == (kept[0], 3)
    assert found.pixel_threshold == (kept[1] or found.pixel_levels[PIXEL_RATES.index(0.02)])
    assert calibrate(capsys, model, "--folds", "2", "--data_path", run_folder / "data", "--pixel-rate", "0.1")[0] == 0
    assert read_model(model).calibration.pixel_rate == 0.1


def test_copies_of_a_picture_are_in_one_fold(make_category, tmp_path: Path, capsys):
    """Otherwise a copy that was learned tells the picture's own score."""
    good = make_category(tmp_path / "data", num_train=6, num_good=1, num_bad=1) / "train/good"
    for path in sorted(good.glob("*.png")):
        shutil.copy(path, path.with_name(f"copy_{path.name}"))
    fields = {"model": "patchcore", "size": 48, "data_path": good, "ckpt_path": tmp_path / "model", "align": "off"}
    fitted = fit(RunConfig.create(**fields, validation=0.3, options={"backbone": "gabor", "num_patches": 10_000}))
    known = fitted.provenance
    assert (len(known["learned_from"]), len(known["held_out"])) == (8, 4)
    assert not set(known["learned_from"]) & set(known["held_out"])
    assert (fitted.calibration.num_images, min(fitted.calibration.good_scores) > 1e-3) == (2, True)
    assert calibrate(capsys, tmp_path / "model", "--folds", "3", "--data_path", good)[0] == 0
    found = read_model(tmp_path / "model").calibration
    assert (found.num_images, min(found.good_scores) > 1e-3) == (6, True)
    fresh = make_category(tmp_path / "fresh", "other", num_train=2, num_good=1, num_bad=1) / "train/good"
    shutil.copy(fresh / "000.png", fresh / "copy.png")
    assert calibrate(capsys, tmp_path / "model", "--images", fresh, "--apply")[0] == 0
    assert read_model(tmp_path / "model").calibration.num_images == 2
    code, _, said = calibrate(capsys, tmp_path / "model", "--folds", "7", "--data_path", good)
    assert (code, "allowed are 2 to 6, the number of different images" in said) == (2, True)


def test_folds(model: Path, run_folder: Path, capsys):
    code, out, _ = calibrate(capsys, model, "--folds", "3", "--data_path", run_folder / "data")
    assert code == 0
    found = read_model(model).calibration
    assert (found.method, found.num_images, found.false_alarm_rate) == ("folds", 80, pytest.approx(1 / 81))
    assert "each scored by a detector fitted without it (an estimate" in out
    learned = read_model(model).provenance["learned_from"]
    assert len(learned) == 40
    # An image that the model was fitted to is far from its own fold's model, and so is one that it was not.
    assert found.good_scores[0] > 0


def test_what_was_set_by_hand_stays_where_images_come_later(make_category, tmp_path: Path, capsys):
    good = make_category(tmp_path / "data", num_train=4) / "train/good"
    fields = {"model": "patchcore", "size": 48, "data_path": good, "ckpt_path": tmp_path / "model", "align": "off"}
    fit(RunConfig.create(**fields, validation=0, options={"backbone": "gabor"}))
    others = make_category(tmp_path / "more", "other", num_train=9) / "train/good"
    for by_hand, kept in (((), False), (("--pixel-threshold", "3"), True)):
        arguments = ("--threshold", "5", "--min-area", "25", *by_hand)
        assert calibrate(capsys, tmp_path / "model", *arguments)[0] == 0
        before = (tmp_path / "model" / "model.json").read_text()
        assert calibrate(capsys, tmp_path / "model", "--images", others, "--apply")[0] == 0
        found = read_model(tmp_path / "model").calibration
        assert (found.min_area, found.num_images) == (25, 9)
        assert (found.pixel_threshold == 3) == kept
        (tmp_path / "model" / "model.json").write_text(before)


@pytest.mark.parametrize("name", ["padim", "ensemble"])
def test_folds_score_on_the_scale_of_the_detector_in_use(name, make_category, tmp_path: Path, capsys):
    """Held-out images set the scale of a score; a fold's detector needs some too, or its scores mean something else."""
    data = make_category(tmp_path / "data", num_train=60, num_good=2, num_bad=2)
    options = {"backbone": "gabor", "scales": (0.0, 3.0)} | ({"num_patches": 200} if name == "ensemble" else {})
    fields = {"model": name, "size": 48, "data_path": tmp_path / "data", "ckpt_path": tmp_path / "model"}
    threshold = fit(RunConfig.create(**fields, align="off", options=options)).calibration.threshold
    rate = ("--false-alarm-rate", "0.1")
    assert calibrate(capsys, tmp_path / "model", "--folds", "3", "--data_path", data / "train/good", *rate)[0] == 0
    assert 0.5 < read_model(tmp_path / "model").calibration.threshold / threshold < 2


WRONG = {
    "too few": (["--false-alarm-rate", "0.01"], "40 held-out good images support 0.024 at the least, 0.01 needs 99"),
    "no rate": (["--false-alarm-rate", "1"], "more than 0 and less than 1"),
    "no pixel rate": (["--pixel-rate", "0.3"], "allowed are 0.1, 0.05"),
    "not a number": (["--threshold", "nan"], "threshold: nan was given"),
    "both": (["--folds", "3", "--images", "DATA"], "Leave one out"),
    "too many folds": (["--folds", "81", "--data_path", "DATA"], "allowed are 2 to 80"),
    "learned from": (["--images", "DATA/part/train/good"], "is a training image"),
    "no images": (["--images", "nowhere"], "no good images found"),
    "other data": (["--folds", "2", "--data_path", "DATA/part/test"], "not the images that"),
    "no data": (["--folds", "2", "--data_path", "nowhere"], "no such folder"),
    "data without folds": (["--data_path", "DATA"], "data_path: only --folds reads it"),
    "rate and threshold": (
        ["--threshold", "1", "--false-alarm-rate", "0.1"],
        "false-alarm-rate, threshold: both set the same thing",
    ),
    "undo and more": (
        ["--undo", "--min-area", "3"],
        "undo: it restores the calibration before, and takes no other options",
    ),
    "undo and images": (
        ["--undo", "--images", "DATA"],
        "undo: it restores the calibration before, and takes no other options",
    ),
    "nothing to undo": (["--undo"], "has no earlier calibration"),
    "apply nothing": (["--apply"], "apply: only --images needs it"),
    "no such image": (["--leave-out", "nowhere.png"], "leave-out nowhere.png: none of the 40 good images"),
    "pixels twice": (
        ["--pixel-rate", "0.1", "--pixel-threshold", "1"],
        "pixel-rate, pixel-threshold: both set the same thing",
    ),
}


@pytest.mark.parametrize(("arguments", "expected"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(arguments, expected, model, run_folder, capsys):
    before = (model / "model.json").read_bytes()
    given = [argument.replace("DATA", str(run_folder / "data")) for argument in arguments]
    code, _, said = calibrate(capsys, model, *given)
    assert code == 2
    assert expected in said
    assert len([line for line in said.splitlines() if line.strip()]) == 1
    assert (model / "model.json").read_bytes() == before


def test_a_model_of_yesterday_has_no_threshold_until_it_is_given_one(tmp_path: Path, capsys):
    folder = Path(shutil.copytree(Path(__file__).parents[1] / "models" / "format1", tmp_path / "part"))
    code, out, _ = calibrate(capsys, folder)
    assert (code, "not calibrated" in out) == (0, True)
    assert calibrate(capsys, folder, "--false-alarm-rate", "0.1")[0] == 2
    code, out, _ = calibrate(capsys, folder, "--threshold", "3.2")
    assert (code, "without good images the rate" in out) == (0, True)
    assert (read_model(folder).calibration.threshold, read_model(folder).calibration.pixel_threshold) == (3.2, 3.2)


def test_tiles_and_a_region_of_interest_are_kept_with_the_model(make_category, tmp_path: Path, capsys):
    make_category(tmp_path / "data", num_train=8, size=(60, 90))
    (tmp_path / "roi.json").write_text('{"size": [60, 90], "polygons": [[[5, 5], [80, 5], [80, 50], [5, 50]]]}')
    arguments = [
        "--model",
        "patchcore",
        "--backbone",
        "gabor",
        "--num_patches",
        "100",
        "--tile",
        "48",
        "--overlap",
        "12",
        "--figures",
        "2",
    ]
    arguments += ["--roi", str(tmp_path / "roi.json"), "--data_path", str(tmp_path / "data")]
    command = ["train", *arguments, "--ckpt_path", str(tmp_path / "out")]
    for more in ([], ["--resume"]):
        with pytest.raises(SystemExit) as stopped:
            main([*command, *more])
        assert not stopped.value.code
    model = read_model(tmp_path / "out" / "part")
    assert (model.preprocess.size, model.preprocess.tile, model.preprocess.overlap) == ((48, 48), 48, 12)
    with pytest.raises(SystemExit) as stopped:
        main(
            [
                "predict",
                str(tmp_path / "out"),
                str(tmp_path / "data" / "part" / "test"),
                "--out",
                str(tmp_path / "seen"),
            ]
        )
    rows = [json.loads(line) for line in (tmp_path / "seen" / "predictions.jsonl").read_text().splitlines()]
    evaluation = json.loads((tmp_path / "out" / "part" / "evaluation.json").read_text())
    assert sorted(row["score"] for row in rows) == sorted(row["score"] for row in evaluation["images"])
    capsys.readouterr()
    (tmp_path / "roi.json").write_text('{"size": [60, 90], "polygons": [[[5, 5], [80, 5], [80, 51], [5, 51]]]}')
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--resume"])
    assert stopped.value.code == 2
    assert "holds a run with another region of interest" in capsys.readouterr().err


@pytest.mark.slow
def test_an_export_scores_within_tiles_and_the_region_too(make_category, tmp_path: Path):
    """With reweighting, where the score is not the maximum of the map."""
    data = make_category(tmp_path / "data", num_train=8, size=(60, 90))
    (tmp_path / "roi.json").write_text('{"size": [60, 90], "polygons": [[[5, 5], [80, 5], [80, 50], [5, 50]]]}')
    fields = {
        "model": "patchcore",
        "tile": 48,
        "overlap": 12,
        "roi": tmp_path / "roi.json",
        "data_path": tmp_path / "data",
    }
    options = {"backbone": "gabor", "num_patches": 100, "reweighting": True}
    run(RunConfig.create(**fields, ckpt_path=tmp_path / "out", figures=0, options=options))
    folder = tmp_path / "out" / "part"
    export(folder, "onnx")
    images = sorted((data / "test").rglob("*.png"))
    expected, found = (list(Inspector.load(folder, backend).predict(images)) for backend in ("torch", "onnx"))
    for one, other in zip(expected, found, strict=True):
        assert other.score == pytest.approx(one.score, rel=1e-4)
        assert one.score != one.map.max()
    staged = tmp_path / "plain"
    staged.mkdir()
    write_onnx(to_onnx(load_detector(read_model(folder))), staged)
    write_model(read_model(folder), {"model.onnx": staged / "model.onnx"})  # as an earlier version left it
    with pytest.raises(BlemishError, match="supports neither tiles nor a region, because an earlier version wrote it"):
        list(Inspector.load(folder, "onnx").predict(images))


def test_what_an_older_version_did_is_not_done_again(model: Path, run_folder: Path, tmp_path: Path):
    document = json.loads((model / "model.json").read_text())
    config, provenance = document["provenance"]["config"], document["provenance"]
    for name in ("tile", "overlap"):  # which it did not know
        del config[name]
    del provenance["roi_sha256"]
    (model / "model.json").write_text(json.dumps(document))
    before = (model / "model.json").read_bytes()
    known = {name: value for name, value in config.items() if name in RunConfig.model_fields}
    evaluation = run(RunConfig.create(**known, data_path=run_folder / "data", ckpt_path=tmp_path, resume=True))
    assert evaluation.metrics == json.loads((run_folder / "part" / "evaluation.json").read_text())["metrics"]
    assert (model / "model.json").read_bytes() == before


def test_folds_are_not_for_what_is_trained_for_epochs(run_folder: Path, tmp_path: Path, capsys):
    detector = detector_class("ae").create(size=32, width=4, latent_dim=2)
    save(Artifact("ae", detector, Preprocess((32, 32)), {}), tmp_path / "part")
    code, _, said = calibrate(capsys, tmp_path, "--folds", "2", "--data_path", run_folder / "data")
    assert (code, "ae would be trained once per fold, which takes too long. Give --images" in said) == (2, True)
