"""Images one at a time, several side by side: the same bits, in the caller's modes, whatever the threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor

from blemish.detectors.parts.one_by_one import ImagesOneByOne


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Recorded:
    """Scores and maps, and where, how and with how many threads each image was computed."""

    def __init__(self, differs: bool = False):
        self.calls: list[tuple[int, int]] = []
        self.modes: set[tuple[bool, bool]] = set()
        self.differs = differs

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor]:
        threads = torch.get_num_threads()
        self.calls.append((threading.get_ident(), threads))
        self.modes.add((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))
        maps = image.mean(1) + (self.differs and threads == 1) * 1e-6
        return maps.amax((1, 2)), maps


IMAGES = torch.rand(7, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def check(one_by_one: ImagesOneByOne, compute: Recorded, images: Tensor = IMAGES) -> None:
    scores, maps = one_by_one(compute, images)
    assert torch.equal(maps, images.mean(1))
    assert torch.equal(scores, images.mean(1).amax((1, 2)))


def test_each_core_computes_an_image_by_itself():
    one_by_one, compute = ImagesOneByOne(), Recorded()
    check(one_by_one, compute)
    own = threading.get_ident()
    assert (own, 2) in compute.calls[:4]  # what the bits are compared with
    assert {threads for ident, threads in compute.calls[1:] if ident != own} == {1}
    assert len(compute.calls) == 2 * 2 + 7
    check(one_by_one, compute)
    assert len(compute.calls) == 2 * 2 + 7 + 7  # it was tried
    assert torch.get_num_threads() == 2


def test_where_the_bits_would_differ_images_come_one_after_the_other():
    one_by_one, compute = ImagesOneByOne(), Recorded(differs=True)
    for count in (2 + 2 + 7, 7):
        compute.calls.clear()
        check(one_by_one, compute)
        assert len(compute.calls) == count
        assert compute.calls[-1] == (threading.get_ident(), 2)


def test_fewer_images_than_cores_have_all_of_them():
    compute = Recorded()
    check(ImagesOneByOne(), compute, IMAGES[:1])
    assert compute.calls == [(threading.get_ident(), 2)]


def test_what_was_learned_anew_is_tried_anew():
    one_by_one, compute = ImagesOneByOne(), Recorded()
    for kind, count in ((1, 11), (1, 7), (2, 11)):
        compute.calls.clear()
        one_by_one(compute, IMAGES, kind=partial(int, kind))
        assert len(compute.calls) == count


@pytest.mark.parametrize(("mode", "is_inference"), [(torch.inference_mode, True), (torch.no_grad, False)])
def test_threads_compute_in_the_mode_of_the_one_that_asks(mode, is_inference):
    compute = Recorded()
    with mode():
        check(ImagesOneByOne(), compute)
    assert compute.modes == {(is_inference, False)}


def test_an_error_is_the_caller_s():
    def fail(image: Tensor) -> tuple[Tensor, Tensor]:
        if torch.equal(image[0], IMAGES[3]):
            raise ValueError("the fourth")
        return image.amax((1, 2, 3)), image[:, 0]

    with pytest.raises(ValueError, match="the fourth"):
        ImagesOneByOne()(fail, IMAGES)


def test_threads_that_start_later_have_all_cores():
    check(ImagesOneByOne(), Recorded())
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [2]
