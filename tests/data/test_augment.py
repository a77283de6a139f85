"""Varied copies beside the images: which and how many, and a source of them is used like any other."""

from __future__ import annotations

import numpy as np
import pytest

from blemish.data.augment import COPIES, FEW, ROWS, augmented
from blemish.data.source import load
from blemish.imaging.preprocess import Preprocess
from blemish.imaging.variations import Variation
from blemish.types import Sample


@pytest.fixture
def samples(make_category, tmp_path) -> list[Sample]:
    folder = make_category(tmp_path, num_train=FEW + 1) / "train" / "good"
    return [Sample(path, False, split="train") for path in sorted(folder.glob("*.png"))]


@pytest.mark.parametrize(
    ("how", "number", "rows"),
    [
        ("off", 3, 3),
        ("auto", FEW + 1, FEW + 1),
        ("auto", FEW, ROWS),
        ("auto", 3, 33),
        ("auto", 1, ROWS),
        ("pose", FEW + 1, 4 * (FEW + 1)),
        ("light", 3, 3 * (1 + COPIES)),
        ("auto", 0, 0),
    ],
)
def test_how_many_copies_there_are(samples, how, number, rows):
    source, said = augmented(load(samples[:number], Preprocess((32, 32))), how)
    assert len(source) == len(source.files) == len(source.samples) == rows
    assert (
        said == "augment: off"
        if rows == number
        else said.startswith(f"augment: {'light' if how == 'light' else 'pose'}")
    )


@pytest.mark.parametrize("how", ["pose", "light"])
def test_images_come_first_unchanged_and_copies_depend_on_the_seed_alone(samples, how):
    images = load(samples[:3], Preprocess((32, 32)))
    first, again, other = (augmented(images, how, seed)[0] for seed in (0, 0, 1))
    for row, frame in enumerate(first):
        assert frame.sample == images.samples[row % 3]
        same = np.array_equal(frame.pixels, images[row % 3].pixels)
        assert same == (row < 3)
        np.testing.assert_array_equal(frame.pixels, again[row].pixels)
        assert np.array_equal(frame.pixels, other[row].pixels) == (row < 3)
    assert first.batch([0, 5]).shape == (2, 3, 32, 32)


def test_a_selection_of_copies_keeps_their_variations(samples):
    images = load(samples[:2], Preprocess((32, 32)))
    source = images.with_copies([Variation(brightness=0.5), Variation(brightness=0.25)])
    chosen = source.where(lambda sample: sample == samples[1])
    named = chosen.with_samples([samples[3], samples[4]])
    assert [frame.sample for frame in named] == samples[3:5]
    np.testing.assert_array_equal(named[0].pixels, images[1].pixels)
    np.testing.assert_allclose(named[1].pixels, images[1].pixels / 4, atol=0.51)


def test_tiles_and_images_that_are_not_kept_in_memory(samples):
    kept, read = (
        load(samples[:2], Preprocess((32, 32), tile=32, overlap=8), memory_budget=budget) for budget in (4 << 30, 0)
    )
    both = [one.with_copies([Variation(brightness=0.5)] * 2) for one in (kept, read)]
    assert len(both[0]) == 2 * len(kept)
    assert [frame.is_last for frame in both[0]] == 2 * [frame.is_last for frame in kept]
    for one, other in zip(*both, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
