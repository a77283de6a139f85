"""The figures against their definitions, spelled out threshold by threshold, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from blemish import metrics
from blemish.metrics import counting

PIXEL_METRICS = {
    "auroc": metrics.pixel_auroc,
    "ap": metrics.pixel_average_precision,
    "f1_max": metrics.pixel_f1_max,
    "aupro": metrics.aupro,
    "aupro_0.05": lambda masks, maps: metrics.aupro(masks, maps, 0.05),
    "aupimo": lambda masks, maps: metrics.aupimo(masks, maps, (0.05, 0.6), exact_bounds=True),
}
DTYPES = [np.float16, np.float32, np.float64, np.int8, np.uint8, np.int32, np.int64, np.uint64]


@st.composite
def categories(draw, levels=12):
    """A good image and up to three anomalous ones, of different sizes, with few distinct scores."""
    masks, maps = [], []
    for index in range(draw(st.integers(2, 4))):
        shape = draw(st.tuples(st.integers(3, 7), st.integers(3, 7)))
        random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        mask = random.random(shape) < (0.3 if index else 0.0)
        if index:
            mask[0, 0], mask[-1, -1] = True, False
        masks.append(mask)
        maps.append(random.integers(0, levels, shape).astype(np.float64))
    return masks, maps


def pooled(masks, maps):
    return np.concatenate([m.ravel() for m in masks]), np.concatenate([s.ravel() for s in maps])


def thresholds_of(maps):
    return np.unique(np.concatenate([s.ravel() for s in maps]))[::-1]


def false_positive_rates(masks, maps):
    truth, scores = pooled(masks, maps)
    return np.array([0.0, *[(scores[~truth] >= t).mean() for t in thresholds_of(maps)]])


def area_to(x, y, limit):
    inside = x <= limit
    x, y = np.append(x[inside], limit), np.append(y[inside], np.interp(limit, x, y))
    return np.trapezoid(y, x) / limit


def plain_aupro(masks, maps, limit):
    regions = []
    for mask, scores in zip(masks, maps, strict=True):
        labels, number = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [scores[labels == i] for i in range(1, number + 1)]
    overlaps = [np.mean([(r >= t).mean() for r in regions]) for t in thresholds_of(maps)]
    return area_to(false_positive_rates(masks, maps), np.array([0.0, *overlaps]), limit)


def plain_aupimo(masks, maps, bounds):
    """Per image, on a fine sampling of the log axis instead of by formula."""
    thresholds = thresholds_of(maps)
    good = [s for m, s in zip(masks, maps, strict=True) if not m.any()]
    rates = np.array([np.mean([(s >= t).mean() for s in good]) for t in thresholds])
    sampled = np.linspace(np.log(bounds[0]), np.log(bounds[1]), 200_001)
    values = []
    for mask, scores in zip(masks, maps, strict=True):
        if mask.any():
            overlap = np.array([(scores[mask] >= t).mean() for t in thresholds])
            at_zero = overlap[rates == 0].max(initial=0.0)
            # On the way from rate 0 to the first rate above it the overlap stays as it was.
            first = np.flatnonzero(rates > 0)[0]
            x = np.concatenate([[-50.0, np.log(rates[first])], np.log(rates[first:])])
            y = np.concatenate([[at_zero, at_zero], overlap[first:]])
            middles = (sampled[1:] + sampled[:-1]) / 2
            values.append(np.interp(middles, x, y).mean())
    return values


@settings(max_examples=60, deadline=None)
@given(categories())
def test_area_and_precision_agree_with_scikit_learn(category):
    truth, scores = pooled(*category)
    assert metrics.pixel_auroc(*category) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert metrics.pixel_average_precision(*category) == pytest.approx(
        average_precision_score(truth, scores), abs=1e-12
    )
    precision, recall, _ = precision_recall_curve(truth, scores)
    best = (2 * precision * recall / np.maximum(precision + recall, 1e-300)).max()
    assert metrics.pixel_f1_max(*category) == pytest.approx(best, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(categories(), st.sampled_from([0.01, 0.05, 0.3, 0.77, 1.0]))
def test_aupro_agrees_with_its_definition(category, limit):
    assert metrics.aupro(*category, limit) == pytest.approx(plain_aupro(*category, limit), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(categories())
def test_aupimo_agrees_with_its_definition(category):
    found = metrics.aupimo_per_image(*category, (0.02, 0.5), exact_bounds=True)
    assert list(found) == [i for i, mask in enumerate(category[0]) if mask.any()]
    assert list(found.values()) == pytest.approx(plain_aupimo(*category, (0.02, 0.5)), abs=1e-4)


def test_aupimo_takes_the_rates_nearest_to_its_bounds():
    good = np.array([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]])
    bad, mask = np.array([[8.5, 5.5, 0.5]]), np.array([[1, 1, 0]])
    # Reached are 0.1, 0.2 ... 1.0. The overlap is 1/2 from 0.1 on and 1 from 0.4 on.
    value = metrics.aupimo([None, mask], [good, bad], (0.12, 0.58))
    expected = (0.5 * np.log(0.4 / 0.1) + np.log(0.6 / 0.4)) / np.log(0.58 / 0.12)
    assert value == pytest.approx(expected, abs=1e-12)
    exact = metrics.aupimo([None, mask], [good, bad], (0.12, 0.58), exact_bounds=True)
    assert exact == pytest.approx((0.5 * np.log(0.4 / 0.12) + np.log(0.58 / 0.4)) / np.log(0.58 / 0.12))


def test_good_images_of_different_sizes_weigh_the_same_in_aupimo():
    small, large = np.array([[9.0]]), np.zeros((10, 10))
    bad, mask = np.array([[5.0, 0.0]]), np.array([[1, 0]])
    # The small image alone makes half of the shared rate: the overlap is 0 up to 0.5, and 1 from there on.
    value = metrics.aupimo([None, None, mask], [small, large, bad], (0.25, 1.0), exact_bounds=True)
    assert value == pytest.approx(0.5)
    low = np.array([[-1.0, -2.0]])
    assert metrics.aupimo([None, None, mask], [small, large, low], (0.25, 0.9), exact_bounds=True) == 0.0


@settings(max_examples=40, deadline=None)
@given(categories(), st.sampled_from([0.05, 0.3, 1.0]), st.integers(0, 2**32 - 1))
def test_saturated_overlap_agrees_with_its_definition(category, limit, seed):
    masks, maps = category
    random = np.random.default_rng(seed)
    regions, defects = [None], []
    for mask, scores in zip(masks[1:], maps[1:], strict=True):
        other = random.random(mask.shape) < 0.2
        other[0, 1] = True
        pair = [mask, other & ~mask[::-1, ::-1] | (np.arange(mask.size).reshape(mask.shape) == 1)]
        areas = [float(random.uniform(0.5, m.sum() + 3)) for m in pair]
        pair[1][-1, -1] = False
        regions.append(metrics.Regions(pair, areas))
        defects += [(scores[m], min(a, m.sum())) for m, a in zip(pair, areas, strict=True)]
    unions = [masks[0], *[np.logical_or(*r.masks) for r in regions[1:]]]
    overlaps = [np.mean([min((s >= t).sum() / a, 1.0) for s, a in defects]) for t in thresholds_of(maps)]
    expected = area_to(false_positive_rates(unions, maps), np.array([0.0, *overlaps]), limit)
    assert metrics.au_spro(regions, maps, limit) == pytest.approx(expected, abs=1e-12)


def test_saturation_at_the_area_is_aupro():
    mask, scores = np.array([[1, 1, 0, 0]]), np.array([[3.0, 1.0, 2.0, 0.0]])
    whole = metrics.au_spro([metrics.Regions([mask], [2])], [scores], 1.0)
    assert whole == pytest.approx(metrics.aupro([mask], [scores], 1.0))
    assert metrics.au_spro([metrics.Regions([mask], [1])], [scores], 1.0) == 1.0


@settings(max_examples=30, deadline=None)
@given(categories(), st.floats(-2, 14))
def test_segmentation_f1_agrees_with_its_definition(category, threshold):
    truth, scores = pooled(*category)
    reported = scores >= threshold
    expected = 2 * (truth & reported).sum() / (truth.sum() + reported.sum())
    assert metrics.seg_f1(*category, threshold) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=30))
def test_image_metrics_agree_with_scikit_learn(rows):
    labels = np.array([True, False, *[label for label, _ in rows]])
    scores = np.array([3, 4, *[score for _, score in rows]])
    assert metrics.image_auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert metrics.image_average_precision(labels, scores) == pytest.approx(
        average_precision_score(labels, scores), abs=1e-12
    )
    alarms = (scores[~labels] >= scores[labels].min()).mean()
    assert metrics.image_fpr_at_full_recall(labels, scores) == pytest.approx(alarms)
    best, threshold = metrics.image_f1_max_threshold(labels, scores)
    assert best == metrics.image_f1_max(labels, scores)
    reported = scores >= threshold
    assert best == pytest.approx(2 * (labels & reported).sum() / (labels.sum() + reported.sum()))


@settings(max_examples=30, deadline=None)
@given(categories())
def test_the_threshold_of_the_best_f1_reaches_it(category):
    best, threshold = metrics.pixel_f1_max_threshold(*category)
    assert metrics.seg_f1(*category, threshold) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("name", PIXEL_METRICS)
class TestProperties:
    @settings(max_examples=20, deadline=None)
    @given(category=categories())
    def test_no_increasing_transformation_changes_it(self, name, category):
        masks, maps = category
        value = pytest.approx(PIXEL_METRICS[name](masks, maps), abs=1e-12)
        assert PIXEL_METRICS[name](masks, [np.exp(s / 3) - 7 for s in maps]) == value
        assert PIXEL_METRICS[name](masks, [1e6 + s for s in maps]) == value

    @settings(max_examples=20, deadline=None)
    @given(category=categories(), seed=st.integers(0, 1000))
    def test_the_order_of_the_images_does_not_change_it(self, name, category, seed):
        order = np.random.default_rng(seed).permutation(len(category[0]))
        shuffled = [[part[i] for i in order] for part in category]
        assert PIXEL_METRICS[name](*shuffled) == pytest.approx(PIXEL_METRICS[name](*category), abs=1e-12)

    @settings(max_examples=20, deadline=None)
    @given(category=categories())
    def test_doubling_the_set_does_not_change_it(self, name, category):
        doubled = [part + part for part in category]
        assert PIXEL_METRICS[name](*doubled) == pytest.approx(PIXEL_METRICS[name](*category), abs=1e-12)

    @settings(max_examples=10, deadline=None)
    @given(category=categories())
    def test_a_perfect_map_is_one(self, name, category):
        masks, _ = category
        assert PIXEL_METRICS[name](masks, [m.astype(np.float32) for m in masks]) == pytest.approx(1, abs=1e-12)

    @pytest.mark.parametrize("dtype", DTYPES)
    @settings(max_examples=5, deadline=None)
    @given(category=categories())
    def test_the_dtype_does_not_change_it(self, name, dtype, category):
        masks, maps = category
        value = PIXEL_METRICS[name](masks, maps)
        assert PIXEL_METRICS[name](masks, [s.astype(dtype) for s in maps]) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_constant_map_is_a_coin_toss(dtype):
    mask = np.eye(5, dtype=bool)
    assert metrics.pixel_auroc([None, mask], np.full((2, 5, 5), 3, dtype)) == 0.5
    assert metrics.aupro([None, mask], np.full((2, 5, 5), 3, dtype), 1.0) == pytest.approx(0.5)
    assert metrics.image_auroc([0, 1, 1], np.zeros(3, dtype)) == 0.5


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("start", [0.0, 1000.0, 1e-30, -0.75])
def test_scores_one_step_apart_stay_apart(dtype, start):
    steps = [dtype(start)]
    for _ in range(63):
        steps.append(np.nextafter(steps[-1], dtype(np.inf)))
    scores = np.array(steps, dtype).reshape(8, 8)
    mask = np.arange(64).reshape(8, 8) >= 32
    assert metrics.pixel_auroc([mask], [scores]) == 1.0
    assert metrics.pixel_auroc([mask], [-scores]) == 0.0


def test_a_large_offset_loses_nothing_that_the_dtype_holds():
    random = np.random.default_rng(0)
    steps = random.integers(0, 200, (6, 16, 16))
    masks = random.random(steps.shape) < 0.2
    offset = (1e6 + 0.0625 * steps).astype(np.float32)
    assert metrics.pixel_auroc(masks, offset) == metrics.pixel_auroc(masks, steps)
    assert metrics.aupro(masks, offset) == pytest.approx(metrics.aupro(masks, steps), abs=1e-12)


def test_whole_numbers_beyond_double_precision_stay_apart():
    scores = np.array([2**62, 2**62 + 1, 2**62 + 2, 2**62 + 3])
    assert metrics.image_auroc([0, 0, 1, 1], scores) == 1.0
    assert metrics.image_auroc([0, 0, 1, 1], scores.astype(np.uint64)) == 1.0


def test_flushing_subnormal_numbers_to_zero_changes_nothing():
    torch = pytest.importorskip("torch")
    scores = np.arange(1, 9, dtype=np.int32).view(np.float32).reshape(2, 4)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush subnormal numbers")
    try:
        auroc = metrics.pixel_auroc([np.arange(8).reshape(2, 4) >= 4], [scores])
        f1 = metrics.image_f1_max([0, 0, 1, 1], scores[0])
    finally:
        torch.set_flush_denormal(False)
    assert (auroc, f1) == (1.0, 1.0)


def test_both_zeros_are_one_score():
    scores = np.array([[0.0, -0.0, 0.0, -0.0]], np.float32)
    assert metrics.pixel_auroc([np.array([[1, 1, 0, 0]])], [scores]) == 0.5


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=5),
    st.sampled_from([1, 7, 50, 100_000]),
    st.integers(0, 2**32 - 1),
)
def test_counting_in_bands_is_counting(lengths, band, seed):
    random = np.random.default_rng(seed)
    levels = int(random.integers(2, 60))
    rows = [np.sort(random.integers(0, levels, length)) for length in lengths]
    thresholds = np.unique(random.integers(-3, levels + 3, 20))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "_BAND", band)
        patch.setattr(counting, "_SAMPLES_PER_BAND", min(band, 4))
        above, at_least = counting.count_above(rows, thresholds)
    scores = np.concatenate(rows)
    assert above.tolist() == [(scores > t).sum() for t in thresholds]
    assert at_least.tolist() == [(scores >= t).sum() for t in thresholds]


def test_a_million_pixels_in_bands_agree_with_scikit_learn():
    random = np.random.default_rng(0)
    maps = random.standard_normal((5, 512, 512)).astype(np.float32)
    maps[1] = np.round(maps[1] * 4) / 4
    maps[2] = 0.25
    masks = random.random(maps.shape) < 0.01
    masks[0] = False
    assert metrics.pixel_auroc(masks, maps) == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-12)
    assert metrics.pixel_average_precision(masks, maps) == pytest.approx(
        average_precision_score(masks.ravel(), maps.ravel()), abs=1e-12
    )
