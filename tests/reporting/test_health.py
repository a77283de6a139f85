"""The checks of the data behind a report, on facts made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from blemish.data import find_categories
from blemish.data.facts import distances_to_others, image_facts
from blemish.data.source import load
from blemish.evaluation.record import Record
from blemish.imaging.preprocess import Preprocess
from blemish.imaging.read import read_image
from blemish.inference.previews import Preview
from blemish.reporting import health
from blemish.reporting.read import Part
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
        Record(list(previews), facts={"images": list(images), "problems": []} if images else {}),
        Path(),
    )


@pytest.mark.parametrize(
    ("check", "changes", "status", "said"),
    [
        (health.identical_files, {}, "ok", "38 files, all different"),
        (health.identical_files, {"test_2": {"sha256": "train3"}}, "warning", "1 of them in training and test"),
        (health.identical_files, {"train_2": {"sha256": "train3"}}, "warning", "none of them across"),
        (
            health.identical_files,
            {f"test_{i}": {"pixel_sha256": "same"} for i in (1, 2)},
            "warning",
            "1 image there more than once",
        ),
        (health.training_outliers, {}, "ok", "none of 32"),
        (health.training_outliers, {"train_7": {"distance": 9.0}}, "warning", "1 of 32 training images"),
        (health.exposure, {}, "ok", "median brightness 0.499 in training, 0.505"),
        (health.exposure, {f"test_{i}": {"brightness": 0.6} for i in range(6)}, "warning", "0.600 in good test images"),
        (health.sizes, {}, "ok", "48 x 48"),
        (health.sizes, {"test_4": {"size": [64, 48]}}, "warning", "1 test image of another size, such as 64 x 48"),
        (health.enough_held_out, {}, "warning", "12 held-out good images: a rate of 0.077 is the least possible; 0.01"),
        (health.other_problems, {}, "ok", "nothing else"),
    ],
)
def test_checks_of_the_data(check, changes, status, said):
    found = check(part_with(facts(**changes)))
    assert found.status == status
    assert said in found.text
    if status == "warning" and check is not health.enough_held_out:
        place = next(iter(changes))
        assert place.replace("_", "/") + ".png" in found.paths or check is health.exposure


@pytest.mark.parametrize("check", [check for _, check in health.CHECKS.values()])
def test_a_check_without_anything_to_look_at_is_not_applicable(check):
    assert check(part_with()).status == "not applicable"


def test_held_out_images_enough_for_the_rate_that_was_asked_for():
    calibration = {"false_alarm_rate": 0.1, "good_scores": [1.0] * 9}
    assert health.enough_held_out(part_with(calibration=calibration)).status == "ok"
    calibration["good_scores"].pop()
    assert health.enough_held_out(part_with(calibration=calibration)).status == "warning"


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
    assert health.masks(part_with(previews=previews, labels=labels)).status == status


def test_maps_that_saturate():
    flat = Preview("a.png", (100, 100), b"", np.zeros((8, 8)), at_maximum=0.02)
    assert health.saturation(part_with(previews=[flat], labels=[True])).paths == ("a.png",)
    assert health.saturation(part_with(previews=[replace(flat, at_maximum=0.0001)], labels=[True])).status == "ok"


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
