"""Draws the previews of results after they were answered: nobody waits for them but who asks for one at once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

logger = logging.getLogger("blemish")

THREADS = 2
MOST_WAITING = 16
"""Previews that wait to be drawn, each with its image and map in memory; beyond that results wait for them."""
SECONDS = 10.0
"""Who asks for a preview that is being drawn waits for so long at the most."""


class Drawing:
    """The previews that are being drawn, by the names of their files."""

    def __init__(self) -> None:
        self._pool, self._lock = ThreadPoolExecutor(THREADS), threading.Lock()
        self._places = threading.Semaphore(MOST_WAITING)
        self._waiting: dict[str, Future[None]] = {}

    def expect(self, name: str) -> None:
        """Says that the file will be drawn, before anyone can ask for it."""
        with self._lock:
            self._waiting[name] = Future()

    def draw(self, name: str, write: Callable[[], object]) -> None:
        """Has `write` make a file that was expected; waits while too many others are being drawn."""
        self._places.acquire()
        self._pool.submit(self._run, name, write)

    def wait_for(self, name: str) -> None:
        """Returns when the file is there, or will not be."""
        with self._lock:
            drawn = self._waiting.get(name)
        if drawn is not None:
            wait([drawn], SECONDS)

    def close(self) -> None:
        """Draws what waits."""
        self._pool.shutdown()
        self._pool = ThreadPoolExecutor(THREADS)  # an application may be opened again

    def _run(self, name: str, write: Callable[[], object]) -> None:
        try:
            write()
        except Exception:
            logger.exception("a preview was not drawn")
        finally:
            self._places.release()
            with self._lock:
                self._waiting.pop(name).set_result(None)
