"""The detector that learns from drawn defects: what it draws, what it leaves out, and that it can be stopped."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from blemish.data import find_categories, hold_out
from blemish.data.source import ImageSource, load
from blemish.detectors.selfsup import SelfSupervised
from blemish.errors import BlemishError
from blemish.features.base import FilterBank
from blemish.imaging.preprocess import Preprocess
from blemish.training.loop import train
from blemish.training.settings import Training

SETTINGS = Training(epochs=12, batch_size=4, precision="float32", device="cpu", learning_rate=3e-3)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, make_category) -> tuple[ImageSource, ImageSource]:
    root = tmp_path_factory.mktemp("selfsup")
    make_category(root, num_train=8)
    return split_in_two(root, 0.25)


def split_in_two(root: Path, held_out: float) -> tuple[ImageSource, ImageSource]:
    category = hold_out(find_categories(root)[0], held_out, seed=0)
    return tuple(load(category.of(split), Preprocess((48, 48))) for split in ("train", "val"))


def small(**options) -> SelfSupervised:
    return SelfSupervised.create(size=48, backbone="gabor", head_width=8, num_drawn=8, num_patches=100, **options)


@pytest.fixture(scope="module")
def prepared(sources) -> SelfSupervised:
    detector = small()
    detector.prepare(*sources, seed=0)
    return detector


def test_what_is_drawn_follows_from_the_seed_alone(sources, prepared):
    seen, share = prepared.examples(sources[0], [0, 1, 2], [10, 11, 12])
    fresh = small()
    fresh.prepare(*sources, seed=0)
    for row in (2, 0):
        again, same_share = fresh.examples(sources[0], [row], [10 + row])
        assert torch.equal(again[0], seen[row])
        assert torch.equal(same_share[0], share[row])
    other, _ = fresh.examples(sources[0], [0], [99])
    assert not torch.equal(other[0], seen[0])


def test_some_pictures_have_a_defect_and_some_have_none(sources, prepared):
    _, share = prepared.examples(sources[1], list(range(60)), list(range(100, 160)))
    assert share.shape == (60, 6, 6)
    assert 0 <= share.min() < share.max() <= 1
    assert 1 <= int((share.amax((1, 2)) == 0).sum()) <= 25


def test_a_picture_that_was_learned_from_looks_as_strange_as_a_held_out_one(tmp_path, make_category):
    make_category(tmp_path, num_train=40)
    sources = split_in_two(tmp_path, 0.5)
    detector = small(shared=False)
    detector.prepare(*sources, seed=0)

    def mean_length(source: ImageSource) -> float:
        seen, share = detector.examples(source, range(150), range(150))
        return float(seen[share.amax((1, 2)) == 0][:, FilterBank.DIMENSIONS].mean())

    features = detector.ensemble.features(sources[0].batch(range(len(sources[0]))))
    as_learned = float(detector.ensemble.gaussians.whitened(features).square().mean(-1).sqrt().mean())
    assert as_learned < 0.95 * mean_length(sources[1])
    assert mean_length(sources[0]) == pytest.approx(mean_length(sources[1]), rel=0.1)


def test_the_network_learns_to_find_what_is_drawn_on_held_out_images(sources):
    detector = small()
    history = train(detector, *sources, replace(SETTINGS, epochs=120))
    assert min(history.validation) < 0.75 * history.validation[0]
    learned = detector.head
    detector.prepare(*sources, seed=0)  # for examples; it makes a new network
    seen, share = detector.examples(sources[1], list(range(40)), list(range(40)))
    logits = learned(seen)
    assert logits[share > 0.9].mean() > logits[share == 0].mean() + 1


@pytest.mark.parametrize(("options", "channels"), [({}, 49), ({"scales": (0.0, 2.0)}, 98), ({"dimensions": 7}, 8)])
def test_the_network_sees_each_deviation_and_their_length_at_each_scale(sources, options, channels):
    detector = small(**options)
    detector.prepare(*sources, seed=0)
    seen, _ = detector.examples(sources[1], [0], [1])
    assert detector.head.first.in_channels == seen.shape[1] == channels
    first = seen[0, : detector.ensemble.gaussians.mean.shape[1]]
    torch.testing.assert_close(seen[0, len(first)], first.square().mean(0).sqrt())


@pytest.mark.parametrize("stop_at", [1, 4, 23])
def test_a_stopped_training_goes_on_with_the_same_bits(sources, tmp_path: Path, stop_at):
    whole, stopped, resumed, checkpoint = small(), small(), small(), tmp_path / "checkpoint.safetensors"
    train(whole, *sources, SETTINGS)

    def interrupt(done, total, **shown):
        if done == stop_at:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(stopped, *sources, replace(SETTINGS, checkpoint=checkpoint), progress=interrupt)
    train(resumed, *sources, replace(SETTINGS, checkpoint=checkpoint, resume=True))
    expected = whole.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.state_dict().items())


def test_operators_can_be_chosen_and_a_wrong_name_is_told(sources):
    detector = small(operators=("scratch", "dust"))
    detector.prepare(*sources, seed=0)
    assert detector._synthesis.operators == ("scratch", "dust")
    with pytest.raises(BlemishError, match="operators"):
        small(operators=("scratches",))
