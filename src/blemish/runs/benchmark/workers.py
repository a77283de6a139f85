"""Computing cells: in this process, or in several that are started anew where one dies."""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from blemish.detectors import DETECTORS
from blemish.errors import BlemishError, one_line
from blemish.progress import log_level
from blemish.runs.benchmark.cells import Cell
from blemish.runs.cluster import Task, computed_on

TRIES = 2
"""Times that a cell is computed whose process dies."""


@dataclass(frozen=True)
class Outcome:
    """What became of a cell."""

    cell: Cell
    seconds: float = 0.0
    error: str = ""
    """Why it has no result; empty where it has."""
    metrics: dict[str, float | None] | None = None


def compute(cell: Cell, workers: int = 0) -> Outcome:
    """Computes a cell in this process; an error is part of the outcome."""
    started = time.monotonic()
    try:
        with log_level(logging.ERROR):  # the cell's record has its warnings; they stay out of the log of the whole
            evaluation = cell.compute(workers)
    except Exception as error:  # also one of a library: the other cells are computed all the same
        what = str(error) if isinstance(error, BlemishError) else f"{type(error).__name__}: {one_line(error, 200)}"
        return Outcome(cell, time.monotonic() - started, what)
    return Outcome(cell, time.monotonic() - started, metrics=evaluation.metrics)


def compute_all(cells: Sequence[Cell], jobs: int = 1, ray: str | None = None) -> Iterator[Outcome]:
    """The outcomes of the cells as they finish, `jobs` at a time, each in a process of its own if several.

    A cell whose process dies, for example for want of memory, is computed once more, and then is an error. With the
    address of a Ray cluster its nodes compute the cells, each on one CPU, and on a GPU if there are any and its device
    is not "cpu".
    """
    if ray is not None:
        tasks = (Task(_compute_there, (cell, _registered()), _needs_gpu(cell)) for cell in cells)
        for task, found in computed_on(ray, tasks):
            cell = task.arguments[0]
            yield Outcome(cell, error=str(found)) if isinstance(found, BlemishError) else found
        return
    if jobs == 1 or len(cells) < 2:
        yield from map(compute, cells)
        return
    workers = _Workers(cells, min(jobs, len(cells)))
    try:
        for _ in cells:
            found = workers.outcomes.get()
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        workers.stop()


def _compute_there(cell: Cell, registered: dict[str, Any]) -> Outcome:
    DETECTORS.update(registered)
    return compute(cell, 1)


def _needs_gpu(cell: Cell) -> bool:
    return cell.run is not None and cell.run.device != "cpu"


def _registered() -> dict[str, Any]:
    """The detectors that the caller has registered, which other processes do not know."""
    return {name: cls for name, cls in DETECTORS.items() if not isinstance(cls, str)}


class _Workers:
    """Threads that take cells from one queue; each has a process of its own, so a death is that of a known cell."""

    def __init__(self, cells: Sequence[Cell], jobs: int):
        self.outcomes: queue.Queue[Outcome | BaseException] = queue.Queue()
        self._waiting: queue.Queue[Cell] = queue.Queue()
        for cell in cells:
            self._waiting.put(cell)
        self._threads = max(1, (os.cpu_count() or 1) // jobs)
        self._pools: set[ProcessPoolExecutor] = set()
        self._is_stopped = False
        self._own = [threading.Thread(target=self._work, daemon=True) for _ in range(jobs)]
        for thread in self._own:
            thread.start()

    def stop(self) -> None:
        """Ends the processes, also in the middle of a cell, and the threads."""
        self._is_stopped = True
        for pool in list(self._pools):
            _end(pool)
        for thread in self._own:
            thread.join()

    def _work(self) -> None:
        pool = self._started()
        try:
            while not self._is_stopped:
                cell = self._waiting.get_nowait()
                for tried in range(1, TRIES + 1):
                    try:
                        self.outcomes.put(pool.submit(compute, cell, self._threads).result())
                        break
                    except BrokenProcessPool:
                        self._pools.discard(pool)
                        if self._is_stopped:
                            return
                        pool = self._started()
                        if tried == TRIES:
                            self.outcomes.put(Outcome(cell, error=f"{cell.words}: {_DIED}"))
        except queue.Empty:
            pass
        except BaseException as error:  # a bug in a cell, raised where the outcomes are read
            self.outcomes.put(error)
        finally:
            self._pools.discard(pool)
            _end(pool)

    def _started(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")  # torch does not survive a fork
        pool = ProcessPoolExecutor(1, context, _begin, (self._threads, _registered(), os.getpid()))
        self._pools.add(pool)
        return pool


_DIED = f"its process died {TRIES} times. There may be too little memory: use fewer jobs, or a smaller size."


def _begin(threads: int, registered: dict[str, Any], parent: int) -> None:
    """Prepares a new process: its share of the cores, the detectors of the caller, and its end with the caller."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller stops it
    torch.set_num_threads(threads)
    DETECTORS.update(registered)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Ends this process soon after its parent is gone, killed for example."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _end(pool: ProcessPoolExecutor) -> None:
    for process in list((getattr(pool, "_processes", None) or {}).values()):
        with suppress(OSError, ValueError, AttributeError):
            process.kill()
    pool.shutdown(wait=True, cancel_futures=True)
