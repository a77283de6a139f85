"""How many cores a thread computes on is its own matter."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import torch

from blemish.features.threads import computing_on, set_own_threads
from blemish.inference.inspector import Inspector
from blemish.types import Prediction


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def in_a_new_thread() -> int:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(torch.get_num_threads).result()


def test_neither_a_thread_that_starts_meanwhile_nor_one_that_starts_later_is_told():
    with computing_on(3):
        assert torch.get_num_threads() == 3
        assert in_a_new_thread() == 2
    assert torch.get_num_threads() == 2
    assert in_a_new_thread() == 2


def test_none_is_as_many_as_before():
    with computing_on(0):
        assert torch.get_num_threads() == 2


def test_after_an_error_there_are_as_many_as_before():
    with pytest.raises(ValueError, match="wrong"), computing_on(1):
        raise ValueError("wrong")
    assert torch.get_num_threads() == 2


def test_many_threads_at_once_each_have_their_own():
    together = Barrier(8)

    def asked(number: int) -> tuple[int, int]:
        together.wait()
        with computing_on(number):
            together.wait()
            found = torch.get_num_threads()
            together.wait()
        return found, torch.get_num_threads()

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(asked, range(1, 9))) == [(number, 2) for number in range(1, 9)]
    assert (torch.get_num_threads(), in_a_new_thread()) == (2, 2)


def test_a_thread_that_was_told_stays_with_it():
    with ThreadPoolExecutor(3, initializer=set_own_threads, initargs=(1,)) as threads:
        assert list(threads.map(lambda _: torch.get_num_threads(), range(9))) == [1] * 9
    assert (torch.get_num_threads(), in_a_new_thread()) == (2, 2)


def test_two_inspectors_in_two_threads_give_what_each_gives_alone(run_folder):
    images = sorted((run_folder / "data").rglob("test/*/*.png"))
    inspectors = [
        Inspector.load(run_folder / "part", threads=threads, batch_size=2, device="cpu") for threads in (1, 2, 3)
    ]
    alone = [list(inspector.predict(images)) for inspector in inspectors]
    together = Barrier(len(inspectors))

    def rounds(inspector: Inspector) -> tuple[list[list[Prediction]], int]:
        together.wait()
        return [list(inspector.predict(images)) for _ in range(3)], torch.get_num_threads()

    with ThreadPoolExecutor(len(inspectors)) as threads:
        for expected, (found, left) in zip(alone, threads.map(rounds, inspectors), strict=True):
            assert left == 2
            for again in found:
                assert [one.score for one in again] == [one.score for one in expected]
                assert all(np.array_equal(one.map, other.map) for one, other in zip(again, expected, strict=True))
    assert torch.get_num_threads() == 2
