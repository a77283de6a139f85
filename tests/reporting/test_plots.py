"""Figures are drawn for every kind of content that a run can have; what they show is looked at by people."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from blemish.data import find_categories
from blemish.data.kept import KeptImages
from blemish.imaging.read import read_image
from blemish.reporting import plots as figures
from blemish.types import Evaluation, Prediction


@pytest.fixture
def category(make_category, tmp_path: Path):
    make_category(tmp_path / "data", "bolt", num_good=2, num_bad=2)
    return find_categories(tmp_path / "data")[0]


def drawn(path: Path) -> np.ndarray:
    image = read_image(path)
    assert image.std() > 5  # not blank
    return image


def test_examples_show_good_images_and_a_defect_with_its_mask(category, tmp_path: Path):
    figures.examples(category, tmp_path / "examples.png")
    assert (drawn(tmp_path / "examples.png") == 0).all(axis=2).mean() > 0.05  # the black of the mask


def test_examples_of_a_category_without_test_images(make_category, tmp_path: Path):
    make_category(tmp_path / "data", "nut", num_good=0, num_bad=0, num_train=1)
    figures.examples(find_categories(tmp_path / "data")[0], tmp_path / "examples.png")
    drawn(tmp_path / "examples.png")


@pytest.mark.parametrize("count", [1, 4, 5])
@pytest.mark.parametrize("rebuilds", [True, False])
def test_predictions(category, tmp_path: Path, count, rebuilds):
    samples = (category.of("test") * 2)[:count]
    shown = [Prediction(sample, 0.5, np.random.default_rng(0).random((48, 48), np.float32)) for sample in samples]
    rebuilt = [np.full((32, 32, 3), 128, np.uint8)] * count if rebuilds else None
    figures.predictions(shown, rebuilt, tmp_path / "predictions.png")
    drawn(tmp_path / "predictions.png")


@pytest.mark.parametrize("losses", [[0.3], [3.0, 1.0, 0.5], [-1.0, -2.0, -1.5]])
def test_losses(tmp_path: Path, losses):
    training = {"train": losses, "validation": losses, "best_epoch": int(np.argmin(losses))}
    figures.losses(training, "ae on bolt", tmp_path / "losses.png")
    drawn(tmp_path / "losses.png")


@pytest.mark.parametrize(
    ("losses", "label"), [([0.06, 0.03, 0.025], "0.05"), ([3.0, 0.1, 0.002], "0.01"), ([0.101, 0.1], "0.1006")]
)
def test_losses_are_labelled_by_plain_numbers(tmp_path: Path, monkeypatch, losses, label):
    made = []
    monkeypatch.setattr(figures, "_save", lambda figure, path: (made.append(figure), figure.savefig(path)))
    figures.losses({"train": losses, "validation": losses, "best_epoch": 0}, "bolt", tmp_path / "losses.png")
    written = [tick.get_text() for tick in made[0].axes[0].get_yticklabels(which="both")]
    assert label in written
    assert not any("$" in text for text in written)


@pytest.mark.parametrize("num_methods", [1, 2, 9])
def test_averages(tmp_path: Path, num_methods):
    evaluations = [
        Evaluation(f"m{number}", category, {"pixel_auroc": 0.4 + number / 20, "image_auroc": value})
        for number in range(num_methods)
        for category, value in (("bolt", 0.3), ("nut", None))
    ]
    figures.averages(evaluations, tmp_path / "auroc.png")
    drawn(tmp_path / "auroc.png")


def test_a_16_bit_picture_is_shown_at_its_brightness(category, tmp_path: Path):
    sample = category.of("test")[0]
    cv2.imwrite(str(sample.image), np.full((48, 48), 65535 // 2, np.uint16))
    assert KeptImages().picture(sample).mean() == pytest.approx(127.5, abs=2)


def test_a_sheet_holds_each_picture_in_its_cell_in_its_own_shape():
    sheet = figures._Sheet(2, 2)
    sheet.show(0, np.full((4, 4, 3), 51, np.uint8), "8 bits")
    assert sheet._canvas[figures.GAP + figures.CAPTION, figures.GAP] == pytest.approx(0.2)
    sheet.show(3, np.zeros((50, 100), np.float32), "x" * 40)
    black = np.argwhere((sheet._canvas == 0).all(axis=2))
    (top, left), (bottom, right) = black.min(axis=0), black.max(axis=0)
    height, width = sheet._canvas.shape[:2]
    assert (bottom - top + 1, right - left + 1) == (figures.CELL // 2, figures.CELL)
    assert right == width - figures.GAP - 1
    assert bottom == height - figures.GAP - 1 - figures.CELL // 4
    *_, (_, _, caption) = sheet._captions
    assert len(caption) == figures.LONGEST


def test_white_pictures_of_any_size_are_no_whiter_than_white():
    sheet = figures._Sheet(1, 1)
    for height in range(100, 400, 7):
        sheet.show(0, np.ones((height, 383, 3), np.float32), "")
        assert sheet._canvas.max() == 1  # else matplotlib complains, and what it makes of it is its own matter
