"""On how many cores a thread computes with torch, without a word in that of the others."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock

import torch

_one_at_a_time = Lock()


@contextmanager
def computing_on(threads: int) -> Iterator[None]:
    """Has the thread that enters, and no other, compute on so many cores; 0: on as many as it does."""
    before = set_own_threads(threads)
    try:
        yield
    finally:
        set_own_threads(before)


def set_own_threads(number: int) -> int:
    """Has this thread compute on so many cores from now on (0: as before), and gives how many it did before.

    torch's own call says so for all threads too that use torch for the first time later. What these take is asked for
    and put back by one of them.
    """
    with _one_at_a_time:
        before = torch.get_num_threads()  # or this thread would be one of them
        if number not in (0, before):
            with ThreadPoolExecutor(1) as other:
                usual = other.submit(torch.get_num_threads).result()
                torch.set_num_threads(number)
                other.submit(torch.set_num_threads, usual).result()
    return before
