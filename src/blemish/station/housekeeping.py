"""What the station does by itself: removes images that the retention does not keep, says when the disk is full."""

from __future__ import annotations

import logging
import threading
import time

from sqlalchemy.exc import SQLAlchemyError

from blemish.errors import BlemishError
from blemish.station import retention
from blemish.station.events import Bus
from blemish.station.recording import Recorder
from blemish.station.workspace import Workspace

logger = logging.getLogger("blemish")

LOOK_SECONDS = 10.0
WHO = "station"
"""Who removed images, in the audit log."""


class Housekeeping:
    """A thread that looks every LOOK_SECONDS whether there is something to do."""

    def __init__(self, workspace: Workspace, recorder: Recorder, bus: Bus):
        self._workspace, self._recorder, self._bus = workspace, recorder, bus
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Starts the thread, which looks at once."""
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def look(self, now: float) -> int:
        """Removes images where that is due at this time, in seconds since 1970; gives how many."""
        self._recorder.tell_condition()
        with self._workspace.store.reading() as session:
            due = retention.next_run(session)
        if due is None or now < due:
            return 0
        number = retention.clean(self._workspace, WHO)
        if number:
            self._bus.publish("storage", removed=number)
        return number

    def _run(self) -> None:
        while True:
            try:
                self.look(time.time())
            except (SQLAlchemyError, BlemishError, OSError) as error:  # it is tried again
                logger.warning("images that are not kept could not be removed: %s", error)
            if self._ended.wait(LOOK_SECONDS):
                return
