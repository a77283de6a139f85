"""Agreement with independent implementations.

The maps and masks under metrics/ were scored by the official MVTec AD evaluation code (AUPRO), scikit-learn
(AUROC, AP, F1-max) and anomalib (AUPIMO, which samples thresholds); expected.json holds what they gave.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from blemish import metrics

FOLDER = Path(__file__).parent / "metrics"
EXPECTED = {
    name: values
    for name, values in json.loads((FOLDER / "expected.json").read_text()).items()
    if not name.startswith("_")
}


@pytest.fixture(params=sorted(EXPECTED))
def golden(request):
    with np.load(FOLDER / f"{request.param}.npz") as arrays:
        return arrays["masks"], arrays["maps"], EXPECTED[request.param]


def test_pixel_metrics_agree_to_a_millionth(golden):
    masks, maps, expected = golden
    assert metrics.pixel_auroc(masks, maps) == pytest.approx(expected["pixel_auroc"], abs=1e-6)
    assert metrics.pixel_average_precision(masks, maps) == pytest.approx(expected["pixel_ap"], abs=1e-6)
    assert metrics.pixel_f1_max(masks, maps) == pytest.approx(expected["pixel_f1max"], abs=1e-6)


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_aupro_agrees_with_the_official_code_to_a_millionth(golden, limit):
    masks, maps, expected = golden
    assert metrics.aupro(masks, maps, limit) == pytest.approx(expected[f"aupro_{limit}"], abs=1e-6)


def test_image_metrics_agree_to_a_millionth(golden):
    masks, maps, expected = golden
    labels, scores = masks.any(axis=(1, 2)), maps.max(axis=(1, 2))
    assert metrics.image_auroc(labels, scores) == pytest.approx(expected["image_auroc"], abs=1e-6)
    assert metrics.image_average_precision(labels, scores) == pytest.approx(expected["image_ap"], abs=1e-6)
    assert metrics.image_f1_max(labels, scores) == pytest.approx(expected["image_f1max"], abs=1e-6)


def test_aupimo_agrees_with_the_sampling_reference(golden):
    masks, maps, expected = golden
    value = metrics.aupimo(masks, maps, (1e-2, 1e-1))
    assert value == pytest.approx(expected["aupimo_0.01_0.1"], abs=5e-3)
    table = metrics.registry.mean_aupimo(metrics.rank_masks_and_maps(masks, maps), (1e-2, 1e-1))
    assert table == pytest.approx(value, abs=1e-12)
