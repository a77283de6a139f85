"""What cannot be measured is an error that says so, or not applicable with the reason; never 0 and never NaN."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from blemish import metrics
from blemish.errors import BlemishError
from blemish.metrics.scores import sort_keys, to_keys

MASK = np.array([[1, 0], [0, 0]])
MAP = np.array([[3.0, 1.0], [2.0, 0.0]])


@pytest.mark.parametrize(
    ("masks", "maps", "message"),
    [
        ([MASK], [np.array([[1, 2], [np.nan, 0]])], r"map 0 holds NaN at \(1, 0\)"),
        ([MASK], [np.array([[np.nan, 2], [1, 0]])], r"map 0 holds NaN at \(0, 0\)"),
        ([MASK, None], [MAP, np.array([[0, np.inf]])], r"map 1 holds inf at \(0, 1\)"),
        ([MASK, None], [MAP, np.array([[0, -np.inf]])], r"map 1 holds -inf at \(0, 1\)"),
        ([MASK], [np.array([[-np.nan, 2], [1, 0]])], r"map 0 holds NaN"),
        ([MASK], [MAP[:1]], r"mask 0 has the shape \(2, 2\), its map \(1, 2\)"),
        ([MASK.astype(float)], [MAP], r"mask 0 has the dtype float64; allowed are booleans and whole numbers"),
        ([None], [MAP[0]], r"map 0 has the shape \(2,\); \(height, width\) is needed"),
        ([None], [MAP[:0]], r"map 0 has the shape \(0, 2\)"),
        ([None], [MAP.astype(complex)], r"map 0 has the dtype complex128; allowed are float16"),
        ([None, None], [MAP, MAP.astype(np.float32)], r"map 1 has the dtype float32, those before float64"),
        ([MASK], [MAP, MAP], r"more maps than masks"),
        ([MASK, MASK], [MAP], r"there are only 1 maps"),
        ([], [], r"there is no map to rank"),
        ([metrics.Regions([MASK], [])], [MAP], r"image 0 has 1 defects and 0 saturation areas"),
        ([metrics.Regions([MASK], [0])], [MAP], r"saturation area 0 of image 0 is 0; more than 0"),
        ([metrics.Regions([MASK], [np.nan])], [MAP], r"saturation area 0 of image 0 is nan"),
        ([metrics.Regions([MASK, 0 * MASK], [1, 1])], [MAP], r"mask 0, defect 1 marks no pixel"),
        ([metrics.Regions([MASK[0]], [1])], [MAP], r"mask 0, defect 0 has the shape \(2,\)"),
    ],
)
def test_wrong_maps_and_masks_are_named(masks, maps, message):
    with pytest.raises(metrics.MetricInputError, match=message):
        metrics.pixel_auroc(masks, maps)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nan_is_found_in_every_float(dtype):
    with pytest.raises(metrics.MetricInputError, match=r"map 0 holds NaN at \(1, 1\)"):
        metrics.pixel_auroc([MASK], [np.array([[1, 2], [3, np.nan]], dtype)])


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [1.0, np.nan], "the scores hold NaN at 1"),
        ([0, 1], [-np.inf, 0.0], "the scores hold -inf at 0"),
        ([0, 1], [1.0], r"2 labels, but the scores have the shape \(1,\)"),
        ([0, 2], [1.0, 2.0], "label 1 is 2; allowed are 0"),
        ([[0, 1]], [[1.0, 2.0]], r"labels have the shape \(1, 2\)"),
        (["good"], [1.0], "labels have the dtype"),
        ([0, 1], ["a", "b"], "the array of scores has the dtype"),
        ([], [], "there is no score"),
    ],
)
def test_wrong_labels_and_scores_are_named(labels, scores, message):
    with pytest.raises(metrics.MetricInputError, match=message):
        metrics.image_auroc(labels, scores)


def test_every_error_is_one_line_that_the_command_line_can_print():
    assert issubclass(metrics.MetricInputError, BlemishError)
    assert issubclass(metrics.MetricInputError, ValueError)
    assert issubclass(metrics.NotApplicable, BlemishError)


@pytest.mark.parametrize("limit", [0.0, -1.0, 1.5, np.nan])
def test_limits_are_rates(limit):
    with pytest.raises(metrics.MetricInputError, match="the limit is"):
        metrics.aupro([MASK], [MAP], limit)
    with pytest.raises(metrics.MetricInputError, match="the limit is"):
        metrics.au_spro([MASK], [MAP], limit)


@pytest.mark.parametrize("bounds", [(0.0, 0.1), (0.2, 0.1), (0.1, 1.1)])
def test_aupimo_bounds_are_a_range_above_zero(bounds):
    with pytest.raises(metrics.MetricInputError, match="the bounds are"):
        metrics.aupimo([MASK], [MAP], bounds)


def test_a_threshold_is_a_number():
    with pytest.raises(metrics.MetricInputError, match="the threshold is NaN"):
        metrics.seg_f1([MASK], [MAP], float("nan"))


PIXEL_FUNCTIONS = [
    metrics.pixel_auroc,
    metrics.pixel_average_precision,
    metrics.pixel_f1_max,
    metrics.pixel_f1_max_threshold,
    metrics.aupro,
    metrics.au_spro,
    metrics.aupimo,
    lambda masks, maps: metrics.seg_f1(masks, maps, 1.0),
]
IMAGE_FUNCTIONS = [
    metrics.image_auroc,
    metrics.image_average_precision,
    metrics.image_f1_max,
    metrics.image_f1_max_threshold,
    metrics.image_fpr_at_full_recall,
]


@pytest.mark.parametrize("function", PIXEL_FUNCTIONS)
def test_pixels_of_one_class_are_not_applicable(function):
    with pytest.raises(metrics.NotApplicable, match="no anomalous pixel among 2 images"):
        function([None, 0 * MASK], [MAP, MAP])
    with pytest.raises(metrics.NotApplicable, match="no good pixel among 1 images"):
        function([1 + MASK], [MAP])


@pytest.mark.parametrize("function", IMAGE_FUNCTIONS)
def test_images_of_one_class_are_not_applicable(function):
    with pytest.raises(metrics.NotApplicable, match="no anomalous image among 2"):
        function([0, 0], [1.0, 2.0])
    with pytest.raises(metrics.NotApplicable, match="no good image among 2"):
        function([1, 1], [1.0, 2.0])


def test_saturated_overlap_needs_saturation_areas():
    with pytest.raises(metrics.NotApplicable, match="no saturation areas"):
        metrics.au_spro([MASK], [MAP])


def test_aupimo_needs_good_images_and_enough_of_their_pixels():
    with pytest.raises(metrics.NotApplicable, match="no good image"):
        metrics.aupimo([MASK], [MAP])
    with pytest.raises(metrics.NotApplicable, match=r"the nearest to both is 0\.25"):
        metrics.aupimo([MASK, None], [MAP, MAP])
    with pytest.raises(metrics.NotApplicable, match="the nearest to both is 1"):
        metrics.aupimo([MASK, None], np.zeros((2, 2, 2)), (0.1, 0.9))


@pytest.mark.parametrize(
    ("dtype", "threshold", "expected"),
    [
        (np.float32, 2.0, 2 / 3),
        (np.float32, 2.0 + 1e-12, 1.0),
        (np.float16, 1e30, 0.0),
        (np.uint8, 2.5, 1.0),
        (np.uint8, 256, 0.0),
        (np.uint8, -1e30, 0.4),
        (np.int64, 1e300, 0.0),
        (np.float64, -np.inf, 0.4),
        (np.float64, np.inf, 0.0),
    ],
)
def test_a_threshold_between_two_scores_of_the_dtype_is_kept(dtype, threshold, expected):
    assert metrics.seg_f1([MASK], [MAP.astype(dtype)], threshold) == pytest.approx(expected)


def test_all_forms_of_input_give_the_same(tmp_path):
    random = np.random.default_rng(0)
    maps = random.standard_normal((3, 9, 7)).astype(np.float32)
    masks = (random.random(maps.shape) < 0.2).astype(np.uint8) * 255
    masks[0] = 0
    np.save(tmp_path / "maps.npy", maps)
    mapped = np.load(tmp_path / "maps.npy", mmap_mode="r")
    expected = metrics.aupro(masks, maps)
    assert metrics.aupro(list(masks), list(maps)) == expected
    assert metrics.aupro(masks, mapped) == expected
    assert metrics.aupro(iter(masks > 0), (m for m in mapped)) == expected
    assert metrics.aupro([None, *masks[1:]], maps.astype(">f4")) == expected
    assert metrics.aupro(masks[:, ::-1], maps[:, ::-1]) == pytest.approx(expected, abs=1e-12)
    assert mapped.tobytes() == maps.tobytes()


def test_measuring_leaves_the_input_as_it_was():
    maps, masks = np.array([MAP, -MAP]), np.array([MASK, MASK])
    before = maps.copy(), masks.copy()
    metrics.aupro(masks, maps)
    metrics.image_auroc(masks[0, 0], maps[0, 0])
    assert (maps == before[0]).all()
    assert (masks == before[1]).all()


def test_importing_the_metrics_is_light():
    code = "import sys, blemish.metrics; print([m for m in ('torch', 'scipy', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint16])
@pytest.mark.parametrize("size", [0, 1, 1000, 2**16, 2**17 + 1])
@pytest.mark.parametrize("has_torch", [True, False])
def test_keys_are_sorted_with_and_without_torch(dtype, size, has_torch, monkeypatch):
    import torch  # noqa: F401 - whose sort is taken only where it is loaded

    if not has_torch:
        monkeypatch.delitem(sys.modules, "torch")
    drawn = np.random.default_rng(size).normal(size=size) * 100
    keys = to_keys((np.abs(drawn) if np.dtype(dtype).kind == "u" else drawn).astype(dtype))
    expected = np.array(sorted(keys.tolist()), keys.dtype)
    sort_keys(keys)
    np.testing.assert_array_equal(keys, expected)
    assert ("torch" in sys.modules) == has_torch


@pytest.mark.parametrize("values", [[0.0, -0.0, 1.0], [0.0, 0.0], [1.0, 2.0], [-1.0, 0.0], []])
def test_zeros_of_either_sign_are_equal(values):
    keys = to_keys(np.array(values, np.float32))
    assert [keys[i] == keys[j] for i, j in np.ndindex(keys.size, keys.size)] == [x == y for x in values for y in values]
