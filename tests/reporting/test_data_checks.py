"""The checks of the data behind a report, on facts made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from blemish.data import find_categories
from blemish.data.facts import distances_to_others, image_facts, look
from blemish.data.source import load
from blemish.evaluation.report_data import ReportData
from blemish.imaging.preprocess import Preprocess
from blemish.imaging.read import read_image
from blemish.imaging.variations import Variation
from blemish.inference.previews import Preview
from blemish.reporting import data_checks
from blemish.reporting.data_checks import LOOK
from blemish.reporting.read_runs import Part
from blemish.types import Evaluation


def facts(**changes) -> list[dict]:
    generator = np.random.default_rng(0)
    rows = [
        {
            "path": f"{split}/{i}.png",
            "split": split,
            "defect": "good",
            "sha256": f"{split}{i}",
            "size": [48, 48],
            "brightness": 0.5 + generator.normal(0, 0.01),
            "contrast": 0.2 + generator.normal(0, 0.01),
            "sharpness": 0.3 + generator.normal(0, 0.02),
            "warmth": 0.1 + generator.normal(0, 0.01),
            "distance": 1 + generator.random() / 10 if split != "test" else None,
        }
        for split, number in (("train", 20), ("val", 12), ("test", 6))
        for i in range(number)
    ]
    for place, fields in changes.items():
        split, number = place.split("_")
        next(row for row in rows if row["path"] == f"{split}/{number}.png").update(fields)
    return rows


def part_with(images=(), calibration=None, previews=(), labels=()) -> Part:
    rows = [{"path": p.path, "label": label, "score": 0.0} for p, label in zip(previews, labels, strict=True)]
    return Part(
        Evaluation("m", "c", {}, images=rows, calibration=calibration),
        ReportData(list(previews), facts={"images": list(images), "problems": []} if images else {}),
        Path(),
    )


@pytest.mark.parametrize(
    ("check", "changes", "status", "said"),
    [
        (data_checks.identical_files, {}, "ok", "38 files, all different"),
        (data_checks.identical_files, {"test_2": {"sha256": "train3"}}, "warning", "1 of them in training and test"),
        (data_checks.identical_files, {"train_2": {"sha256": "train3"}}, "warning", "none of them across"),
        (
            data_checks.identical_files,
            {f"test_{i}": {"pixel_sha256": "same"} for i in (1, 2)},
            "warning",
            "1 image there more than once",
        ),
        (data_checks.training_outliers, {}, "ok", "none of 32"),
        (data_checks.training_outliers, {"train_7": {"distance": 9.0}}, "warning", "1 of 32 training images"),
        (data_checks.drift, {}, "ok", "medians of training and of good test images: brightness 0.49"),
        *(
            (data_checks.drift, {f"test_{i}": {name: 0.6} for i in range(6)}, "warning", f"{name} drifted; medians")
            for name in LOOK
        ),
        (data_checks.sizes, {}, "ok", "48 x 48"),
        (data_checks.sizes, {"test_4": {"size": [64, 48]}}, "warning", "1 test image of another size, such as 64 x 48"),
        (
            data_checks.enough_held_out,
            {},
            "warning",
            "12 held-out good images: the smallest possible rate is 0.077; 0.01",
        ),
        (data_checks.other_problems, {}, "ok", "no other problems"),
    ],
)
def test_checks_of_the_data(check, changes, status, said):
    found = check(part_with(facts(**changes)))
    assert found.status == status
    assert said in found.text
    if status == "warning" and check is not data_checks.enough_held_out:
        place = next(iter(changes))
        assert place.replace("_", "/") + ".png" in found.paths or check is data_checks.drift


@pytest.mark.parametrize("check", [check for _, check in data_checks.CHECKS.values()])
def test_a_check_without_anything_to_look_at_is_not_applicable(check):
    assert check(part_with()).status == "not applicable"


def test_drift_is_told_by_chance_as_rarely_as_is_stated():
    generator, warned, draws = np.random.default_rng(1), 0, 1000
    for _ in range(draws):
        rows = facts()
        for row in rows:
            row.update({name: float(value) for name, value in zip(LOOK, generator.normal(0.5, 0.1, 4), strict=True)})
        warned += data_checks.drift(part_with(rows)).status == "warning"
    assert warned / draws < data_checks.DRIFT_RATE + 0.01  # three standard deviations of the count


def test_a_certain_but_tiny_difference_is_no_drift():
    generator = np.random.default_rng(0)
    many = [row for _ in range(60) for row in facts()]
    for row in many:
        row.update({name: float(generator.normal(0.5 + 0.04 * (row["split"] == "test"), 0.1)) for name in LOOK})
    assert data_checks.drift(part_with(many)).status == "ok"


def test_drift_of_what_an_earlier_version_recorded():
    rows = [{name: value for name, value in row.items() if name not in LOOK[1:]} for row in facts()]
    assert data_checks.drift(part_with(rows)).text.startswith("medians of training and of good test images: brightness")
    few = [row for row in rows if row["split"] != "test" or row["path"] == "test/1.png"]
    assert data_checks.drift(part_with(few)).text == "too few images: 32 training and 1 good test images"


def test_suspects_of_a_run_that_looked_for_them_replace_the_distances():
    looked = {"summary": "outliers: 1 of 30 different good images", "paths": ["a.png"], "left_out": True, "number": 30}
    part = part_with(facts(train_7={"distance": 9.0}))
    part.report_data.facts["outliers"] = looked
    found = data_checks.training_outliers(part)
    assert (found.status, found.paths) == ("warning", ("a.png",))
    assert found.text == "1 of 30 different good images; left out; check whether they are good"
    part.report_data.facts["outliers"] = looked | {"paths": []}
    assert data_checks.training_outliers(part).status == "ok"
    part.report_data.facts["outliers"] = looked | {"paths": [], "number": 0}
    assert data_checks.training_outliers(part).paths == ("train/7.png",)


def test_what_light_focus_and_colour_change_is_seen_in_the_look(tmp_path):
    generator = np.random.default_rng(0)
    image = cv2.GaussianBlur(generator.random((64, 64, 3), np.float32), (0, 0), 1)
    before = look(image)
    for change, name, sign in (
        (Variation(brightness=0.8), "brightness", -1),
        (Variation(warmth=1.1), "warmth", 1),
        (Variation(blur=1.0), "sharpness", -1),
        (Variation(noise=0.02), "sharpness", 1),
    ):
        assert sign * (look(change(image))[name] - before[name]) > 0.05 * abs(before[name])
    assert look(np.zeros((1, 1, 3), np.float32)) == dict.fromkeys(LOOK, 0.0)


def test_held_out_images_enough_for_the_rate_that_was_asked_for():
    calibration = {"false_alarm_rate": 0.1, "good_scores": [1.0] * 9}
    assert data_checks.enough_held_out(part_with(calibration=calibration)).status == "ok"
    calibration["good_scores"].pop()
    assert data_checks.enough_held_out(part_with(calibration=calibration)).status == "warning"


@pytest.mark.parametrize(
    ("areas", "labels", "status"),
    [
        ((0.1, None), (True, False), "ok"),
        ((0.0, None), (True, False), "warning"),
        ((1.0,), (True,), "warning"),
        ((0.1, None), (True, True), "warning"),
        ((None,), (True,), "not applicable"),
        ((None,), (False,), "not applicable"),
    ],
)
def test_masks_that_mark_nothing_or_everything(areas, labels, status):
    previews = [Preview(f"{i}.png", (8, 8), b"", np.zeros((8, 8)), mask_area=area) for i, area in enumerate(areas)]
    assert data_checks.masks(part_with(previews=previews, labels=labels)).status == status


def test_maps_that_saturate():
    flat = Preview("a.png", (100, 100), b"", np.zeros((8, 8)), at_maximum=0.02)
    assert data_checks.saturation(part_with(previews=[flat], labels=[True])).paths == ("a.png",)
    assert data_checks.saturation(part_with(previews=[replace(flat, at_maximum=0.0001)], labels=[True])).status == "ok"


def test_an_image_unlike_the_others_is_far_from_them(make_category, tmp_path: Path):
    make_category(tmp_path, "bolt", num_train=12)
    path = tmp_path / "bolt/train/good/005.png"
    cv2.imwrite(str(path), 255 - cv2.imread(str(path)))
    category = find_categories(tmp_path)[0]
    rows = image_facts(category, load(category.samples, Preprocess((32, 32))))
    distances = {row["path"]: row["distance"] for row in rows if row["split"] == "train"}
    assert max(distances, key=distances.get) == "train/good/005.png"
    assert all(row["distance"] is None for row in rows if row["split"] == "test")
    brightness = read_image(category.samples[0].image).mean() / 255
    assert rows[0]["brightness"] == pytest.approx(brightness, abs=0.01)


def test_distances_leave_the_image_itself_out():
    values = np.array([[0.0], [1.0], [2.0], [10.0]], np.float32)
    assert distances_to_others(values) == pytest.approx([(1 + 2 + 10) / 3, (1 + 1 + 9) / 3, (1 + 2 + 8) / 3, 27 / 3])
    assert distances_to_others(values[:1]).tolist() == [0.0]


def test_many_images_are_compared_a_few_at_a_time():
    values = np.random.default_rng(0).normal(size=(700, 5)).astype(np.float32)
    found = distances_to_others(values)
    direct = np.linalg.norm(values[:, None].astype(np.float64) - values, axis=2)
    np.testing.assert_allclose(found, np.sort(direct, axis=1)[:, 1:4].mean(axis=1), rtol=1e-6)
