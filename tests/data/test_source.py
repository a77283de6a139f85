"""Images decoded once, in order, several at a time; kept in memory, then on disk, then not at all."""

from __future__ import annotations

import gc
import hashlib
import io
import resource
import tempfile
import threading
import time
from collections import namedtuple
from pathlib import Path

import cv2
import numpy as np
import pytest

from blemish.data import reading
from blemish.data import source as source_module
from blemish.data.source import PixelStore, in_batches, load, read_file, read_frames
from blemish.errors import BlemishError
from blemish.imaging.pixels import to_batch
from blemish.imaging.preprocess import Preprocess
from blemish.parallel import map_ahead
from blemish.types import Sample, Unreadable

SMALL = Preprocess((8, 8))
NUM_BYTES = 8 * 8 * 3
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Six colour images of one level each: 0, 10, 20, ... and of different sizes."""
    found = []
    for index in range(6):
        path = tmp_path / f"{index}.png"
        assert cv2.imwrite(str(path), np.full((10 + index, 20, 3), 10 * index, np.uint8))
        found.append(Sample(path, False, split="train" if index % 2 else "test"))
    return found


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The names of the files that were decoded, as they are."""
    names: list[str] = []

    def counting(data: bytes, path: Path, max_pixels: int):
        names.append(path.name)
        return decode(data, path, max_pixels)

    decode = reading.decode_file
    monkeypatch.setattr(reading, "decode_file", counting)
    return names


def levels(frames) -> list[int]:
    return [int(frame.pixels.mean()) for frame in frames]


def full_disk(monkeypatch, free: int = 0) -> None:
    monkeypatch.setattr(source_module.shutil, "disk_usage", lambda _: Usage(free, 0, free))


# bytes of memory, free bytes of disk (of which half may be used), how many of the six images have room in neither
BUDGETS = {
    "memory": (6 * NUM_BYTES, 1 << 30, 0),
    "memory and disk": (2 * NUM_BYTES, 1 << 30, 0),
    "disk": (0, 1 << 30, 0),
    "nowhere": (0, 0, 6),
    "memory, disk and nowhere": (NUM_BYTES, 4 * NUM_BYTES, 3),
}


@pytest.mark.parametrize(("budget", "free", "num_decoded_again"), BUDGETS.values(), ids=BUDGETS.keys())
def test_a_source_gives_the_same_frames_wherever_they_are_kept(
    budget, free, num_decoded_again, samples, decoded, monkeypatch
):
    full_disk(monkeypatch, free)
    source = load(samples, SMALL, memory_budget=budget, workers=2)
    assert sorted(decoded) == [f"{index}.png" for index in range(6)]
    decoded.clear()
    assert levels(source) == [0, 10, 20, 30, 40, 50]
    assert len(decoded) == num_decoded_again
    assert [frame.file.size for frame in source] == [(10 + index, 20) for index in range(6)]
    assert [frame.sample for frame in source] == samples
    assert {(frame.pixels.shape, str(frame.pixels.dtype)) for frame in source} == {((8, 8, 3), "uint8")}


@pytest.mark.parametrize(("budget", "free", "num_decoded_again"), BUDGETS.values(), ids=BUDGETS.keys())
def test_a_part_of_a_source_outlives_the_whole(budget, free, num_decoded_again, samples, monkeypatch):
    full_disk(monkeypatch, free)
    source = load(samples, SMALL, memory_budget=budget)
    part = source.where(lambda sample: sample.split == "train")
    of_the_part = part.where(lambda sample: sample.image.name != "3.png")
    del source, part
    gc.collect()
    assert levels(of_the_part) == [10, 50]
    assert [info.size for info in of_the_part.files] == [(11, 20), (15, 20)]


def test_what_is_known_of_a_file(samples, tmp_path: Path):
    path = tmp_path / "grey.png"
    assert cv2.imwrite(str(path), np.full((5, 7), 60_000, np.uint16))
    (pixels,), info = read_file(Sample(path), SMALL)
    assert (pixels.shape, pixels.dtype, pixels.min()) == ((8, 8, 1), np.uint16, 60_000)
    assert (info.size, info.channels, info.depth, info.alpha, info.error) == ((5, 7), 1, "uint16", False, None)
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_cannot_be_used_is_told_and_not_a_hindrance(samples):
    samples[2].image.write_bytes(samples[2].image.read_bytes()[:-30])
    samples[4].image.unlink()
    told: list[tuple[int, int]] = []
    source = load(samples, SMALL, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 6) for done in range(1, 7)]
    assert [info.error is None for info in source.files] == [True, True, False, True, False, True]
    assert [len(info.sha256) for info in source.files] == [64, 64, 64, 64, 0, 64]
    with pytest.raises(BlemishError, match=r"2\.png: truncated"):
        source[2]
    with pytest.raises(BlemishError, match=r"4\.png: No such file"):
        source[4]
    assert levels(source.where(lambda sample: sample.image.name in "1.png 3.png")) == [10, 30]


def test_a_file_that_vanished_after_loading_is_named(samples, monkeypatch):
    full_disk(monkeypatch)
    source = load(samples, SMALL, memory_budget=0)
    samples[1].image.unlink()
    assert int(source[0].pixels.mean()) == 0
    with pytest.raises(BlemishError, match=r"1\.png: can no longer be read"):
        source[1]


def test_frames_are_read_in_order_and_a_bad_file_is_told_in_its_place(samples):
    assert levels(read_frames(iter(samples), SMALL, workers=3)) == [0, 10, 20, 30, 40, 50]
    samples[2].image.write_text("no image")
    frames = list(read_frames(samples, SMALL))
    bad = frames.pop(2)
    assert levels(frames) == [0, 10, 30, 40, 50]
    assert isinstance(bad, Unreadable)
    assert "2.png: truncated, or not an image" in bad.error


ARRAYS = [
    np.arange(75, dtype=np.uint8).reshape(5, 5, 3),  # of an odd number of bytes: the next one is not aligned
    np.arange(24, dtype=np.uint16).reshape(4, 6, 1) * 999,
    np.linspace(0, 1, 30, dtype=np.float32).reshape(2, 5, 3),
    np.arange(48, dtype=np.uint8).reshape(4, 4, 3).transpose(1, 0, 2),
]


def test_a_store_on_disk_gives_back_what_it_was_given():
    store = PixelStore(0)
    for array in (*ARRAYS, None):
        store.append(array)
    assert len(store) == 5
    assert store[4] is None
    for row in (3, 0, 2, 1, 0):
        assert store[row].dtype == ARRAYS[row].dtype
        np.testing.assert_array_equal(store[row], ARRAYS[row])
    np.testing.assert_array_equal(store.select([2, 0])[1], ARRAYS[0])


def test_memory_is_used_up_to_the_budget_and_the_disk_up_to_half_of_what_is_free(monkeypatch):
    full_disk(monkeypatch, free=20)
    store = PixelStore(10)
    for num_bytes in (8, 4, 2, 6, 1):  # memory, disk, memory, disk, neither
        store.append(np.full(num_bytes, num_bytes, np.uint8))
    assert [None if store[row] is None else store[row].size for row in range(5)] == [8, 4, 2, 6, None]


def test_the_file_on_disk_vanishes_with_the_store(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = PixelStore(0)
    assert list(tmp_path.iterdir()) == []
    store.append(ARRAYS[0])
    part = store.select([0])
    del store
    gc.collect()
    np.testing.assert_array_equal(part[0], ARRAYS[0])
    del part
    gc.collect()  # an unclosed file is a ResourceWarning, and warnings are errors here
    assert list(tmp_path.iterdir()) == []


def test_thousands_of_images_on_disk_need_one_open_file():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 200), hard))
    try:
        store = PixelStore(0)
        for index in range(400):
            store.append(np.full((2, 2, 1), index % 251, np.uint8))
        kept = [store[row] for row in range(400)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [int(array[0, 0, 0]) for array in kept] == [index % 251 for index in range(400)]


def test_a_store_is_read_by_several_threads(monkeypatch):
    class Slow(io.BytesIO):  # a thread that has sought gives way to the others before it reads
        def seek(self, *place):
            super().seek(*place)
            time.sleep(1e-4)
            return self.tell()

    monkeypatch.setattr(source_module.tempfile, "TemporaryFile", lambda **_: Slow())
    store, num = PixelStore(0), 64
    for index in range(num):
        store.append(np.full((16, 16, 3), index, np.uint8))
    read = list(map_ahead(lambda row: np.unique(store[row % num]).tolist(), range(4 * num), workers=8))
    assert read == [[row % num] for row in range(4 * num)]


def test_a_disk_that_turns_out_to_be_full_is_no_hindrance(samples, monkeypatch):
    class Full:
        def seek(self, *_):
            return 0

        def write(self, _):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    monkeypatch.setattr(source_module.tempfile, "TemporaryFile", lambda **_: Full())
    assert levels(load(samples, SMALL, memory_budget=NUM_BYTES)) == [0, 10, 20, 30, 40, 50]


@pytest.mark.parametrize("workers", [1, 3, 0])
def test_results_come_in_the_order_of_the_items(workers):
    def slow_first(item: int) -> int:
        time.sleep(0.01 if item % 4 == 0 else 0)
        return item * item

    assert list(map_ahead(slow_first, iter(range(20)), workers)) == [item * item for item in range(20)]
    assert list(map_ahead(slow_first, [], workers)) == []


def test_several_are_computed_at_a_time():
    together = threading.Barrier(3, timeout=10)  # breaks, and so fails, if less than three wait at once
    assert sorted(map_ahead(lambda _: together.wait(), range(3), workers=3)) == [0, 1, 2]


def test_no_more_than_a_few_are_computed_ahead():
    started: list[int] = []
    results = map_ahead(lambda item: started.append(item) or item, iter(range(1000)), workers=2)
    for consumed in range(1, 20):
        assert next(results) == consumed - 1
        time.sleep(0.001)
        assert len(started) <= consumed + 2 * 2 + 1
    results.close()
    assert len(started) < 30


def test_an_exception_comes_at_its_place_and_ends_the_work():
    started: list[int] = []

    def work(item: int) -> int:
        started.append(item)
        if item == 5:
            raise ValueError("the fifth")
        return item

    results, num_threads = map_ahead(work, range(1000), workers=2), threading.active_count()
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="the fifth"):
        next(results)
    assert max(started) < 20
    assert threading.active_count() == num_threads


def test_an_iterator_that_fails_is_not_swallowed():
    def items():
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        list(map_ahead(lambda item: item, items(), workers=2))


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        (np.uint8, 0, 0.0),
        (np.uint8, 51, 0.2),
        (np.uint8, 255, 1.0),
        (np.uint16, 255, 255 / 65_535),
        (np.uint16, 65_535, 1.0),
        (np.float32, 0.25, 0.25),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_lies_in_0_to_1_whatever_the_depth(dtype, value, expected, channels):
    batch = to_batch([np.full((4, 6, channels), value, dtype)] * 2)
    assert batch.shape == (2, 3, 4, 6)
    assert batch.dtype == np.float32
    np.testing.assert_allclose(batch, expected, rtol=1e-6)
    assert batch.max() <= 1
    assert batch.transpose(0, 2, 3, 1).flags.c_contiguous  # channels last in memory


def test_a_batch_keeps_rows_columns_and_colours_apart_and_mixes_depths():
    colour = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    grey = np.arange(8, dtype=np.uint16).reshape(2, 4, 1) * 8000
    batch = to_batch([colour, grey])
    np.testing.assert_allclose(batch[0] * 255, colour.transpose(2, 0, 1), atol=1e-4)
    for channel in batch[1]:
        np.testing.assert_allclose(channel * 65_535, grey[:, :, 0], rtol=1e-6)


def test_batches_hold_every_item_once():
    assert list(in_batches(iter("abcdefg"), 3)) == [["a", "b", "c"], ["d", "e", "f"], ["g"]]
    assert list(in_batches([], 3)) == []
