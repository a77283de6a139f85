"""Images computed one at a time on a processor, several of them side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import starmap
from typing import Any

import torch
from torch import Tensor

from blemish.features.threads import set_own_threads

Scored = tuple[Tensor, Tensor]
"""Scores (B,) and maps (B, h, w)."""
Compute = Callable[..., Scored]
"""Of the tensors of a batch."""


class Apart:
    """Computes each image of a batch by itself, so that no rounding depends on the others.

    Where there is an image for each core, each is computed by one thread: threads that share an image wait for each
    other. Only where that gives the same bits, which is tried with the first image of each kind.
    """

    def __init__(self) -> None:
        self._is_same: dict[Any, bool] = {}

    def __call__(self, compute: Compute, *batch: Tensor, kind: Callable[[], Any] = lambda: None) -> Scored:
        """What `compute` gives of tensors of B images in all; `kind` says what its arithmetic depends on beside."""
        images = list(zip(*(torch.split(tensor, 1) for tensor in batch), strict=True))
        scores, maps = zip(*self._computed(compute, images, kind), strict=True)
        return torch.cat(scores), torch.cat(maps)

    def _computed(
        self, compute: Compute, images: Sequence[tuple[Tensor, ...]], kind: Callable[[], Any]
    ) -> Iterator[Scored]:
        threads = torch.get_num_threads()
        if threads == 1 or len(images) < threads:
            return starmap(compute, images)
        by_one = partial(_in_mode, compute, torch.is_inference_mode_enabled(), torch.is_grad_enabled())
        workers, tried = one_core_workers(threads), (kind(), threads, tuple(tensor.shape for tensor in images[0]))
        if tried not in self._is_same:
            expected, found = compute(*images[0]), workers.submit(by_one, *images[0]).result()
            self._is_same[tried] = all(map(torch.equal, expected, found))
        return workers.map(by_one, *zip(*images, strict=True)) if self._is_same[tried] else starmap(compute, images)


def _in_mode(compute: Compute, is_inference: bool, with_grad: bool, *image: Tensor) -> Scored:
    """What is computed in the modes of the thread that asks, which are each thread's own."""
    with torch.inference_mode(is_inference), torch.set_grad_enabled(with_grad):
        return compute(*image)


@cache
def one_core_workers(number: int) -> ThreadPoolExecutor:
    """Threads that each compute on one core; the number of threads of all others stays what it is.

    A result then depends neither on that number nor on what waits for what.
    """
    return ThreadPoolExecutor(number, initializer=set_own_threads, initargs=(1,))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=one_core_workers.cache_clear)  # the threads are the parent's
