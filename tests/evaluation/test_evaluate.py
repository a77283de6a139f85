"""From predictions to an evaluation, to tables and files."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from blemish.data import find_categories
from blemish.errors import BlemishError
from blemish.evaluation.evaluate import evaluate
from blemish.evaluation.map_files import predictions_from_maps
from blemish.evaluation.results import (
    average_interval,
    average_of,
    comparison_tables,
    metrics_tables,
    read_results,
    to_latex,
    write_results,
)
from blemish.imaging.masks import read_mask
from blemish.imaging.read import read_image
from blemish.inference.maps import encode_map
from blemish.metrics import METRICS
from blemish.types import Evaluation, Prediction


@pytest.fixture
def category(make_category, tmp_path: Path):
    make_category(tmp_path / "data", "bolt", num_good=4, num_bad=3)
    return find_categories(tmp_path / "data")[0]


def noise_for(sample, seed: int) -> np.ndarray:
    image = read_image(sample.image).mean(axis=2)
    return (image + np.random.default_rng(seed).normal(0, 40, image.shape)).astype(np.float32)


def predict(category) -> list[Prediction]:
    maps = [(sample, noise_for(sample, seed)) for seed, sample in enumerate(category.of("test"))]
    return [Prediction(sample, float(anomaly_map.max()), anomaly_map) for sample, anomaly_map in maps]


def evaluated(category, predictions, **options) -> Evaluation:
    return evaluate(
        iter(predictions), category.of("test"), method="noise", category="bolt", root=category.root, **options
    )


def test_figures_are_those_of_scikit_learn_over_all_pixels(category):
    predictions = predict(category)
    evaluation = evaluated(category, predictions)
    scores = np.concatenate([prediction.map.ravel() for prediction in predictions])
    masks = [read_mask(p.sample.mask) if p.sample.mask else np.zeros(p.map.shape, bool) for p in predictions]
    truth = np.concatenate([mask.ravel() for mask in masks])
    assert evaluation.metrics["pixel_auroc"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-9)
    assert evaluation.metrics["pixel_ap"] == pytest.approx(average_precision_score(truth, scores), abs=1e-9)
    labels, image_scores = [p.sample.label for p in predictions], [p.score for p in predictions]
    assert evaluation.metrics["image_auroc"] == pytest.approx(roc_auc_score(labels, image_scores))
    assert [row["path"] for row in evaluation.images][:1] == ["test/bad/000.png"]
    assert [row["score"] for row in evaluation.images] == image_scores


def test_what_is_not_applicable_says_why_and_is_no_number(make_category, tmp_path: Path):
    make_category(tmp_path / "data", "bolt", num_good=4, num_bad=3, with_masks=False)
    (category,) = find_categories(tmp_path / "data")
    evaluation = evaluated(category, predict(category), pixel_threshold=100.0)
    without = {name for name, value in evaluation.metrics.items() if value is None}
    assert without == {"pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro", "aupro_0.05", "aupimo", "seg_f1"}
    assert set(evaluation.reasons) == without
    assert evaluation.reasons["seg_f1"] == "3 of 3 anomalous images have no mask"


def test_a_metric_whose_input_is_not_given_is_no_part_of_an_evaluation(category):
    """No data set that is read has saturation areas; the pixel threshold is that of the calibration."""
    areas = {name for name in METRICS if name.startswith("au_spro")}
    assert len(areas) == 5
    assert set(evaluated(category, predict(category)).metrics) == set(METRICS) - areas - {"seg_f1"}
    assert set(evaluated(category, predict(category), pixel_threshold=1.0).metrics) == set(METRICS) - areas


@pytest.mark.parametrize("on_a_pixel", [False, True])
def test_seg_f1_is_that_of_the_pixels_above_the_threshold(category, on_a_pixel):
    predictions = predict(category)
    scores = np.concatenate([prediction.map.ravel() for prediction in predictions])
    masks = [read_mask(p.sample.mask) if p.sample.mask else np.zeros(p.map.shape, bool) for p in predictions]
    truth = np.concatenate([mask.ravel() for mask in masks])
    threshold = float(np.sort(scores)[-400]) if on_a_pixel else 190.0
    evaluation = evaluated(category, predictions, pixel_threshold=threshold, num_resamples=50)
    assert evaluation.metrics["seg_f1"] == pytest.approx(f1_score(truth, scores > np.float32(threshold)))
    low, high = evaluation.intervals["seg_f1"]
    assert low <= evaluation.metrics["seg_f1"] <= high


def test_no_test_images_is_no_figure():
    assert evaluate([], [], method="ae", category="bolt", root=Path()) == Evaluation("ae", "bolt", {})


def test_intervals_hold_the_figure(category):
    evaluation = evaluated(category, predict(category), num_resamples=50)
    assert "pixel_auroc" in evaluation.intervals
    for name, (low, high) in evaluation.intervals.items():
        assert 0 <= low <= high <= 1
        assert evaluation.metrics[name] is not None


def write_maps(category, folder: Path, suffix: str) -> None:
    for prediction in predict(category):
        path = folder / "bolt/test" / prediction.sample.defect / f"{prediction.sample.image.stem}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".npy":
            np.save(path, prediction.map)
        else:
            assert cv2.imwrite(str(path), prediction.map)


@pytest.mark.parametrize("suffix", [".tiff", ".tif", ".npy"])
def test_maps_of_another_program_give_the_same_figures(category, tmp_path: Path, suffix):
    write_maps(category, tmp_path / "maps", suffix)
    assert evaluated(category, predictions_from_maps(tmp_path / "maps", category)) == evaluated(
        category, predict(category)
    )


@pytest.mark.parametrize("map_format", ["uint16", "float32"])
def test_maps_that_predict_wrote_are_read_with_their_scale(category, tmp_path: Path, map_format):
    """Their integers begin at 0 in each map; as they stand, images could not be compared."""
    for prediction in predict(category):
        path = tmp_path / "maps/bolt/test" / prediction.sample.defect / f"{prediction.sample.image.stem}.tiff"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_map(prediction.map, map_format, sha256="0" * 64))
    for found, expected in zip(predictions_from_maps(tmp_path / "maps", category), predict(category), strict=True):
        np.testing.assert_allclose(found.map, expected.map, atol=1e-3 * np.ptp(expected.map))
    damaged = path.read_bytes()
    path.write_bytes(damaged[:-20])
    with pytest.raises(BlemishError, match="not an anomaly map"):
        list(predictions_from_maps(tmp_path / "maps", category))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "no such map"),
        (lambda path: path.write_bytes(b"no map"), "not an anomaly map of one"),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "not an anomaly map of one"),
        (lambda path: path.write_bytes(path.read_bytes()[:300] + bytes(5000)), "not an anomaly map of one"),
        (lambda path: cv2.imwrite(str(path), np.zeros((9, 9), np.float32)), "the map is 9 x 9, its image 48 x 48"),
    ],
)
def test_a_map_that_cannot_be_judged_is_named(category, tmp_path: Path, spoil, said, capfd):
    write_maps(category, tmp_path / "maps", ".tiff")
    spoil(tmp_path / "maps/bolt/test/bad/001.tiff")
    with pytest.raises(BlemishError, match=rf"bad/001.*{said}"):
        list(predictions_from_maps(tmp_path / "maps", category))
    assert capfd.readouterr() == ("", "")


def test_a_map_can_run_no_code(category, tmp_path: Path):
    write_maps(category, tmp_path / "maps", ".npy")
    np.save(tmp_path / "maps/bolt/test/bad/001.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(BlemishError, match=r"bad/001\.npy: not an anomaly map of one numeric channel") as raised:
        list(predictions_from_maps(tmp_path / "maps", category))
    assert "allow_pickle" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not an anomaly map of one numeric channel"),
        (np.full((48, 48), "a"), "not an anomaly map of one numeric channel"),
        (np.full((48, 48), np.nan), "has values that are not finite numbers"),
    ],
)
def test_an_array_that_is_no_map_is_named(category, tmp_path: Path, content, said):
    write_maps(category, tmp_path / "maps", ".npy")
    path = tmp_path / "maps/bolt/test/bad/001.npy"
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content)
    with pytest.raises(BlemishError, match=rf"bad/001\.npy: {said}"):
        list(predictions_from_maps(tmp_path / "maps", category))


EVALUATIONS = [
    Evaluation("ae", "bolt", {"pixel_auroc": 0.8, "image_auroc": 0.6}, {}, {"pixel_auroc": (0.77, 0.84)}),
    Evaluation(
        "ae", "nut_m6", {"pixel_auroc": 0.9, "image_auroc": None}, {"image_auroc": "?"}, {"pixel_auroc": (0.86, 0.93)}
    ),
    Evaluation("vae", "bolt", {"pixel_auroc": 0.7, "image_auroc": 0.5}),
    Evaluation("vae", "nut_m6", {"pixel_auroc": 0.75, "image_auroc": 0.9}),
]


def test_averages_leave_out_what_is_not_applicable():
    assert average_of(EVALUATIONS, "ae", "pixel_auroc") == pytest.approx(0.85)
    assert average_of(EVALUATIONS, "ae", "image_auroc") == 0.6
    assert average_of(EVALUATIONS, "ae", "aupro") is None


def test_the_interval_of_an_average_adds_half_widths_as_squares():
    low, high = average_interval(EVALUATIONS, "ae", "pixel_auroc")
    assert low == pytest.approx(0.85 - math.hypot(0.03, 0.04) / 2)
    assert high == pytest.approx(0.85 + math.hypot(0.04, 0.03) / 2)
    assert average_interval(EVALUATIONS, "vae", "pixel_auroc") is None


def test_files_give_back_what_was_written(tmp_path: Path):
    write_results(EVALUATIONS, tmp_path)
    assert [(e.method, e.category, e.metrics) for e in read_results(tmp_path)] == [
        (e.method, e.category, e.metrics) for e in EVALUATIONS
    ]
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["average"]["ae"]["pixel_auroc"] == pytest.approx(0.85)
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert [(row["method"], row["category"]) for row in rows][-2:] == [("ae", "average"), ("vae", "average")]
    assert rows[1]["image_auroc"] == ""
    assert rows[0]["pixel_auroc_low"] == "0.77"


def test_latex_is_a_booktabs_table_per_method():
    text = to_latex(EVALUATIONS)
    assert text.count(r"\begin{tabular}{lrr}") == 2
    assert r"nut\_m6 & -- & 90.0 \\" in text
    assert r"average & 60.0 & 85.0 \\" in text
    assert r" &  & \scriptsize 86.0--93.0 \\" in text
    assert text.count("scriptsize") == 3


def test_tables_show_every_category_and_the_average():
    console = Console(width=120, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with console.file:
        console.print(*comparison_tables(EVALUATIONS))
        console.print(*metrics_tables(EVALUATIONS, "ae"))
    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    start = lines.index("pixel AUROC")
    assert lines[start + 2 : start + 5] == ["bolt 0.800 0.700", "nut_m6 0.900 0.750", "average 0.850 0.725"]
    start = lines.index("image AUROC")
    assert lines[start + 2 : start + 5] == ["bolt 0.600 0.500", "nut_m6 - 0.900", "average 0.600 0.700"]
    start = lines.index("ae, pixels")
    expected = ["category AUROC", "bolt 0.800", ".770-.840", "nut_m6 0.900", ".860-.930", "average 0.850", ".825-.875"]
    assert lines[start + 1 :][: len(expected)] == expected


def test_intervals_of_all_metrics_are_whole_in_80_columns():
    names = [name for name in METRICS if METRICS[name].level == "pixel" and not name.startswith("au_spro")]
    found = Evaluation("ae", "capsules", dict.fromkeys(names, 0.5), intervals=dict.fromkeys(names, (0.455, 0.655)))
    with Path("/dev/null").open("w") as nowhere:
        console = Console(width=80, record=True, file=nowhere)
        console.print(*metrics_tables([found], "ae"))
    assert console.export_text().count(".455-.655") == 2 * len(names)  # and those of the average


@pytest.mark.parametrize("content", ["", "{", '{"evaluations": [{"colour": 1}]}'])
def test_results_that_cannot_be_read(tmp_path: Path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(BlemishError, match=r"results\.json: .*Run it again"):
        read_results(tmp_path)
