"""Regions of interest: nothing outside makes a difference, to the pixels, the map, the score or the figures."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from blemish.errors import BlemishError
from blemish.evaluation.evaluate import evaluate
from blemish.imaging.pixels import to_batch
from blemish.imaging.preprocess import Preprocess
from blemish.imaging.read import read_image
from blemish.imaging.roi import Roi, masked_by_roi, read_roi
from blemish.inference.inspector import Inspector
from blemish.metrics import rank_pixels
from blemish.types import Prediction, Sample


def sharp(images: np.ndarray, inside: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A backend with a wide view: its map is the distance of each pixel to the blurred picture."""
    maps = np.stack([np.abs(image[0] - cv2.GaussianBlur(image[0], (0, 0), 5)) for image in images])
    return np.where(True if inside is None else inside, maps, -np.inf).max(axis=(1, 2)), maps


@pytest.fixture
def roi(tmp_path: Path) -> Roi:
    mask = np.zeros((60, 80), np.uint8)
    mask[10:40, 20:70] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    return read_roi(tmp_path / "mask.png")


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 3), (np.uint16, 1), (np.uint8, 1), (np.float32, 3)])
@pytest.mark.parametrize(
    "preprocess", [Preprocess((48, 48)), Preprocess((48, 48), "pad"), Preprocess((32, 32), tile=32, overlap=8)]
)
def test_nothing_outside_makes_a_difference(roi, tmp_path: Path, preprocess, dtype, channels):
    from dataclasses import replace

    generator = np.random.default_rng(0)
    image = generator.random((60, 80, 3)).astype(np.float32)
    other = image.copy()
    other[~roi.inside((60, 80))] = generator.random(3)
    scale = 1 if dtype == np.float32 else np.iinfo(dtype).max
    for name, picture in (("a", image), ("b", other)):
        pixels = (picture * scale).astype(dtype)
        cv2.imwrite(str(tmp_path / f"{name}.tiff"), pixels if channels == 3 else pixels[:, :, 0])
    inspector = Inspector(sharp, replace(preprocess, roi=roi))
    first, second = inspector.predict([tmp_path / "a.tiff", tmp_path / "b.tiff"])
    np.testing.assert_array_equal(first.map, second.map)
    inside = roi.inside((60, 80))
    image = read_image(tmp_path / "a.tiff")
    pieces, masks = inspector.preprocess.pieces(image), list(inspector.preprocess.inside((60, 80)))
    assert first.score == second.score == sharp(to_batch(pieces), np.stack(masks))[0].max()
    assert (first.map[~inside] == first.map[inside].min()).all()


def test_a_mask_and_the_same_polygon_are_one_region(roi, tmp_path: Path):
    polygon = [[20, 10], [69, 10], [69, 39], [20, 39]]
    (tmp_path / "roi.json").write_text(json.dumps({"size": [60, 80], "polygons": [polygon, polygon]}))
    assert read_roi(tmp_path / "roi.json") == roi


def test_polygons_outside_are_cut_out(tmp_path: Path):
    inner = [[10, 10], [19, 10], [19, 19], [10, 19]]
    for name, polygons in (("all.json", {}), ("one.json", {"polygons": [[[0, 0], [79, 0], [79, 39], [0, 39]]]})):
        (tmp_path / name).write_text(json.dumps({"size": [60, 80], "outside": [inner]} | polygons))
    assert read_roi(tmp_path / "all.json").inside((60, 80)).sum() == 60 * 80 - 100
    assert read_roi(tmp_path / "one.json").inside((60, 80)).sum() == 40 * 80 - 100


def test_a_larger_picture_of_the_same_view_is_allowed_and_another_view_is_not(roi):
    assert roi.inside((60, 80)).sum() == 30 * 50
    assert roi.inside((120, 160)).sum() == 4 * 30 * 50
    assert roi.inside((45, 60)).mean() == pytest.approx(roi.inside((60, 80)).mean(), abs=0.02)
    with pytest.raises(BlemishError, match="the image is 80x60, its region of interest was drawn for 60x80"):
        roi.inside((80, 60))


WRONG = {
    "black.png": (np.zeros((4, 4), np.uint8), r"black\.png: marks no pixel"),
    "text.png": ("nothing", "truncated, or not an image"),
    "list.json": ("[1]", "cannot be used"),
    "deep.json": ("[" * 100_000, "cannot be used"),
    "no_size.json": ('{"polygons": []}', r"no_size\.json: cannot be used \('size' is missing\)"),
    "line.json": ('{"size": [4, 4], "polygons": [[[0, 0], [3, 3]]]}', "has fewer than three points"),
    "outside.json": ('{"size": [4, 4], "polygons": [[[9, 9], [8, 9], [9, 8]]]}', r"outside\.json: marks no pixel"),
    "words.json": ('{"size": [4, 4], "polygons": [["a", "b"]]}', "cannot be used"),
    "huge.json": ('{"size": [1e30, 4], "polygons": []}', "cannot be used"),
    "negative.json": ('{"size": [-3, 4], "polygons": [[[0, 0], [1, 1], [0, 1]]]}', "the size has -3, pixels"),
    "parts.json": (
        '{"size": [480, 640], "polygons": [[[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]]}',
        "lies between 0 and 1; its points are pixels, so multiply x by width, y by height",
    ),
    "one_of_two_in_parts.json": (
        '{"size": [48, 64], "polygons": [[[0, 0], [60, 0], [60, 40]], [[0, 0], [1, 0], [1, 1]]]}',
        "lies between 0 and 1",
    ),
    "nan.json": ('{"size": [48, 64], "polygons": [[[0, 0], [60, NaN], [60, 40]]]}', "no finite number"),
    "infinite.json": ('{"size": [48, 64], "polygons": [[[0, 0], [1e999, 0], [60, 40]]]}', "no finite number"),
    "size_nan.json": ('{"size": [NaN, 64], "polygons": []}', "the size has nan, no whole number"),
    "size_half.json": ('{"size": [48.5, 64], "polygons": []}', "the size has 48.5, no whole number"),
    "size_true.json": ('{"size": [true, 64], "polygons": []}', "the size has True, no whole number"),
    "size_text.json": ('{"size": ["48", 64], "polygons": []}', "the size has '48', no whole number"),
    "size_0.json": ('{"size": [0, 64], "polygons": []}', "the size has 0, pixels are counted from 1"),
    "size_huge.json": ('{"size": [40000, 40000], "polygons": []}', "has over 200,000,000 pixels"),
    "small.json": (
        '{"size": [480, 640], "polygons": [[[2, 2], [20, 2], [20, 20], [2, 20]]]}',
        r"small\.json: marks 0\.12% of the image, 1% is the least",
    ),
    "small.png": (np.pad(np.full((2, 2), 255, np.uint8), 15), r"marks 0\.39% of the image"),
    "empty.json": ('{"size": [4, 4], "polygons": []}', r"empty\.json: marks no pixel"),
}


@pytest.mark.parametrize(("name", "content", "expected"), [(name, *rest) for name, rest in WRONG.items()], ids=WRONG)
def test_a_region_that_cannot_be_used_is_one_line(name, content, expected, tmp_path: Path):
    path = tmp_path / name
    if isinstance(content, str):
        path.write_text(content)
    else:
        cv2.imwrite(str(path), content)
    with pytest.raises(BlemishError, match=expected) as raised:
        read_roi(path)
    assert "\n" not in str(raised.value)


def test_the_share_that_counts_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "blemish")
    (tmp_path / "a.json").write_text('{"size": [40, 50], "polygons": [[[0, 0], [49, 0], [49, 19], [0, 19]]]}')
    assert read_roi(tmp_path / "a.json").inside((40, 50)).mean() == 0.5
    assert caplog.messages == [f"roi: 50.0 % of the image is inspected ({tmp_path / 'a.json'})"]


def test_a_polygon_may_reach_beyond_the_picture_as_far_as_it_likes(tmp_path: Path):
    for index, far in enumerate((60, 1e6, 1e300)):
        polygon = [[-far, -far], [far, -far], [far, 19], [-far, 19]]
        (tmp_path / f"{index}.json").write_text(json.dumps({"size": [40, 50], "polygons": [polygon]}))
        inside = read_roi(tmp_path / f"{index}.json").inside((40, 50))
        assert inside[:20].all()
        assert not inside[20:].any()


def test_a_small_region_of_an_older_model_is_still_read(tmp_path: Path):
    png = cv2.imencode(".png", np.pad(np.full((1, 1), 255, np.uint8), 15))[1].tobytes()
    assert Roi(png).inside((31, 31)).sum() == 1


def test_a_file_that_is_missing_is_named(tmp_path: Path):
    with pytest.raises(BlemishError, match=r"none\.json: No such file"):
        read_roi(tmp_path / "none.json")


def test_pixels_outside_are_in_no_metric(roi, tmp_path: Path):
    generator = np.random.default_rng(0)
    inside, samples, predictions, truth, scores = roi.inside((60, 80)), [], [], [], []
    for index, corner in enumerate([(20, 30), (45, 5), None]):
        mask = np.zeros((60, 80), np.uint8)
        if corner:
            mask[corner[0] - 12 : corner[0], corner[1] : corner[1] + 9] = 255  # the second lies outside altogether
            cv2.imwrite(str(tmp_path / f"{index}_mask.png"), mask)
        own = tmp_path / f"{index}_mask.png" if corner else None
        samples.append(Sample(tmp_path / f"{index}.png", corner is not None, own, "bad" if corner else "good"))
        values = generator.normal(size=(60, 80)).astype(np.float32) + mask / np.float32(255)
        predictions.append(Prediction(samples[-1], float(values[inside].max()), values))
        truth.append(mask[inside] > 0)
        scores.append(values[inside])
    found = evaluate(predictions, samples, method="m", category="c", root=tmp_path, roi=roi)
    expected = roc_auc_score(np.concatenate(truth), np.concatenate(scores))
    assert found.metrics["pixel_auroc"] == pytest.approx(expected)
    assert [row["label"] for row in found.images] == [True, False, False]
    labels = [True, False, False]
    assert found.metrics["image_auroc"] == roc_auc_score(labels, [row["score"] for row in found.images])


def test_a_ranking_leaves_masked_pixels_out(roi):
    values = np.random.default_rng(0).random((60, 80), np.float32)
    mask = np.zeros((60, 80), np.uint8)
    mask[35:45, 30:40] = 1  # half of it lies outside
    image = rank_pixels([(mask, masked_by_roi(values, roi))]).images[0]
    assert (image.anomalous.size, image.num_pixels, image.components.weights.sum()) == (50, 1500, pytest.approx(1))
