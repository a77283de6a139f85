"""Sets torch's number of threads for the calling thread alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock

import torch

_one_at_a_time = Lock()


@contextmanager
def computing_on(threads: int) -> Iterator[None]:
    """Torch uses `threads` threads in the calling thread in the context (0: unchanged); others keep theirs."""
    before = set_own_threads(threads)
    try:
        yield
    finally:
        set_own_threads(before)


def set_own_threads(number: int) -> int:
    """Sets torch's number of threads for the calling thread (0: unchanged), and returns the previous one.

    torch.set_num_threads also sets the default of threads that use torch for the first time later. A new thread reads
    this default before, and restores it.
    """
    with _one_at_a_time:
        before = torch.get_num_threads()  # its first call would take the default later
        if number not in (0, before):
            with ThreadPoolExecutor(1) as other:
                usual = other.submit(torch.get_num_threads).result()
                torch.set_num_threads(number)
                other.submit(torch.set_num_threads, usual).result()
    return before
