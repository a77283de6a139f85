"""Intervals and comparisons: against resamples that are measured one by one, and against what must hold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from blemish import metrics
from blemish.metrics import formulas, resampling, statistics


def category(num_images=14, size=20, seed=0, levels=None, shift=1.0):
    random = np.random.default_rng(seed)
    maps = random.standard_normal((num_images, size, size))
    masks = np.zeros(maps.shape, bool)
    for index in range(num_images // 2, num_images):
        top, left, extent = random.integers(1, size - 9, 3)
        masks[index, top : top + 5, left : left + 3 + extent % 6] = True
        masks[index, 0, :3] = index % 2
    maps += shift * masks + 0.3 * random.standard_normal((num_images, 1, 1))
    if levels:
        maps = np.round(maps * levels)
    return masks, maps.astype(np.float32)


PIXEL_NAMES = ["pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro", "aupro_0.05", "seg_f1"]


def measured_one_by_one(name, masks, maps, weights):
    values = []
    for row in weights:
        drawn = np.repeat(np.arange(len(maps)), row.astype(int))
        ranking = metrics.rank_masks_and_maps(masks[drawn], maps[drawn])
        values.append(metrics.METRICS[name](ranking, 1.0))
    return np.array(values)


def replicates(name, masks, maps, grid_size):
    ranking = metrics.rank_masks_and_maps(masks, maps)
    options = {"threshold": 1.0, "num_resamples": 20, "seed": 1, "grid_size": grid_size}
    found = statistics.resample(ranking, [name], **options)[name]
    return found.values, found.grid_error, resampling.count_images(ranking, grid_size, 1.0).exact


@pytest.mark.parametrize("name", PIXEL_NAMES)
def test_resamples_are_exact_where_the_grid_holds_every_score(name):
    masks, maps = category(levels=4)
    weights = resampling.draw_images(~masks.any(axis=(1, 2)), 20, seed=1)
    values, error, exact = replicates(name, masks, maps, 2048)
    assert exact
    assert error == 0
    assert values == pytest.approx(measured_one_by_one(name, masks, maps, weights), abs=1e-12)


@pytest.mark.parametrize("grid_size", [64, 512])
@pytest.mark.parametrize("name", PIXEL_NAMES)
def test_what_the_grid_does_stays_within_the_stated_error(name, grid_size):
    masks, maps = category()
    weights = resampling.draw_images(~masks.any(axis=(1, 2)), 20, seed=1)
    values, error, exact = replicates(name, masks, maps, grid_size)
    assert not exact
    assert error < 20 / grid_size
    assert np.abs(values - measured_one_by_one(name, masks, maps, weights)).max() <= max(2 * error, 1e-12)


def test_resampled_aupimo_is_that_of_the_resample():
    masks, maps = category(levels=4)
    weights = resampling.draw_images(~masks.any(axis=(1, 2)), 10, seed=1)
    ranking = metrics.rank_masks_and_maps(masks, maps)
    counts = resampling.count_images(ranking, 2048)
    found = formulas.log_area_under(*counts.points("pimo", weights), bounds=(0.02, 0.4))
    expected = []
    for row in weights:
        drawn = np.repeat(np.arange(len(maps)), row.astype(int))
        expected.append(metrics.aupimo(masks[drawn], maps[drawn], (0.02, 0.4), exact_bounds=True))
    assert found == pytest.approx(expected, abs=1e-12)


def test_resampled_saturated_overlap_is_that_of_the_resample():
    masks, maps = category(levels=4)
    regions = [metrics.Regions([m], [7.5]) if m.any() else None for m in masks]
    weights = resampling.draw_images(~masks.any(axis=(1, 2)), 10, seed=1)
    counts = resampling.count_images(metrics.rank_masks_and_maps(regions, maps), 2048)
    found = metrics.METRICS["au_spro_0.3"].formula(*counts.points("spro", weights))
    for value, row in zip(found, weights, strict=True):
        drawn = np.repeat(np.arange(len(maps)), row.astype(int))
        assert value == pytest.approx(metrics.au_spro([regions[i] for i in drawn], maps[drawn], 0.3), abs=1e-12)


def test_image_figures_are_resampled_exactly():
    random = np.random.default_rng(0)
    labels = np.arange(40) % 2
    scores = random.standard_normal(40) + labels
    ranking = metrics.rank_images(labels, scores)
    found = metrics.bootstrap(ranking, num_resamples=200)
    assert list(found) == [name for name, metric in metrics.METRICS.items() if metric.level == "image"]
    weights = resampling.draw_images(labels == 0, 200, seed=0)
    drawn = [np.repeat(np.arange(40), row.astype(int)) for row in weights]
    values = [metrics.image_auroc(labels[d], scores[d]) for d in drawn]
    interval = found["image_auroc"]
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-12)
    assert interval.grid_error == 0
    assert interval.value == metrics.image_auroc(labels, scores)


def test_an_interval_holds_its_value_and_narrows_with_more_images():
    few = metrics.bootstrap(metrics.rank_masks_and_maps(*category(12)), threshold=1.0, num_resamples=300)
    many = metrics.bootstrap(metrics.rank_masks_and_maps(*category(80)), threshold=1.0, num_resamples=300)
    assert set(PIXEL_NAMES) <= set(few)
    for name in PIXEL_NAMES:
        assert few[name].low <= few[name].value <= few[name].high
        assert many[name].high - many[name].low < few[name].high - few[name].low


def test_one_seed_gives_one_interval():
    ranking = metrics.rank_masks_and_maps(*category())
    first = metrics.bootstrap(ranking, ["aupro"], num_resamples=50, seed=3)
    assert metrics.bootstrap(ranking, ["aupro"], num_resamples=50, seed=3) == first
    assert metrics.bootstrap(ranking, ["aupro"], num_resamples=50, seed=4) != first


def test_every_resample_keeps_the_number_of_good_and_anomalous_images():
    strata = [True, False, False, True, True]
    weights = resampling.draw_images(strata, 100, seed=0)
    assert (weights[:, strata].sum(axis=1) == 3).all()
    assert (weights.sum(axis=1) == 5).all()


def test_a_better_method_is_told_from_a_worse_one():
    masks, maps = category(40, shift=0.6)
    _, better = category(40, shift=1.6)
    first, second = (metrics.rank_masks_and_maps(masks, m) for m in (maps, better))
    found = metrics.paired_bootstrap("aupro", first, second, num_resamples=400)
    assert found.difference == pytest.approx(metrics.aupro(masks, better) - metrics.aupro(masks, maps))
    assert 0 < found.low < found.difference < found.high
    assert found.p_value < 0.01
    back = metrics.paired_bootstrap("aupro", second, first, num_resamples=400)
    assert (back.difference, back.low) == (pytest.approx(-found.difference), pytest.approx(-found.high))


def test_a_method_does_not_differ_from_itself():
    ranking = metrics.rank_masks_and_maps(*category())
    found = metrics.paired_bootstrap("seg_f1", ranking, ranking, thresholds=(1.0, 1.0), num_resamples=100)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_methods_are_compared_whatever_their_scales():
    masks, maps = category()
    first, second = metrics.rank_masks_and_maps(masks, maps), metrics.rank_masks_and_maps(masks, np.exp(maps))
    found = metrics.paired_bootstrap("pixel_auroc", first, second, num_resamples=50)
    assert found.difference == pytest.approx(0, abs=1e-6)


def test_categories_are_compared_by_the_signed_rank_test():
    first = np.array([0.91, 0.85, 0.77, 0.93, 0.60, 0.88, 0.95, 0.71])
    second = first + np.array([0.02, 0.01, 0.05, -0.005, 0.03, 0.0, 0.011, 0.04])
    found = metrics.compare_categories(first, second)
    assert found.p_value == pytest.approx(stats.wilcoxon((second - first)[second != first]).pvalue)
    assert found.p_value < 0.05
    assert found.difference == pytest.approx(np.median(second - first))
    assert found.num_pairs == 8
    assert metrics.compare_categories(second, first).p_value == found.p_value


@pytest.mark.parametrize("size", [1, 2, 5, 9, 30])
def test_any_number_of_categories_can_be_compared(size):
    first = np.linspace(0.2, 0.9, size)
    steps = np.tile([1 / 64, -1 / 64, 1 / 32], size)[:size]
    assert 0 < metrics.compare_categories(first, first + steps).p_value <= 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda r: metrics.compare_categories([0.5, 0.6], [0.5, 0.6]), metrics.NotApplicable, "equal on all 2"),
        (lambda r: metrics.compare_categories([0.5], [0.5, 0.6]), metrics.MetricInputError, "the shapes"),
        (lambda r: metrics.compare_categories([], []), metrics.MetricInputError, "the shapes"),
        (lambda r: metrics.compare_categories([0.5], [np.nan]), metrics.MetricInputError, "NaN or infinite"),
        (lambda r: metrics.bootstrap(r, level=1.0), metrics.MetricInputError, "the confidence level is 1.0"),
        (lambda r: metrics.bootstrap(r, num_resamples=0), metrics.MetricInputError, "0 resamples"),
        (lambda r: metrics.bootstrap(r, ["aupr"]), metrics.MetricInputError, "no metric 'aupr'; there are image_au"),
        (lambda r: metrics.bootstrap(r, ["image_ap"]), metrics.MetricInputError, "not a metric of pixels"),
        (lambda r: metrics.bootstrap(r, ["seg_f1"]), metrics.NotApplicable, "no threshold is given"),
        (lambda r: metrics.bootstrap(r, ["au_spro_0.3"]), metrics.NotApplicable, "no saturation areas"),
    ],
)
def test_what_cannot_be_compared_is_said(call, error, message):
    ranking = metrics.rank_masks_and_maps(*category())
    with pytest.raises(error, match=message):
        call(ranking)


def test_two_methods_must_have_the_same_images():
    masks, maps = category()
    ranking = metrics.rank_masks_and_maps(masks, maps)
    with pytest.raises(metrics.MetricInputError, match="the first method has 14 images, the second 13"):
        metrics.paired_bootstrap("aupro", ranking, metrics.rank_masks_and_maps(masks[1:], maps[1:]))
    with pytest.raises(metrics.MetricInputError, match="image 0 differs between the two methods"):
        metrics.paired_bootstrap("aupro", ranking, metrics.rank_masks_and_maps(masks[::-1], maps))


def test_a_set_on_which_nothing_applies_has_no_interval():
    assert metrics.bootstrap(metrics.rank_pixels([(None, np.zeros((3, 3)))])) == {}


def test_a_resample_without_good_pixels_is_not_applicable():
    whole, part = np.ones((2, 2), bool), np.eye(2, dtype=bool)
    ranking = metrics.rank_masks_and_maps([whole, part], np.arange(8.0).reshape(2, 2, 2))
    with pytest.raises(metrics.NotApplicable, match="a resample of the images has no good"):
        metrics.bootstrap(ranking, ["pixel_auroc"], num_resamples=50)
