"""The ensemble: two experts on the same features, equally loud."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from blemish.detectors.ensemble import Ensemble
from blemish.detectors.padim import PaDiM
from blemish.detectors.parts.loudness import loudness
from blemish.detectors.patchcore import PatchCore


@pytest.mark.parametrize("shared", [True, False])
def test_the_map_is_the_weighted_mean_of_both_equally_loud(part_images, shared):
    train, held_out = (
        part_images.where(lambda sample, wanted=wanted: (sample.image.stem < "6") is wanted) for wanted in (True, False)
    )
    options = {"shared": shared, "shrinkage": 0.1}
    ensemble = Ensemble(64, smoothing=0, **options).fit(train, validation=held_out)
    gaussian = 1 if shared else len(train) / 48
    experts = (1, PatchCore(64).fit(train)), (gaussian, PaDiM(64, **options).fit(train))
    expected, image = 0, train.batch([2])
    for weight, expert in experts:
        (offset,), (scale,) = loudness(expert.distances(expert.features(held_out.batch([0, 1])))[None])
        expected += weight / (1 + gaussian) * (expert.distances(expert.features(image)) - offset) / scale
    wide = F.interpolate(expected[:, None], size=(64, 64), mode="bilinear")[:, 0]
    torch.testing.assert_close(ensemble(image)[1], wide, rtol=1e-4, atol=1e-4)


def test_features_are_computed_once(part_images, monkeypatch):
    ensemble = Ensemble(64).fit(part_images, validation=part_images)
    calls = []
    ensemble.patchcore.features.register_forward_hook(lambda *given: calls.append(1))
    ensemble(part_images.batch([0]))
    assert len(calls) == 1
    assert not any(name.startswith("padim.features") for name in ensemble.state_dict())


def test_further_images_reach_both(part_images):
    first = part_images.where(lambda sample: sample.image.stem < "5")
    ensemble = Ensemble(64, num_patches=150).fit(first, validation=first)
    count, marked = int(ensemble.padim.count), part_images.batch([6]).clone()
    marked[:, :, 20:30, 20:30] = 1
    before = float(ensemble(marked)[0])
    part_images._pixels._arrays[6] = (marked[0].permute(1, 2, 0).numpy() * 255).astype("uint8")
    ensemble.update(part_images.where(lambda sample: sample.image.stem == "6"))
    assert int(ensemble.padim.count) > count
    assert float(ensemble(marked)[0]) < before
