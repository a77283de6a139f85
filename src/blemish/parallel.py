"""What concerns threads: a lazy parallel map, and the memory that they share."""

from __future__ import annotations

import ctypes
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int = 0, ahead: int = 0
) -> Iterator[Result]:
    """The results of `function` in the order of the items, computed in threads.

    `workers` is the number of threads (0: one per core). At most `ahead` results (0: twice the workers) are computed
    before they are consumed, so that memory stays bounded.
    """
    workers = workers or os.cpu_count() or 1
    ahead = ahead or 2 * workers
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def set_allocator(options: Mapping[int, int]) -> None:
    """Sets options of the C library's allocator (mallopt) for this process, where the library is glibc."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        for option, value in options.items():
            library.mallopt(option, value)
