"""Watched folders: new images in them are inspected as they arrive, each once."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from blemish.data.listing import list_images
from blemish.errors import BlemishError, one_line
from blemish.files import read_bytes
from blemish.station import audit
from blemish.station.inspecting import BusyError, Inspecting, Item, NotReadyError, RefusedError, item_of
from blemish.station.keys import was_recorded
from blemish.station.recording import RETRY_SECONDS, Found
from blemish.station.store import Store
from blemish.station.tables import Setting
from blemish.station.uploads import Arrived, Limits
from blemish.station.workspace import Workspace

logger = logging.getLogger("blemish")

LOOK_SECONDS = 0.5
SETTING = "watch-"
"""Beginning of the names of the settings that name watched folders."""


class Watching:
    """The threads that watch a folder for each product; they start again with the station."""

    def __init__(self, workspace: Workspace, inspecting: Inspecting, limits: Limits):
        self._workspace, self._inspecting, self._limits = workspace, inspecting, limits
        self._watchers: dict[int, Watcher] = {}
        self._lock = threading.Lock()

    def open(self) -> None:
        """Watches what was watched before."""
        with self._workspace.store.reading() as session:
            kept = list(session.scalars(select(Setting).where(Setting.name.startswith(SETTING))))
        for setting in kept:
            self._start(int(setting.name.removeprefix(SETTING)), Path(setting.value["path"]))

    def watch(self, product_id: int, folder: Path, who: str) -> None:
        """Watches a folder; raises BlemishError where it is none. What lies in it already is inspected, too."""
        if not folder.is_dir():
            raise BlemishError(f"{folder}: no such folder on the station's machine.")
        self.stop(product_id, who)
        with self._workspace.store.writing() as session:
            session.merge(Setting(name=f"{SETTING}{product_id}", value={"path": str(folder)}))
            audit.append(session, who, "folder watched", f"product {product_id}", None, str(folder))
        self._start(product_id, folder)

    def stop(self, product_id: int, who: str) -> None:
        """Watches no folder for the product any more."""
        with self._lock:
            watcher = self._watchers.pop(product_id, None)
        if watcher is None:
            return
        watcher.end()
        with self._workspace.store.writing() as session:
            if found := session.get(Setting, f"{SETTING}{product_id}"):
                session.delete(found)
                audit.append(session, who, "folder no longer watched", f"product {product_id}", str(watcher.folder))

    def of(self, product_id: int) -> tuple[str | None, str | None]:
        """The folder that is watched for a product, and what is wrong with it."""
        watcher = self._watchers.get(product_id)
        return (str(watcher.folder), watcher.problem) if watcher else (None, None)

    def close(self) -> None:
        """Ends all threads."""
        with self._lock:
            watchers, self._watchers = list(self._watchers.values()), {}
        for watcher in watchers:
            watcher.end()

    def _start(self, product_id: int, folder: Path) -> None:
        with self._lock:
            self._watchers[product_id] = Watcher(
                product_id, folder, self._workspace.store, self._inspecting, self._limits
            )


Stamp = tuple[int, int]
"""Size and time of a file."""


class Watcher:
    """A thread that watches one folder.

    A file is inspected when its size and time have stayed the same between two looks. Its idempotency key is made of
    its path, size and time, so that it is inspected once, also where the station was stopped meanwhile. Looking takes
    at most a tenth of the time, however many files there are.
    """

    def __init__(self, product_id: int, folder: Path, store: Store, inspecting: Inspecting, limits: Limits):
        self.folder, self.problem = folder, ""
        self._product_id, self._store, self._inspecting, self._limits = product_id, store, inspecting, limits
        self._ended = threading.Event()
        self._seen: dict[Path, Stamp | None] = {}
        self._done: dict[Path, Stamp] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Ends the thread."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        pause = LOOK_SECONDS
        while not self._ended.wait(pause):
            began = time.monotonic()
            try:
                seen = self._look()
                pause = max(LOOK_SECONDS, 9 * (time.monotonic() - began))
                self._inspect_new(seen)
            except NotReadyError:
                self.problem = "the product has not been taught yet."
            except Exception as error:
                if not isinstance(error, OSError | BlemishError | SQLAlchemyError):
                    logger.exception("inspecting a watched folder failed")
                self.problem = one_line(error)

    def _look(self) -> dict[Path, Stamp | None]:
        """The images that are in the folder now."""
        if not self.folder.is_dir():
            raise BlemishError(f"{self.folder}: is not there now.")
        return {path: _stamp(path) for path in list_images(self.folder).images}

    def _inspect_new(self, seen: dict[Path, Stamp | None]) -> None:
        """Inspects what has stayed as it was since the look before; raises what concerns more than a single file."""
        self.problem = ""
        before, self._seen = self._seen, seen
        self._done = {path: stamp for path, stamp in self._done.items() if path in seen}
        for path, stamp in seen.items():
            if self._ended.is_set():
                return
            if stamp and self._done.get(path) != stamp and before.get(path) == stamp and self._inspect(path, stamp):
                self._done[path] = stamp

    def _inspect(self, path: Path, stamp: Stamp) -> bool:
        """Inspects a file; gives whether that is done, or is to be tried again at the next look."""
        state = _state(path, stamp)
        with self._store.reading() as session:
            if was_recorded(session, self._product_id, state):
                return True
        try:
            content = read_bytes(path, self._limits.image_bytes)
        except BlemishError as error:
            self.problem = str(error)
            return False
        if _stamp(path) != stamp:  # it is being written
            return False
        try:
            arrived = Arrived(content, path.name)
            found = self._found(item_of(arrived, self._limits, source="folder", who="folder", state=state))
        except RefusedError as error:
            self.problem = str(error)
            logger.warning("%s", error)
            return True
        if found is None:
            return False
        if found.row is None:  # nobody else got the answer
            self.problem = "the disk is full, so that nothing can be recorded. Free some space."
            self._ended.wait(RETRY_SECONDS)
        return found.row is not None

    def _found(self, item: Item) -> Found | None:
        """The result, after waiting for a place in the queue; None where the watcher ended before."""
        while not self._ended.is_set():
            try:
                return self._inspecting.submit(self._product_id, item).result()
            except BusyError:
                self._ended.wait(LOOK_SECONDS)
        return None


def _stamp(path: Path) -> Stamp | None:
    """Size and time of a file; None where it has gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _state(path: Path, stamp: Stamp) -> str:
    """Path, size and time of a file, as a short text."""
    size, modified = stamp
    return hashlib.sha256(f"{path}\0{size}\0{modified}".encode(errors="surrogateescape")).hexdigest()[:32]
