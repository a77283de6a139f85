"""The ensemble: two experts on the same features, equally loud."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from blemish.detectors.ensemble import Ensemble
from blemish.detectors.padim import PaDiM
from blemish.detectors.parts.score_normalisation import offset_and_scale
from blemish.detectors.patchcore import PatchCore
from blemish.features.gabor import GaborFeatures


@pytest.mark.parametrize("shared", [True, False])
def test_the_map_is_the_weighted_mean_of_both_equally_loud(part_images, shared):
    train, held_out = (
        part_images.where(lambda sample, wanted=wanted: (sample.image.stem < "6") is wanted) for wanted in (True, False)
    )
    options = {"shared": shared, "shrinkage": 0.1}
    ensemble = Ensemble.create(size=64, smoothing=0, **options).fit(train, validation=held_out)
    gaussian = 1 if shared else len(train) / 48
    experts = (1, PatchCore.create(size=64).fit(train)), (gaussian, PaDiM.create(size=64, **options).fit(train))
    expected, image = 0, train.batch([2])
    for weight, expert in experts:
        (offset,), (scale,) = offset_and_scale(expert.distances(expert.features(held_out.batch([0, 1])))[None])
        expected += weight / (1 + gaussian) * (expert.distances(expert.features(image)) - offset) / scale
    wide = F.interpolate(expected[:, None], size=(64, 64), mode="bilinear")[:, 0]
    torch.testing.assert_close(ensemble(image)[1], wide, rtol=1e-4, atol=1e-4)


def test_the_features_of_an_image_are_computed_once(part_images, monkeypatch):
    counted, forward = [], GaborFeatures.forward

    def counting(self, images):
        counted.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(GaborFeatures, "forward", counting)
    train, held_out = (
        part_images.where(lambda sample, wanted=wanted: (sample.image.stem < "6") is wanted) for wanted in (True, False)
    )
    ensemble = Ensemble.create(size=64).fit(train, validation=held_out)
    assert sum(counted) == len(part_images)
    counted.clear()
    ensemble(part_images.batch([0]))
    assert counted == [1]


def test_features_that_memory_does_not_hold_are_computed_anew(part_images):
    image, options = part_images.batch([1]), {"size": 64, "shared": True}
    kept = Ensemble.create(**options).fit(part_images, validation=part_images)
    part_images.memory_budget = 200_000  # which holds the features of no batch
    anew = Ensemble.create(**options).fit(part_images, validation=part_images)
    assert torch.equal(anew.gaussians.mean, kept.gaussians.mean)
    assert torch.equal(anew.gaussians.distances(anew.features(image)), kept.gaussians.distances(kept.features(image)))


def test_further_images_reach_both(part_images, source_of):
    first = part_images.where(lambda sample: sample.image.stem < "5")
    ensemble = Ensemble.create(size=64, num_patches=150).fit(first, validation=first)
    count, marked = int(ensemble.gaussians.count), part_images.batch([6]).clone()
    marked[:, :, 20:30, 20:30] = 1
    before = float(ensemble(marked)[0])
    ensemble.update(source_of(marked[0]))
    assert int(ensemble.gaussians.count) > count
    assert float(ensemble(marked)[0]) < before
