"""The table of metrics and the evaluation that goes through it."""

from __future__ import annotations

import numpy as np
import pytest

from blemish import metrics


def category(num_images=12, size=24, seed=0):
    """Half of the images good; good ones first."""
    random = np.random.default_rng(seed)
    maps = random.standard_normal((num_images, size, size)).astype(np.float32)
    labels = np.arange(num_images) >= num_images // 2
    masks = np.zeros(maps.shape, bool)
    for index in np.flatnonzero(labels):
        top, left = random.integers(0, size - 6, 2)
        masks[index, top : top + 5, left : left + 5] = True
    return labels, masks, maps + masks


def test_every_metric_says_what_it_is():
    for name, metric in metrics.METRICS.items():
        assert metric.level in ("image", "pixel")
        assert metric.direction in ("higher", "lower")
        assert metric.title
        assert name == name.lower()
    assert len({metric.title for metric in metrics.METRICS.values()}) == len(metrics.METRICS)
    with pytest.raises(TypeError):
        metrics.METRICS["new"] = None


def test_the_table_gives_what_the_functions_give():
    labels, masks, maps = category()
    scores = maps.max(axis=(1, 2))
    found = metrics.evaluate_all(labels, scores, zip(masks, maps, strict=True), pixel_threshold=1.5)
    assert list(found) == list(metrics.METRICS)
    expected = {
        "image_auroc": metrics.image_auroc(labels, scores),
        "image_ap": metrics.image_average_precision(labels, scores),
        "image_f1_max": metrics.image_f1_max(labels, scores),
        "image_fpr_at_full_recall": metrics.image_fpr_at_full_recall(labels, scores),
        "pixel_auroc": metrics.pixel_auroc(masks, maps),
        "pixel_ap": metrics.pixel_average_precision(masks, maps),
        "pixel_f1_max": metrics.pixel_f1_max(masks, maps),
        "aupro": metrics.aupro(masks, maps),
        "aupro_0.05": metrics.aupro(masks, maps, 0.05),
        "seg_f1": metrics.seg_f1(masks, maps, 1.5),
    }
    assert {name: found[name].value for name in expected} == pytest.approx(expected, abs=1e-12)
    assert found["aupimo"].reason.startswith("no two thresholds reach")
    assert found["au_spro_0.05"] == metrics.Value(None, "no saturation areas are given for the defects")


def test_the_table_knows_aupimo_and_saturated_overlap():
    labels, masks, maps = category(size=120)
    pairs = [metrics.Regions([m], [9]) if m.any() else None for m in masks]
    found = metrics.evaluate_all(labels, maps.max(axis=(1, 2)), zip(pairs, maps, strict=True))
    assert found["aupimo"].value == pytest.approx(metrics.aupimo(masks, maps), abs=1e-12)
    for limit in (0.01, 0.05, 0.1, 0.3, 1.0):
        assert found[f"au_spro_{limit:g}"].value == metrics.au_spro(pairs, maps, limit)
    assert found["seg_f1"] == metrics.Value(None, "no threshold is given")


def test_without_maps_the_pixel_metrics_are_not_applicable():
    found = metrics.evaluate_all([0, 1, 1], [1.0, 2.0, 0.5])
    for name, metric in metrics.METRICS.items():
        if metric.level == "pixel":
            assert found[name] == metrics.Value(None, "no anomaly maps")
        else:
            assert found[name].value is not None


def test_one_class_is_not_applicable_with_the_reason():
    _, masks, maps = category()
    found = metrics.evaluate_all([0, 0], [1.0, 2.0], zip(masks[:2], maps[:2], strict=True))
    assert found["image_auroc"].reason == "no anomalous image among 2"
    assert found["pixel_auroc"].reason == "no anomalous pixel among 2 images"
    assert all(value.value is None for value in found.values())


def test_an_anomalous_image_without_mask_is_not_taken_for_good():
    labels, masks, maps = category()
    pairs = [(None if i == 7 else mask, scores) for i, (mask, scores) in enumerate(zip(masks, maps, strict=True))]
    found = metrics.evaluate_all(labels, maps.max(axis=(1, 2)), pairs)
    assert found["aupro"] == metrics.Value(None, "1 of 6 anomalous images have no mask")
    assert found["image_auroc"].value is not None


def test_labels_and_masks_that_contradict_each_other_are_an_error():
    labels, masks, maps = category()
    pairs = list(zip(masks, maps, strict=True))
    with pytest.raises(metrics.MetricInputError, match="image 6 is labelled good, but its mask marks 25 pixels"):
        metrics.evaluate_all(0 * labels, maps.max(axis=(1, 2)), pairs)
    with pytest.raises(metrics.MetricInputError, match="12 labels, but 11 maps"):
        metrics.evaluate_all(labels, maps.max(axis=(1, 2)), pairs[:-1])
