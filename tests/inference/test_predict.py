"""What `predict` keeps, decides again and inspects anew, with a fake in place of a detector."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blemish.calibration.thresholds import Calibration
from blemish.errors import BlemishError
from blemish.imaging.preprocess import Preprocess
from blemish.inference.inspector import Inspector
from blemish.inference.output_files import OutputFiles
from blemish.inference.predict import BY_MAP, BY_SCORE, DRAWN, NO_FILES, NO_REGIONS, Summary, predict
from blemish.inference.rows import read_rows

CALIBRATION = Calibration(0.5, 0.4, 0.1, None, (0.1, 0.2, 0.5), ())
SIDE = 24


class Counting:
    """A backend: the map is the brightness of each pixel, the score the brightest; counts the images it saw."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.seen += len(images)
        maps = images.mean(axis=1)
        return maps.max(axis=(1, 2)), maps


def inspector(calibration: Calibration | None = CALIBRATION) -> Inspector:
    return Inspector(Counting(), Preprocess((SIDE, SIDE)), calibration, batch_size=3, workers=1)


def spotted(*spots: tuple[int, int, int, int]) -> np.ndarray:
    """A dark image with bright squares: (row, column, side, brightness)."""
    image = np.full((SIDE, SIDE), 20, np.uint8)
    for row, column, side, level in spots:
        image[row : row + side, column : column + side] = level
    return image


IMAGES = {
    "good.png": spotted(),
    "faint.png": spotted((2, 2, 3, 110)),
    "middle.png": spotted((2, 2, 3, 150), (10, 10, 2, 110)),
    "strong.png": spotted((2, 2, 5, 250), (12, 12, 2, 150), (20, 20, 1, 120)),
}


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    (tmp_path / "in").mkdir()
    for name, image in IMAGES.items():
        cv2.imwrite(str(tmp_path / "in" / name), image)
    return [tmp_path / "in" / name for name in IMAGES]


def rows_of(out: Path) -> dict[str, dict]:
    lines = (out / "predictions.jsonl").read_text().splitlines()
    rows = {Path(row["path"]).name: row for row in map(json.loads, lines)}
    assert len(rows) == len(lines)
    with (out / "predictions.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        assert [Path(cells["path"]).name for cells in csv.DictReader(file)] == list(rows)
    return rows


def run(paths: list[Path], out: Path, calibration: Calibration | None = CALIBRATION, **options) -> tuple[Summary, int]:
    """What is told, and how many images were inspected."""
    own = inspector(calibration)
    summary = predict(own, paths, out, **options)
    return summary, own.backend.seen


def fresh_rows(paths: list[Path], out: Path, calibration: Calibration | None) -> dict[str, dict]:
    run(paths, out, calibration)
    return rows_of(out)


def without_files(rows: dict[str, dict]) -> dict[str, dict]:
    names = ("map", "map_format", "overlay")
    return {path: {name: row[name] for name in row if name not in names} for path, row in rows.items()}


def test_a_file_that_changed_is_inspected_anew(paths, tmp_path):
    """`latest.png` is overwritten by a defect."""
    out, latest = tmp_path / "out", paths[0]
    assert run([latest], out)[0].num_defects == 0
    latest.write_bytes(paths[3].read_bytes())
    summary, seen = run([latest], out)
    assert (summary.num_defects, seen) == (1, 1)
    assert summary.describe() == ["inspected again: 1 changed since then"]
    assert rows_of(out)["good.png"]["decision"] == "defect"
    assert run([latest], out)[1] == 0


def test_a_file_that_was_only_touched_is_not_inspected_anew(paths, tmp_path):
    run(paths, tmp_path / "out")
    before = rows_of(tmp_path / "out")
    for path in paths:
        os.utime(path, (1, 1))
    summary, seen = run(paths, tmp_path / "out")
    assert (seen, summary.describe(), rows_of(tmp_path / "out")) == (0, [], before)


CHANGES = {
    "higher threshold": ({"threshold": 0.7}, 0),
    "lower threshold": ({"threshold": 0.3}, 1),  # faint.png alone, whose regions nobody has looked for
    "other p-values": ({"good_scores": (0.9, 0.95)}, 0),
    "larger regions": ({"min_area": 5}, 0),
    "other regions": ({"pixel_threshold": 0.5}, 2),
}


@pytest.mark.parametrize(("change", "number"), CHANGES.values(), ids=CHANGES)
def test_a_changed_calibration_decides_again_what_is_stored(change, number, paths, tmp_path):
    """As if all had been inspected anew, and only what cannot be told otherwise is."""
    run(paths, tmp_path / "out")
    changed = replace(CALIBRATION, **change)
    summary, seen = run(paths, tmp_path / "out", changed)
    assert seen == number
    assert rows_of(tmp_path / "out") == fresh_rows(paths, tmp_path / "fresh", changed)
    assert summary.inspected_anew == ({NO_REGIONS: number} if number else {})
    assert run(paths, tmp_path / "out", changed)[0].describe() == []


@pytest.mark.parametrize("form", ["uint16", "float32"])
def test_with_maps_nothing_is_inspected_anew(form, paths, tmp_path):
    out, changed = tmp_path / "out", replace(CALIBRATION, threshold=0.3, pixel_threshold=0.45, min_area=2)
    run(paths, out, maps=form)
    summary, seen = run(paths, out, changed)
    assert (seen, summary.inspected_anew) == (0, {})
    assert summary.from_stored == {BY_SCORE: 1, BY_MAP: 3}
    rows, expected = without_files(rows_of(out)), fresh_rows(paths, tmp_path / "fresh", changed)
    if form == "float32":
        assert rows == expected
    for name, row in rows.items():
        assert [region["box"] for region in row["regions"]] == [region["box"] for region in expected[name]["regions"]]
        peaks = [region["peak"] for region in expected[name]["regions"]]
        assert [region["peak"] for region in row["regions"]] == pytest.approx(peaks, abs=1 / 8190)


calibrations = st.builds(
    lambda threshold, pixel_threshold, min_area: replace(
        CALIBRATION, threshold=threshold, pixel_threshold=pixel_threshold, min_area=min_area
    ),
    st.sampled_from([0.05, 0.3, 0.43, 0.5, 0.6, 0.9, 2.0]),
    st.sampled_from([0.05, 0.3, 0.43, 0.5, 0.6, 0.9]),
    st.sampled_from([0, 1, 2, 4, 9, 30]),
)


@given(steps=st.lists(st.none() | calibrations, min_size=1, max_size=4), maps=st.sampled_from([None, "float32"]))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_series_of_calibrations_ends_as_the_last_alone(steps, maps, paths, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    run(paths, out / "series", maps=maps)
    for calibration in steps:
        run(paths, out / "series", calibration)
    assert without_files(rows_of(out / "series")) == fresh_rows(paths, out / "alone", steps[-1])


def test_rows_that_are_not_given_are_decided_again_too(paths, tmp_path):
    """No table holds decisions of two calibrations; what only the image could tell is left open."""
    out = tmp_path / "out"
    run(paths, out)
    _, seen = run(paths[:1], out, replace(CALIBRATION, threshold=0.3, pixel_threshold=0.5))
    rows = rows_of(out)
    assert seen == 0
    assert {row["threshold"] for row in rows.values()} == {0.3}
    assert {name: row["decision"] for name, row in rows.items()} == {
        "good.png": "good",
        "faint.png": "defect",
        "middle.png": "defect",
        "strong.png": "defect",
    }
    assert [row["regions"] for row in rows.values()] == [[], None, None, None]
    assert run(paths, out, replace(CALIBRATION, threshold=0.3, pixel_threshold=0.5))[1] == 3


def test_maps_and_overlays_that_are_asked_for_later_come_into_the_same_folder(paths, tmp_path):
    out = tmp_path / "out"
    run(paths, out)
    summary, seen = run(paths, out, maps="uint16")
    assert (seen, summary.inspected_anew) == (4, {NO_FILES: 4})
    summary, seen = run(paths, out, overlays=True)
    assert (seen, summary.from_stored) == (0, {DRAWN: 4})
    rows = rows_of(out)
    assert {row["map"] for row in rows.values()} == {f"maps/{Path(name).stem}.tiff" for name in IMAGES}
    assert all((out / row[field]).is_file() for row in rows.values() for field in ("map", "overlay"))
    assert run(paths, out, maps="uint16", overlays=True)[1] == 0
    assert run(paths, out, maps="float32")[1] == 4
    assert run(paths, out, maps="uint16")[1] == 0


def test_an_overlay_follows_the_decision(paths, tmp_path):
    out = tmp_path / "out"
    run(paths, out, overlays=True)
    before = {name: (out / row["overlay"]).read_bytes() for name, row in rows_of(out).items()}
    changed = replace(CALIBRATION, threshold=0.9)
    assert run(paths, out, changed)[1] == 4  # their maps are not there
    run(paths, tmp_path / "fresh", changed, overlays=True)
    for name, row in rows_of(out).items():
        drawn = (out / row["overlay"]).read_bytes()
        assert drawn == (tmp_path / "fresh" / row["overlay"]).read_bytes() != before[name]


def test_what_is_drawn_is_what_was_inspected(paths, tmp_path, monkeypatch):
    """The file is another one by the time its overlay is drawn."""
    out, content = tmp_path / "out", paths[3].read_bytes()
    run([paths[3]], tmp_path / "calm", overlays=True)
    write = OutputFiles.write

    def late(self, found, *rest):
        found.sample.image.write_bytes(b"no image any more")
        return write(self, found, *rest)

    monkeypatch.setattr(OutputFiles, "write", late)
    assert run([paths[3]], out, overlays=True)[0].first_error == ""
    row = rows_of(out)["strong.png"]
    assert (out / row["overlay"]).read_bytes() == (tmp_path / "calm" / row["overlay"]).read_bytes()
    monkeypatch.undo()
    summary, _ = run([paths[3]], out)
    assert (summary.num_unreadable, "truncated, or not an image" in summary.first_error) == (1, True)
    paths[3].write_bytes(content)
    assert run([paths[3]], out)[0].num_defects == 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "of another image", "gone"])
def test_a_stored_map_that_cannot_be_trusted_is_made_anew(damage, paths, tmp_path):
    out, changed = tmp_path / "out", replace(CALIBRATION, pixel_threshold=0.5)
    run(paths, out, maps="float32")
    file = out / "maps" / "strong.tiff"
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        middle = len(content) - 9
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        other = (out / "maps" / "middle.tiff").read_bytes()
        file.write_bytes({"cut": content[:-1], "flipped": flipped, "of another image": other}[damage])
    assert run(paths, out, changed)[1] == 1
    assert file.read_bytes() == content
    assert without_files(rows_of(out)) == fresh_rows(paths, tmp_path / "fresh", changed)


def test_another_model_is_not_mixed_in_but_starts_afresh_where_asked(paths, tmp_path):
    out = tmp_path / "out"
    run(paths, out, identity={"backend": "torch", "sha256": {"a": "1"}}, maps="uint16")
    before = (out / "predictions.jsonl").read_bytes()
    other, runtime = {"backend": "torch", "sha256": {"a": "2"}}, {"backend": "onnx", "sha256": {"a": "1"}}
    with pytest.raises(BlemishError, match=r"holds predictions of another model\. Choose another --out, .* --fresh"):
        run(paths, out, identity=other)
    with pytest.raises(BlemishError, match="holds predictions of another backend"):
        run(paths, out, identity=runtime)
    assert (out / "predictions.jsonl").read_bytes() == before
    summary, seen = run(paths[1:], out, identity=other, fresh=True)
    assert (seen, summary.num_images, list(rows_of(out))) == (3, 3, list(IMAGES)[1:])
    assert list((out / "maps").iterdir()) == []
    assert run(paths[1:], out, identity=other)[1] == 0


def test_rows_are_never_taken_from_a_folder_that_does_not_tell_their_model(paths, tmp_path):
    run(paths, tmp_path / "out")
    for content in ("", "[]", "{}", '{"identity": 3}'):
        (tmp_path / "out" / "predictions.json").write_text(content)
        with pytest.raises(BlemishError, match=r"of a model that predictions\.json does not name"):
            run(paths, tmp_path / "out")


DAMAGED = ["[]", "3", "{", '{"path": 1}', '{"score": NaN}', '"score"', "null", "[" * 5000, "\ufffd", ""]
VALUES = [None, "x", [], {}, float("nan"), float("inf"), 3, [{}], ["a", "b"]]
FIELDS = ["score", "sha256", "size", "regions", "path", "threshold", "min_area"]
POSSIBLE = [("regions", None), ("regions", []), ("score", 3), ("threshold", 3), ("min_area", 3), ("sha256", "x")]


def test_lines_that_are_damaged_are_left_out_and_their_images_inspected_anew(paths, tmp_path):
    out = tmp_path / "out"
    run(paths, out)
    before, file = rows_of(out), out / "predictions.jsonl"
    damaged = [(field, value) for field in FIELDS for value in VALUES if (field, value) not in POSSIBLE]
    lines = [
        json.dumps(before["strong.png"] | {field: value}) for field, value in damaged if (field, value) != ("path", "x")
    ]
    file.write_text("\n".join([*lines, *DAMAGED, json.dumps(before["good.png"])]) + "\n")
    assert read_rows(out) == {str(paths[0]): before["good.png"]}
    summary, seen = run(paths, out)
    assert (seen, summary.first_error) == (3, "")
    assert rows_of(out) == before


def test_nothing_outside_of_its_folders_is_removed_or_read(paths, tmp_path):
    run(paths, tmp_path / "out", maps="uint16")
    mine = tmp_path / "mine.tiff"
    mine.write_bytes(b"mine")
    rows = rows_of(tmp_path / "out")
    for name in ("../mine.tiff", "maps/../../mine.tiff", str(mine), "maps", "", "overlays/x.jpg", 3):
        lines = [json.dumps(row | {"map": name}) for row in rows.values()]
        (tmp_path / "out" / "predictions.jsonl").write_text("\n".join(lines))
        run(paths, tmp_path / "out", fresh=True)
        assert mine.read_bytes() == b"mine"


def test_one_picture_that_cannot_be_written_does_not_stop_the_run(paths, tmp_path):
    out = tmp_path / "out"
    (out / "maps" / "middle.tiff").mkdir(parents=True)  # in its place
    summary, _ = run(paths, out, maps="uint16", overlays=True)
    assert (summary.num_images, summary.num_unreadable, summary.num_unwritten) == (4, 0, 1)
    assert "middle.tiff: cannot be written" in summary.first_error
    row = rows_of(out)["middle.png"]
    assert (row["decision"], "map" in row, "overlay" in row) == ("defect", False, True)
    assert "cannot be written" in row["error"]
    (out / "maps" / "middle.tiff").rmdir()
    assert run(paths, out, maps="uint16")[0].num_unwritten == 0
    assert "error" not in rows_of(out)["middle.png"]


def test_names_of_any_kind_get_maps_of_their_own(tmp_path):
    """As long as file systems allow, not UTF-8, differing in case, and a folder that is named like a map."""
    content = cv2.imencode(".png", IMAGES["strong.png"])[1].tobytes()
    long = "x" * 241
    inner = [f"{long}a.png", f"{long}b.png", f"{'ä' * 120}1.png", f"{'ä' * 120}2.png", "a.png", "A.png", "a.tif"]
    inner += ["b.png", "b.tiff/c.png", "b.tiff_/c.png", "b.jpg/c.png", os.fsdecode(b"\xff\n.png"), "=1+1.png", "..png"]
    paths = [tmp_path / "in" / name for name in inner]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for _ in range(2):
        summary, _ = run(paths, tmp_path / "out", maps="uint16", overlays=True)
        assert (summary.num_images, summary.first_error) == (len(inner), "")
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["path"] for row in rows] == list(map(str, paths))
    for field in ("map", "overlay"):
        assert len({row[field].casefold() for row in rows}) == len(rows)
        assert all((tmp_path / "out" / row[field]).is_file() for row in rows)


def test_a_file_of_too_many_bytes_is_refused_before_it_is_read(paths, tmp_path):
    run(paths, tmp_path / "out")
    with paths[1].open("ab") as file:
        file.truncate(30 << 30)  # sparse: it takes no room
    for _ in range(2):
        summary, seen = run(paths, tmp_path / "out")
        assert (summary.num_images, summary.num_unreadable) == (4, 1)
        assert "faint.png: 32,212 MB" in summary.first_error
    assert seen == 0


def test_a_score_that_is_no_number_is_a_row(paths, tmp_path):
    def broken(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        maps = images.mean(axis=1)
        scores = maps.max(axis=(1, 2))
        return np.where(scores > 0.9, np.nan, scores), maps

    summary = predict(Inspector(broken, Preprocess((SIDE, SIDE)), CALIBRATION), paths, tmp_path / "out")
    assert (summary.num_images, summary.num_unreadable, summary.num_defects) == (4, 1, 1)
    assert "strong.png: its score is not a finite number" in rows_of(tmp_path / "out")["strong.png"]["error"]


@pytest.mark.parametrize("maps", [None, "float32"])
@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_run_that_decides_again_may_be_stopped_anywhere(stop_after, maps, paths, tmp_path):
    """No row is lost, none says a decision of both calibrations, and the next run ends as if there had been no stop."""
    out, changed = tmp_path / "out", replace(CALIBRATION, threshold=0.3, pixel_threshold=0.5)
    run(paths, out, maps=maps, overlays=True)

    def stop(done: int, total: int, **shown: float) -> None:
        if done == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(paths, out, changed, progress=stop)
    left = read_rows(out)
    assert {row["threshold"] for row in left.values()} == {0.3}
    assert list(left) == list(map(str, paths))
    run(paths, out, changed)
    assert without_files(rows_of(out)) == fresh_rows(paths, tmp_path / "fresh", changed)
    assert all((out / row["overlay"]).is_file() for row in rows_of(out).values())
