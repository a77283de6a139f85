"""The detector that learns from drawn defects: what it draws, what it leaves out, and that it can be stopped."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from blemish.data import find_categories, hold_out
from blemish.data.source import ImageSource, load
from blemish.detectors.selfsup import SelfSupervised
from blemish.errors import BlemishError
from blemish.images import Preprocess
from blemish.training import Training, train

SETTINGS = Training(epochs=12, batch_size=4, precision="float32", device="cpu", learning_rate=3e-3)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, make_category) -> tuple[ImageSource, ImageSource]:
    root = tmp_path_factory.mktemp("selfsup")
    make_category(root, num_train=8)
    category = hold_out(find_categories(root)[0], 0.25, seed=0)
    return tuple(load(category.of(split), Preprocess((48, 48))) for split in ("train", "val"))


def small(**options) -> SelfSupervised:
    return SelfSupervised.create(size=48, head_width=8, num_drawn=8, num_references=100, **options)


@pytest.fixture(scope="module")
def prepared(sources) -> SelfSupervised:
    detector = small()
    detector.prepare(sources[0], seed=0)
    return detector


def test_what_is_drawn_follows_from_the_seed_alone(sources, prepared):
    seen, share = prepared.examples(sources[0], [0, 1, 2], [10, 11, 12])
    fresh = small()
    fresh.prepare(sources[0], seed=0)
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


def test_an_image_s_own_patches_are_left_out(sources, prepared):
    features = prepared.features(sources[0].batch([0]))
    own = prepared._seen(features, prepared.bank)[:, -1]
    others = prepared._seen(features, prepared._without(0))[:, -1]
    assert (others >= own).all()
    assert (others > own).any()
    assert len(prepared._without(0)) < len(prepared.bank)


def test_the_network_learns_to_find_what_is_drawn_on_held_out_images(sources):
    detector = small()
    history = train(detector, *sources, SETTINGS)
    assert min(history.validation) < history.validation[0] / 2
    detector.prepare(sources[0], seed=0)
    seen, share = detector.examples(sources[1], list(range(40)), list(range(40)))
    logits = detector.head(seen)
    assert logits[share > 0.9].mean() > logits[share == 0].mean() + 1


@pytest.mark.parametrize("stop_at", [1, 4, 23])
def test_a_stopped_training_goes_on_with_the_same_bits(sources, tmp_path: Path, stop_at):
    whole, stopped, resumed, checkpoint = small(), small(), small(), tmp_path / "checkpoint.safetensors"
    train(whole, *sources, SETTINGS)

    def interrupt(done, total, **shown):
        if done == stop_at:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(stopped, *sources, SETTINGS, checkpoint=checkpoint, progress=interrupt)
    train(resumed, *sources, SETTINGS, checkpoint=checkpoint, resume=True)
    expected = whole.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.state_dict().items())


def test_operators_can_be_chosen_and_a_wrong_name_is_told(sources):
    detector = small(operators=("scratch", "dust"))
    detector.prepare(sources[0], seed=0)
    assert detector._synthesis.operators == ("scratch", "dust")
    with pytest.raises(BlemishError, match="operators"):
        small(operators=("scratches",))
