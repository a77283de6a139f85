"""A lazy parallel map in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
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
