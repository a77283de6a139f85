"""The ensemble: two experts on the same features, equally loud."""

from __future__ import annotations

import torch

from blemish.detectors.ensemble import Ensemble
from blemish.detectors.padim import PaDiM
from blemish.detectors.patchcore import PatchCore


def test_the_map_is_the_sum_of_both_in_their_standard_deviations(part_images):
    train, held_out = (
        part_images.where(lambda sample, wanted=wanted: (sample.image.stem < "6") is wanted) for wanted in (True, False)
    )
    ensemble = Ensemble(64, smoothing=0, shared=False, shrinkage=0.1).fit(train, validation=held_out)
    experts = PatchCore(64).fit(train), PaDiM(64, shared=False, shrinkage=0.1).fit(train)
    expected = 0
    for expert in experts:
        good = expert.distances(expert.features(held_out.batch([0, 1])))
        expected += (expert.distances(expert.features(train.batch([2]))) - good.mean()) / good.std()
    both = (ensemble._distances(train.batch([2])) - ensemble.offset) / ensemble.scale
    torch.testing.assert_close(both.sum(-1), expected, rtol=1e-4, atol=1e-4)


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
