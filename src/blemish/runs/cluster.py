"""Computing on a Ray cluster: tasks that are repeated on another node where theirs dies."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from blemish.errors import BlemishError, one_line

RETRIES = 3
"""Times that a task is repeated whose process or node dies."""
PER_CPU = 2
"""Tasks that are handed to the cluster per CPU, so that none waits for the next."""


@dataclass(frozen=True)
class Task:
    """A call of a function on any node: the function and its arguments are sent, and its result comes back."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    needs_gpu: bool = False
    """Whether it takes a GPU, where the cluster has any."""
    cpus: int = 1


def computed_on(address: str, tasks: Iterable[Task]) -> Iterator[tuple[Task, Any]]:
    """(task, result) as they finish; the result of one that cannot be computed is a BlemishError.

    `address` is that of the cluster, or "auto" for the one of this machine. Files are given by path, so all nodes need
    the same file system and blemish. Few tasks are taken at a time, however many there are. Raises BlemishError if the
    cluster cannot be reached.
    """
    with _connected(address) as ray:
        resources = ray.cluster_resources()
        most = max(1, int(PER_CPU * resources.get("CPU", 1)))
        largest = max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
        has_gpu = resources.get("GPU", 0) >= 1
        remote = ray.remote(_call)
        running = dict[Any, Task]()
        incoming = iter(tasks)
        while True:
            while len(running) < most and (task := next(incoming, None)) is not None:
                if task.cpus > largest:  # it would wait for ever
                    raise BlemishError(
                        f"ray {address}: no node has {task.cpus} CPUs, only {largest:g}. Use fewer threads."
                    )
                options = {"num_cpus": task.cpus, "num_gpus": int(task.needs_gpu and has_gpu), "max_retries": RETRIES}
                running[remote.options(**options).remote(task.function, task.arguments)] = task
            if not running:
                return
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            yield running.pop(done), _result(ray, done)


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    logging.getLogger("blemish").setLevel(logging.ERROR)  # what is printed on a node nobody reads
    return function(*arguments)


def _result(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        return cause if isinstance(cause, BlemishError) else BlemishError(f"{type(cause).__name__}: {one_line(cause)}")
    except ray.exceptions.RayError as error:
        return BlemishError(f"its process or node died {RETRIES + 1} times ({type(error).__name__}).")


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """A context with Ray, connected to the cluster at the address."""
    import ray

    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise BlemishError(f"ray {address}: cannot be reached ({one_line(error, 150)}). Check the address.") from None
    try:
        yield ray
    finally:
        ray.shutdown()
