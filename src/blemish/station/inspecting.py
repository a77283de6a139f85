"""Inspects images with the active model of each product: one thread computes, another records what was found.

An image waits in a bounded queue; what waits is computed together. An answer is given when it is recorded.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from sqlalchemy import select

from blemish.errors import BlemishError
from blemish.imaging.formats import Image
from blemish.imaging.read import decode_image
from blemish.inference.inspector import Inspector
from blemish.model.folder import read_model
from blemish.station.keys import key_of
from blemish.station.recording import Found, Recorder
from blemish.station.tables import Decision, Model, Product
from blemish.station.uploads import Arrived, Limits, shown_name
from blemish.station.verdicts import judge
from blemish.station.workspace import Workspace
from blemish.types import Prediction, Sample

logger = logging.getLogger("blemish")

Waiting = TypeVar("Waiting")

CAPACITY = 64
"""Images that wait for a product; beyond that a request is told to come again."""
MOST_WAITING_BYTES = 2 << 30
"""Bytes of the decoded images that wait for a product."""
TOGETHER = 8
"""Images that are computed together, at most."""
BEHIND = 5
"""How much lower the priority of computing is than that of what answers, records and shows (as by `nice`)."""
KEEPERS = 2
"""Threads that write files of images."""
MOST_LOADED = 4
"""Products whose models are in memory at once."""


class BusyError(Exception):
    """The queue is full."""


class NotReadyError(Exception):
    """The product has no active model."""


class RefusedError(BlemishError):
    """The image cannot be inspected, whenever it is sent again."""


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """An image to inspect."""

    pixels: Image
    content: bytes
    sha256: str
    name: str
    key: str | None
    source: str
    who: str
    arrived: float
    queued: float
    """When its bytes were there, and when it was ready to be inspected; monotonic seconds."""
    decoded: float
    """Seconds of decoding."""
    future: Future[Found] = field(default_factory=Future)


def item_of(
    arrived: Arrived, limits: Limits, *, source: str, who: str, key: str | None = None, state: str | None = None
) -> Item:
    """The decoded image of a file; raises RefusedError for what is not one, or exceeds the limits.

    Without `key`, `state` makes an idempotency key that the file's content is a part of.
    """
    began, name = time.monotonic(), shown_name(arrived.name)
    if len(arrived.content) > limits.image_bytes:
        raise RefusedError(f"{name}: at most {limits.image_bytes >> 20} MB are taken.")
    digest, started = hashlib.sha256(arrived.content).hexdigest(), time.monotonic()
    try:
        pixels = decode_image(arrived.content, Path(name), limits.pixels)
    except BlemishError as error:
        raise RefusedError(str(error)) from None
    ended = time.monotonic()
    key = key_of(state, digest) if state is not None else key
    return Item(pixels, arrived.content, digest, name, key, shown_name(source), who, began, ended, ended - started)


@dataclass(frozen=True, slots=True)
class Active:
    """The active model of a product, loaded, and its decision."""

    model: Model
    decision: Decision
    inspector: Inspector
    good_scores: tuple[float, ...]


class Inspecting:
    """The queues of all products. `backend` is torch, onnx, openvino, or auto for the first that there is."""

    def __init__(self, workspace: Workspace, recorder: Recorder, backend: str = "auto"):
        self._workspace, self._recorder, self._backend = workspace, recorder, backend
        self._lines: dict[int, Line] = {}
        self._lock = threading.Lock()
        self._keeping = ThreadPoolExecutor(KEEPERS)

    def submit(self, product_id: int, item: Item) -> Future[Found]:
        """The result, once it is recorded; raises BusyError where the queue is full."""
        self.line(product_id).put(item)
        return item.future

    def line(self, product_id: int) -> Line:
        """The queue of a product; the one that was used the longest ago ends where there are too many."""
        ended = None
        with self._lock:
            line = self._lines.pop(product_id, None) or Line(product_id, self._load, self._recorder, self._keeping)
            self._lines[product_id] = line
            if len(self._lines) > MOST_LOADED:
                ended = self._lines.pop(next(iter(self._lines)))
        if ended:
            ended.end()
        return line

    def waiting(self) -> dict[int, int]:
        """Product -> images that wait."""
        with self._lock:
            return {product_id: line.waiting for product_id, line in self._lines.items()}

    def close(self) -> None:
        """Ends all threads, after what waits is done."""
        with self._lock:
            lines, self._lines = list(self._lines.values()), {}
        for line in lines:
            line.end()
        for line in lines:
            line.join()
        self._keeping.shutdown()
        self._recorder.drawing.close()
        self._keeping = ThreadPoolExecutor(KEEPERS)  # an application may be opened again

    def _load(self, product_id: int, present: Active | None) -> Active:
        """The active model and decision; `present` keeps its inspector where the model is the same."""
        chosen = (
            select(Model.id, Decision.id)
            .join(Product, Product.active_model_id == Model.id)
            .join(Decision, Decision.id == Model.active_decision_id)
            .where(Product.id == product_id)
        )
        with self._workspace.store.reading() as session:
            numbers = session.execute(chosen).one_or_none()
            if numbers is None:
                raise NotReadyError
            if present and (present.model.id, present.decision.id) == tuple(numbers):
                return present
            model, decision = session.get_one(Model, numbers[0]), session.get_one(Decision, numbers[1])
        if present and present.model.id == model.id:
            return Active(model, decision, present.inspector, present.good_scores)
        folder = self._workspace.model_folder(model)
        about = read_model(folder)
        backend = backend_for(about.exports, self._backend)
        inspector = Inspector.load(folder, backend, batch_size=batch_size_for(backend))
        return Active(model, decision, inspector, about.calibration.good_scores if about.calibration else ())


def backend_for(exports: dict[str, object], asked: str = "auto") -> str:
    """The backend to use: the one that was asked for, or torch where it is installed, or else an export's."""
    if asked != "auto":
        return asked
    if find_spec("torch") is not None:
        return "torch"
    return next((name for name in ("openvino", "onnx") if name in exports and find_spec(_package(name))), "torch")


def batch_size_for(backend: str) -> int:
    """Images that a backend computes in one call: with torch as many as wait, each on a core of its own."""
    return TOGETHER if backend == "torch" else 1


def _package(backend: str) -> str:
    return "onnxruntime" if backend == "onnx" else backend


class Line:
    """The queue of one product and its threads."""

    def __init__(
        self, product_id: int, load: Callable[[int, Active | None], Active], recorder: Recorder, keeping: Executor
    ):
        self._product_id, self._load, self._recorder, self._keeping = product_id, load, recorder, keeping
        self._waiting: queue.Queue[Item | None] = queue.Queue()
        self._computed: queue.Queue[tuple[Item, Found] | None] = queue.Queue(2 * TOGETHER)
        self._lock, self._bytes, self._count, self._is_ended = threading.Lock(), 0, 0, False
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._compute, self._record)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Images that wait or are being computed."""
        return self._count

    def put(self, item: Item) -> None:
        """Adds an image; raises BusyError."""
        with self._lock:
            if self._count >= CAPACITY or self._bytes > MOST_WAITING_BYTES or self._is_ended:
                raise BusyError
            self._count += 1
            self._bytes += item.pixels.nbytes
            self._waiting.put(item)

    def end(self) -> None:
        """Ends the threads after what waits is done."""
        with self._lock:
            self._is_ended = True
            self._waiting.put(None)

    def join(self) -> None:
        """Waits until the threads have ended."""
        for thread in self._threads:
            thread.join()

    def _compute(self) -> None:
        _stand_behind()
        active: Active | None = None
        while (first := self._waiting.get()) is not None:
            items, is_last = _drained(self._waiting, first)
            left, taken = list(items), time.monotonic()
            try:
                active = self._load(self._product_id, active)
                for item, found in self._inspect(active, items, taken):
                    left.remove(item)
                    self._computed.put((item, found))
            except Exception as error:
                if not isinstance(error, BlemishError | NotReadyError):
                    logger.exception("inspecting failed")
                for item in left:
                    _settle(item, error)
            with self._lock:
                self._count -= len(items)
                self._bytes -= sum(item.pixels.nbytes for item in items)
            if is_last:
                break
        self._computed.put(None)

    def _inspect(self, active: Active, items: Sequence[Item], taken: float) -> Iterator[tuple[Item, Found]]:
        """The results, in order. The files of the images are written meanwhile. `taken` is when the queue ended."""
        kept = [self._keeping.submit(self._recorder.keep, item) for item in items]
        samples = [Sample(Path(item.name), content=item.pixels) for item in items]
        started = time.monotonic()
        for item, file, prediction in zip(items, kept, active.inspector.inspect(samples), strict=True):
            if not isinstance(prediction, Prediction):
                _settle(item, RefusedError(prediction.error))
                continue
            judged = judge(prediction, active.decision, active.good_scores)
            now = time.monotonic()
            yield (
                item,
                Found(
                    product_id=self._product_id,
                    model=active.model,
                    decision=active.decision,
                    judged=judged,
                    prediction=prediction,
                    decoded=item.decoded,
                    waited=taken - item.queued,
                    computed=now - started,
                    drawn=random.random(),
                    kept=file,
                ),
            )
            taken = started = now

    def _record(self) -> None:
        is_last = False
        while not is_last and (first := self._computed.get()) is not None:
            group, is_last = _drained(self._computed, first)
            try:
                results = self._recorder.record(group)
            except Exception as error:
                logger.exception("recording failed")
                results = [error] * len(group)
            for (item, _), result in zip(group, results, strict=True):
                _settle(item, result)
            for (item, _), result in zip(group, results, strict=True):
                if isinstance(result, Found):
                    self._recorder.draw(item, result)


def _stand_behind() -> None:
    """Lowers the priority of this thread and of those that it will start: who has a result is answered first."""
    if sys.platform == "linux":  # elsewhere priorities are those of processes
        thread = threading.get_native_id()
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + BEHIND))


def _settle(item: Item, result: Found | Exception) -> None:
    """Gives the result to who waits for it, unless nobody does any more."""
    if not item.future.set_running_or_notify_cancel():
        return
    if isinstance(result, Exception):
        item.future.set_exception(result)
    else:
        item.future.set_result(result)


def _drained(waiting: queue.Queue[Waiting | None], first: Waiting) -> tuple[list[Waiting], bool]:
    """The first one and others that wait now, TOGETHER at the most, and whether the end of all is among them."""
    found = [first]
    while len(found) < TOGETHER:
        try:
            one = waiting.get_nowait()
        except queue.Empty:
            break
        if one is None:
            return found, True
        found.append(one)
    return found, False
