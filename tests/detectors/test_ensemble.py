"""The ensemble: memory banks and Gaussians on the same features, equally loud."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from blemish.data.source import ImageSource
from blemish.detectors.base import scores_and_maps
from blemish.detectors.ensemble import Ensemble
from blemish.detectors.padim import PaDiM
from blemish.detectors.parts.memory_bank import MemoryBank
from blemish.detectors.parts.score_normalisation import offset_and_scale
from blemish.detectors.patchcore import PatchCore
from blemish.features.gabor import GaborFeatures

GABOR = {"size": 64, "backbone": "gabor"}
COMBINED = {"size": 64, "backbone": "pca+gabor"}
"""Two kinds of features, neither of which is a network."""


@pytest.fixture
def halves(part_images) -> tuple[ImageSource, ImageSource]:
    """Images to learn from, and images that are held out."""
    return tuple(
        part_images.where(lambda sample, wanted=wanted: (sample.image.stem < "6") is wanted) for wanted in (True, False)
    )


@pytest.mark.parametrize("shared", [True, False])
def test_the_map_is_the_weighted_mean_of_both_equally_loud(halves, shared):
    train, held_out = halves
    ensemble = Ensemble.create(**GABOR, smoothing=0, shared=shared).fit(train, validation=held_out)
    expected, image = 0, train.batch([2])
    neighbours, gaussians = PatchCore.create(**GABOR).fit(train), PaDiM.create(**GABOR, shared=shared).fit(train)
    for weight, expert in ((0.6, neighbours), (0.4, gaussians)):
        (offset,), (scale,) = offset_and_scale(expert.distances(expert.features(held_out.batch([0, 1])))[None])
        expected += (expert.distances(expert.features(image)) - offset) / scale * weight
    scores, maps = ensemble(image)
    wide = F.interpolate(expected[:, None], size=(64, 64), mode="bilinear")[:, 0]
    torch.testing.assert_close(maps, wide, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores, expected.flatten(1).amax(1), rtol=1e-4, atol=1e-4)  # 1 % of 64 cells: one


def test_each_kind_of_features_has_a_bank_and_all_together_the_gaussians(halves):
    train, held_out = halves
    ensemble = Ensemble.create(**COMBINED, num_patches=100).fit(train, validation=held_out)
    assert [bank.bank.shape for bank in ensemble.banks] == [(100, 64 + 2), (100, 48 + 2)]
    assert ensemble.gaussians.mean.shape == (64, 43 + 32)  # two thirds of each kind
    weights = [0.6 * 64 / 112, 0.6 * 48 / 112, 0.4]  # the banks as their kinds have components
    assert ensemble.weight.tolist() == pytest.approx(weights)
    features = ensemble.features(train.batch([2]))
    kinds = [bank.distances(part) for bank, part in zip(ensemble.banks, features.split([64, 48], 1), strict=True)]
    every = torch.stack([*kinds, ensemble.gaussians.distances(features)])
    loud = (every - ensemble.offset[:, None, None, None]) / ensemble.scale[:, None, None, None]
    expected = sum(weight * distances for weight, distances in zip(weights, loud, strict=True))
    torch.testing.assert_close(ensemble.distances(features), expected)


def test_on_held_out_images_each_distance_has_a_median_of_0_and_a_usual_maximum_of_1(halves):
    train, held_out = halves
    ensemble = Ensemble.create(**COMBINED).fit(train, validation=held_out)
    features = ensemble.features(held_out.batch([0, 1]))
    kinds = [bank.distances(part) for bank, part in zip(ensemble.banks, features.split([64, 48], 1), strict=True)]
    for number, values in enumerate([*kinds, ensemble.gaussians.distances(features)]):
        loud = (values - ensemble.offset[number]) / ensemble.scale[number]
        assert loud.median().item() == pytest.approx(0, abs=1e-4)
        assert loud.amax((1, 2)).mean().item() == pytest.approx(1, abs=1e-4)
    unscaled = Ensemble.create(**COMBINED).fit(train)
    assert (unscaled.offset.tolist(), unscaled.scale.tolist()) == ([0.0] * 3, [1.0] * 3)


def test_the_score_is_the_mean_of_the_highest_cells(halves):
    train, held_out = halves
    image = train.batch([2])
    ensemble = Ensemble.create(**GABOR, top_share=0.1).fit(train, validation=held_out)
    distances = ensemble.distances(ensemble.features(image))
    expected = distances.flatten().sort(descending=True).values[:7].mean()  # a tenth of 64 cells, rounded up
    torch.testing.assert_close(ensemble(image)[0][0], expected)
    ensemble.top_share = 0.0
    scores, maps = ensemble(image)
    assert torch.equal(scores, maps.amax((1, 2)))


def test_the_features_of_an_image_are_computed_once(halves, monkeypatch):
    counted, forward = [], GaborFeatures.forward

    def counting(self, images):
        counted.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(GaborFeatures, "forward", counting)
    train, held_out = halves
    for options in (GABOR, COMBINED):
        counted.clear()
        ensemble = Ensemble.create(**options).fit(train, validation=held_out)
        assert sum(counted) == len(train) + len(held_out)
        counted.clear()
        ensemble(train.batch([0]))
        assert counted == [1]


@pytest.mark.parametrize("options", [GABOR, COMBINED])
def test_features_that_memory_does_not_hold_are_computed_anew(part_images, options):
    image, options = part_images.batch([1]), options | {"shared": True}
    kept = Ensemble.create(**options).fit(part_images, validation=part_images)
    part_images.memory_budget = 300_000  # which holds the features of no batch
    anew = Ensemble.create(**options).fit(part_images, validation=part_images)
    assert torch.equal(anew.gaussians.mean, kept.gaussians.mean)
    assert torch.equal(anew.gaussians.distances(anew.features(image)), kept.gaussians.distances(kept.features(image)))


@pytest.mark.parametrize("options", [GABOR, COMBINED])
def test_further_images_reach_all(part_images, source_of, options):
    first = part_images.where(lambda sample: sample.image.stem < "5")
    ensemble = Ensemble.create(**options, num_patches=150).fit(first, validation=first)
    count, marked = int(ensemble.gaussians.count), part_images.batch([6]).clone()
    marked[:, :, 20:30, 20:30] = 1
    before, sizes = float(ensemble(marked)[0]), [len(bank.bank) for bank in ensemble.banks]
    scales = ensemble.offset.clone(), ensemble.scale.clone()
    ensemble.update(source_of(marked[0]))
    assert int(ensemble.gaussians.count) == count + 1
    assert all(len(bank.bank) > size for bank, size in zip(ensemble.banks, sizes, strict=True))
    assert torch.equal(ensemble.offset, scales[0])
    assert torch.equal(ensemble.scale, scales[1])
    assert float(ensemble(marked)[0]) < before


def test_the_banks_are_those_of_the_kinds_of_features():
    assert [type(bank) for bank in Ensemble.create(**COMBINED).memories] == [MemoryBank, MemoryBank]
    assert len(Ensemble.create(**GABOR).memories) == 1


CELLS = torch.arange(16.0).view(1, 4, 4)
"""Distances of 0 to 15 on a grid of 4 x 4."""
IMAGES = torch.zeros(1, 3, 32, 32)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.01, 15), (1 / 16, 15), (2 / 16, 14.5), (0.25, 13.5), (0.5, 11.5), (1, 7.5)],
)
def test_scores_by_hand(share, expected):
    assert scores_and_maps(CELLS, IMAGES, 0, top_share=share)[0].item() == expected
    assert scores_and_maps(CELLS.repeat(2, 1, 1), IMAGES.repeat(2, 1, 1, 1), 3, top_share=share)[0].tolist() == [
        expected,
        expected,
    ]


def test_without_a_share_the_score_is_the_maximum_of_the_map():
    for smoothing in (0, 4):
        scores, maps = scores_and_maps(CELLS, IMAGES, smoothing)
        assert scores.item() == maps.max().item()
    assert scores_and_maps(CELLS, IMAGES, 0)[0].item() == 15  # bilinear, so the last pixels have the last cell's


@pytest.mark.parametrize(
    ("rows", "columns", "share", "expected"),
    [
        (slice(0, 8), slice(0, 32), 0.01, 3),  # the first row of cells: 0 to 3
        (slice(0, 8), slice(0, 32), 0.25, 1.5),  # four cells, as many as there are
        (slice(0, 8), slice(0, 32), 0.5, 1.5),  # eight cells, of which four are there
        (slice(0, 1), slice(31, 32), 1, 3),  # one pixel counts for its cell
        (slice(0, 32), slice(0, 32), 0.25, 13.5),
        (slice(0, 0), slice(0, 0), 0.25, -torch.inf),
        (slice(0, 0), slice(0, 0), 0, -torch.inf),
    ],
)
def test_scores_of_what_is_inside_by_hand(rows, columns, share, expected):
    inside = torch.zeros(1, 32, 32, dtype=torch.bool)
    inside[:, rows, columns] = True
    scores, maps = scores_and_maps(CELLS, IMAGES, 0, inside, share)
    assert scores.item() == expected
    assert torch.equal(maps, scores_and_maps(CELLS, IMAGES, 0)[1])
