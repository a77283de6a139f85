"""Sets the number of cores that torch uses in one thread, without changing it for other threads."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock

import torch

_one_at_a_time = Lock()


@contextmanager
def computing_on(threads: int) -> Iterator[None]:
    """Within the block, torch uses `threads` cores in the calling thread; 0: unchanged."""
    before = set_own_threads(threads)
    try:
        yield
    finally:
        set_own_threads(before)


def set_own_threads(number: int) -> int:
    """Sets the number of cores that torch uses in the calling thread (0: unchanged), and returns the number before.

    `torch.set_num_threads` also changes the default of threads that use torch for the first time later. A new thread
    reads that default before the call and restores it afterwards.
    """
    with _one_at_a_time:
        before = torch.get_num_threads()  # without this first call, this thread would later take the default
        if number not in (0, before):
            with ThreadPoolExecutor(1) as other:
                usual = other.submit(torch.get_num_threads).result()
                torch.set_num_threads(number)
                other.submit(torch.set_num_threads, usual).result()
    return before
