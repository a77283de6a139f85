"""Figures show the values, texts and axes that they are given, for every kind of content that a run can have."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from blemish.data import find_categories
from blemish.imaging.read import read_image
from blemish.reporting import run_figures as figures
from blemish.reporting.sheet import CAPTION, CELL, GAP, HEADER, LONGEST, Sheet
from blemish.types import Evaluation, Prediction


@pytest.fixture
def category(make_category, tmp_path: Path):
    make_category(tmp_path / "data", "bolt", num_good=2, num_bad=2)
    return find_categories(tmp_path / "data")[0]


def canvas(figure: Figure) -> NDArray[np.float32]:
    """A sheet's image, (H, W, 3) in [0, 1]."""
    (image,) = figure.images
    return image.get_array()


def cell(figure: Figure, row: int, column: int) -> NDArray[np.float32]:
    """The image in a cell of a sheet."""
    titled = HEADER if len(figure.texts) and figure.texts[-1].get_verticalalignment() == "top" else GAP
    top, left = titled + row * (CAPTION + CELL + GAP) + CAPTION, GAP + column * (CELL + GAP)
    return canvas(figure)[top : top + CELL, left : left + CELL]


def captions(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts if text.get_verticalalignment() == "bottom"]


def test_examples_show_good_images_and_a_defect_with_its_mask(category, tmp_path: Path):
    figure = figures.examples(category, tmp_path / "examples.png")
    assert captions(figure) == ["good"] * 4 + ["bad", "mask"]
    assert figure.texts[-1].get_text() == "bolt: good images, and one of each defect type with its mask"
    bad = next(sample for sample in category.of("test") if sample.defect == "bad")
    assert cell(figure, 1, 1).mean() == pytest.approx((read_image(bad.mask) > 0).mean(), abs=0.01)
    assert cell(figure, 1, 0).mean() == pytest.approx(read_image(bad.image).mean() / 255, abs=0.01)
    assert (cell(figure, 1, 2) == 1).all()  # nothing there
    assert read_image(tmp_path / "examples.png").shape == canvas(figure).shape


def test_examples_of_a_category_without_test_images(make_category, tmp_path: Path):
    make_category(tmp_path / "data", "nut", num_good=0, num_bad=0, num_train=1)
    figure = figures.examples(find_categories(tmp_path / "data")[0], tmp_path / "examples.png")
    assert captions(figure) == ["good"]


@pytest.mark.parametrize("count", [1, 4, 5])
@pytest.mark.parametrize("rebuilds", [True, False])
def test_predictions_show_image_mask_reconstruction_and_map_in_a_row(category, tmp_path: Path, count, rebuilds):
    samples = (category.of("test") * 2)[:count]
    shown = [Prediction(sample, 0.5, np.random.default_rng(0).random((48, 48), np.float32)) for sample in samples]
    rebuilt = [np.full((32, 32, 3), 51, np.uint8)] * count if rebuilds else None
    figure = figures.predictions(shown, rebuilt, tmp_path / "predictions.png")
    between = ["mask", "reconstruction"] if rebuilds else ["mask"]
    rows = [[f"{sample.defect} / {sample.image.stem}", *between, "map, score 0.5"] for sample in samples]
    assert captions(figure) == [caption for row in rows for caption in row]
    per_row = 2 if count > 4 else 1
    num_columns = per_row * len(rows[0])
    assert canvas(figure).shape[1] == GAP + num_columns * (CELL + GAP)
    for index, sample in enumerate(samples):
        row, column = index // per_row, index % per_row * len(rows[0])
        assert cell(figure, row, column).mean() == pytest.approx(read_image(sample.image).mean() / 255, abs=0.01)
        if rebuilds:
            np.testing.assert_allclose(cell(figure, row, column + 2), 0.2, atol=1e-6)


def test_the_maps_of_a_figure_share_one_scale_and_what_is_high_is_bright(category, tmp_path: Path):
    low, high = np.zeros((48, 48), np.float32), np.zeros((48, 48), np.float32)
    high[:, 24:] = 1
    sample = category.of("test")[0]
    shown = [Prediction(sample, 0.0, low), Prediction(sample, 1.0, high)]
    figure = figures.predictions(shown, None, tmp_path / "predictions.png")
    good, bad = cell(figure, 0, 2), cell(figure, 1, 2)
    half = CELL // 2
    assert bad[:, half + 9 :, 0].min() > 0.8  # the yellow end of the colours
    np.testing.assert_allclose(bad[:, : half - 9], good[:, : half - 9], atol=1e-6)
    assert np.ptp(good, axis=2).max() < 0.01  # the image alone, in grey


@pytest.mark.parametrize(
    ("losses", "scale"), [([0.3], "log"), ([3.0, 1.0, 0.5], "log"), ([-1.0, -2.0, -1.5], "linear"), ([1, 0], "linear")]
)
def test_losses_are_drawn_per_epoch_and_the_selected_one_is_marked(tmp_path: Path, losses, scale):
    best = int(np.argmin(losses))
    training = {"train": [loss + 0.1 for loss in losses], "validation": losses, "best_epoch": best}
    (axis,) = figures.losses(training, "ae on bolt", tmp_path / "losses.png").axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in axis.lines}
    epochs = range(1, len(losses) + 1)
    assert lines["training"] == [[epoch, loss + 0.1] for epoch, loss in zip(epochs, losses, strict=True)]
    assert lines["validation"] == [[epoch, loss] for epoch, loss in zip(epochs, losses, strict=True)]
    assert lines[f"selected: epoch {best + 1}, {losses[best]:.4g}"] == [[best + 1, losses[best]]]
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_title()) == ("epoch", "loss", "ae on bolt")
    assert axis.get_yscale() == scale
    assert [text.get_text() for text in axis.get_legend().texts] == [name for name in lines if not name.startswith("_")]


@pytest.mark.parametrize(
    ("losses", "label"), [([0.06, 0.03, 0.025], "0.05"), ([3.0, 0.1, 0.002], "0.01"), ([0.101, 0.1], "0.1006")]
)
def test_losses_are_labelled_by_plain_numbers(tmp_path: Path, losses, label):
    training = {"train": losses, "validation": losses, "best_epoch": 0}
    (axis,) = figures.losses(training, "bolt", tmp_path / "losses.png").axes
    written = [tick.get_text() for tick in axis.get_yticklabels(which="both")]
    assert label in written
    assert not any("$" in text for text in written)


@pytest.mark.parametrize("num_methods", [1, 2, 9])
def test_averages_are_bars_with_a_point_for_each_category(tmp_path: Path, num_methods):
    evaluations = [
        Evaluation(f"m{number}", category, {"pixel_auroc": 0.4 + (number + shift) / 20, "image_auroc": value})
        for number in range(num_methods)
        for category, value, shift in (("bolt", 0.3, 0), ("nut", None, 1))
    ]
    panels = {axis.get_title(): axis for axis in figures.averages(evaluations, tmp_path / "auroc.png").axes}
    assert set(panels) == {"pixel AUROC", "image AUROC"}
    pixel, image = panels["pixel AUROC"], panels["image AUROC"]
    means = [0.4 + (number + 0.5) / 20 for number in range(num_methods)]
    assert [bar.get_height() for bar in pixel.patches] == pytest.approx(means)
    assert [bar.get_height() for bar in image.patches] == pytest.approx([0.3] * num_methods)
    assert [text.get_text() for text in pixel.texts] == [f"{mean:.3f}" for mean in means]
    points = [points.get_offsets()[:, 1].tolist() for points in pixel.collections]
    assert points == [pytest.approx([0.4 + number / 20, 0.45 + number / 20]) for number in range(num_methods)]
    assert [points.get_offsets()[:, 1].tolist() for points in image.collections] == [[0.3]] * num_methods
    assert [tick.get_text() for tick in pixel.get_xticklabels()] == [f"m{number}" for number in range(num_methods)]
    assert pixel.get_ylim() == (pytest.approx(0.3), 1.0)


def test_a_method_without_a_figure_says_that_it_is_not_applicable(tmp_path: Path):
    figure = figures.averages([Evaluation("m", "bolt", {"image_auroc": 0.8})], tmp_path / "auroc.png")
    texts = {axis.get_title(): [text.get_text() for text in axis.texts] for axis in figure.axes}
    assert texts == {"pixel AUROC": ["not\napplicable"], "image AUROC": ["0.800"]}


def test_a_16_bit_image_is_shown_at_its_brightness(category, tmp_path: Path):
    sample = category.of("test")[0]
    cv2.imwrite(str(sample.image), np.full((48, 48), 65535 // 2, np.uint16))
    shown = [Prediction(sample, 0.5, np.zeros((48, 48), np.float32))]
    figure = figures.predictions(shown, None, tmp_path / "predictions.png")
    np.testing.assert_allclose(cell(figure, 0, 0), 0.5, atol=0.01)


def test_a_sheet_holds_each_image_in_its_cell_in_its_own_shape():
    sheet = Sheet(2, 2)
    sheet.show(0, np.full((4, 4, 3), 51, np.uint8), "8 bits")
    sheet.show(3, np.zeros((50, 100), np.float32), "x" * 40)
    figure = sheet.figure()
    np.testing.assert_allclose(cell(figure, 0, 0), 0.2, atol=1e-6)
    black = cell(figure, 1, 1) == 0
    assert black[CELL // 4 : -CELL // 4].all()
    assert not black[: CELL // 4].any()
    assert not black[-CELL // 4 :].any()
    assert captions(figure) == ["8 bits", "x" * (LONGEST - 1) + "…"]


def test_white_images_of_any_size_are_no_whiter_than_white():
    sheet = Sheet(1, 1)
    for height in range(100, 400, 7):
        sheet.show(0, np.ones((height, 383, 3), np.float32), "")
        assert canvas(sheet.figure()).max() == 1  # else matplotlib complains, and what it makes of it is its own matter
