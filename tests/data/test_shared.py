"""Decoded images that processes share are those of the files."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from blemish.data.reading import FileReader, file_digests
from blemish.data.shared import SharedReader
from blemish.errors import BlemishError
from blemish.types import Sample


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    generator = np.random.default_rng(0)
    shapes = {"colour.png": (20, 30, 3), "grey.png": (20, 30), "alpha.png": (20, 30, 4)}
    for name, shape in shapes.items():
        cv2.imwrite(str(tmp_path / name), generator.integers(0, 256, shape, np.uint8))
    (tmp_path / "broken.png").write_bytes(b"no image")
    return [Sample(tmp_path / name) for name in (*shapes, "broken.png")]


def same(first, second) -> bool:
    if first.decoded is None or second.decoded is None:
        return first == second
    pixels = np.array_equal(first.decoded.pixels, second.decoded.pixels)
    return pixels and first.decoded.has_alpha == second.decoded.has_alpha and first.sha256 == second.sha256


def test_every_reader_gives_what_the_file_gives(samples, tmp_path: Path):
    digests = file_digests(samples)
    for _ in range(2):  # the second reader finds what the first decoded
        reader = SharedReader(tmp_path / "decoded", digests)
        for sample in samples:
            assert same(reader.open(sample), FileReader().open(sample))
            assert reader.digest(sample.image) == digests[sample.image]
    assert len(list((tmp_path / "decoded").iterdir())) == 2  # neither the broken file nor the one with alpha


def test_a_second_reader_needs_no_file(samples, tmp_path: Path):
    digests = file_digests(samples)
    before = SharedReader(tmp_path / "decoded", digests).open(samples[0])
    samples[0].image.unlink()
    assert same(SharedReader(tmp_path / "decoded", digests).open(samples[0]), before)


def test_a_file_that_changed_is_refused(samples, tmp_path: Path):
    digests = file_digests(samples)
    shutil.copy(samples[1].image, samples[0].image)
    with pytest.raises(BlemishError, match=r"colour\.png: changed while it was in use"):
        SharedReader(tmp_path / "decoded", digests).open(samples[0])


def test_a_full_disk_and_many_readers_do_no_harm(samples, tmp_path: Path, monkeypatch):
    digests = file_digests(samples)
    with ThreadPoolExecutor(4) as pool:
        readers = [SharedReader(tmp_path / "decoded", digests) for _ in range(16)]
        found = list(pool.map(lambda reader: reader.open(samples[0]), readers))
    assert all(same(one, found[0]) for one in found)
    reader = SharedReader(tmp_path / "full", digests)
    monkeypatch.setattr("blemish.data.shared.shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    assert same(reader.open(samples[0]), found[0])
    assert list((tmp_path / "full").iterdir()) == []
