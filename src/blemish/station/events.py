"""What happens at the station, told to every open page."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

KEPT = 500
"""Past events that a page which was away is told."""
WAITING = 1000
"""Events that wait for a slow page; a slower one is disconnected, and reconnects."""
BEAT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: its number, its kind, such as inspection or job, and what it is about."""

    number: int
    kind: str
    data: dict[str, Any]

    @property
    def text(self) -> str:
        """The event as server-sent text."""
        return f"id: {self.number}\nevent: {self.kind}\ndata: {json.dumps(self.data)}\n\n"


class Bus:
    """Hands events from any thread to the pages that listen."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._past: deque[Event] = deque(maxlen=KEPT)
        self._listeners: set[asyncio.Queue[Event | None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Names the loop in which pages are served."""
        self._loop = loop

    def publish(self, kind: str, **data: Any) -> None:
        """Tells everyone; does nothing before `start`."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._publish, kind, data)

    def _publish(self, kind: str, data: dict[str, Any]) -> None:
        event = Event(next(self._numbers), kind, data)
        self._past.append(event)
        for queue in list(self._listeners):
            if queue.qsize() < WAITING:
                queue.put_nowait(event)
            else:
                self._listeners.discard(queue)
                queue.put_nowait(None)

    def stop(self) -> None:
        """Ends all streams."""
        for queue in self._listeners:
            queue.put_nowait(None)

    async def stream(self, after: int | None = None) -> AsyncIterator[str]:
        """The events as text, from the one after the number `after` on, where it is still known."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        missed = [] if after is None else [event for event in self._past if event.number > after]
        self._listeners.add(queue)
        try:
            yield "retry: 2000\n\n"
            for event in missed:
                yield event.text
            while True:
                try:
                    found = await asyncio.wait_for(queue.get(), BEAT_SECONDS)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                if found is None:
                    return
                yield found.text
        finally:
            self._listeners.discard(queue)
