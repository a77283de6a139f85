"""A running station: its workspace and what works in it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from fastapi import HTTPException, Request

from blemish.station.events import Bus
from blemish.station.housekeeping import Housekeeping
from blemish.station.inspecting import Inspecting
from blemish.station.jobs import Jobs
from blemish.station.keys import Keys
from blemish.station.metrics import Metrics
from blemish.station.recording import Recorder
from blemish.station.store import Store
from blemish.station.tables import Base, Product
from blemish.station.uploads import Limits
from blemish.station.watching import Watching
from blemish.station.workspace import Workspace

Row = TypeVar("Row", bound=Base)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a station is served."""

    is_loopback: bool = True
    """Whether it is reached from its own machine alone."""
    backend: str = "auto"
    is_secure: bool = False
    """Whether browsers reach it by https, so that cookies are sent by nothing else."""
    keep_free: int = 1 << 30
    """Bytes of the disk that images are not kept in."""
    folders: tuple[Path, ...] = ()
    """Folders of the station's machine that images may be taken from."""
    limits: Limits = field(default_factory=Limits)


class Station:
    """The workspace and the threads and processes that work in it."""

    def __init__(self, workspace: Workspace, settings: Settings):
        self.workspace, self.settings = workspace, settings
        self.bus, self.metrics, self.keys = Bus(), Metrics(), Keys()
        self.recorder = Recorder(workspace, self.bus, self.metrics, settings.keep_free)
        self.inspecting = Inspecting(workspace, self.recorder, settings.backend)
        self.jobs = Jobs(workspace, self.bus)
        self.watching = Watching(workspace, self.inspecting, settings.limits)
        self.housekeeping = Housekeeping(workspace, self.recorder, self.bus)

    @property
    def store(self) -> Store:
        """The database."""
        return self.workspace.store

    @property
    def can_teach(self) -> bool:
        """Whether what teaching needs is installed."""
        return find_spec("torch") is not None

    def open(self) -> None:
        """Ends what an earlier process left."""
        self.jobs.recover()
        self.workspace.tidy()
        self.watching.open()
        self.housekeeping.open()

    def close(self) -> None:
        """Stops jobs, and inspections after what waits is done."""
        self.bus.stop()
        self.housekeeping.close()
        self.watching.close()
        self.jobs.close()
        self.inspecting.close()
        self.store.close()

    def get(self, table: type[Row], identifier: int) -> Row:
        """The row of a table; raises HTTPException 404 where there is none."""
        with self.store.reading() as session:
            found = session.get(table, identifier) if 0 < identifier < 2**63 else None
        if found is None:
            raise HTTPException(404, f"There is no {table.__name__.lower()} {identifier}.")
        return found

    def may_read(self, path: Path) -> bool:
        """Whether images may be taken from this path of the station's machine, links resolved."""
        return any(path.resolve().is_relative_to(root.resolve()) for root in self.settings.folders)

    def product(self, identifier: int) -> Product:
        """The product of this number."""
        return self.get(Product, identifier)

    @property
    def disk_free(self) -> int:
        """Bytes free on the workspace's disk."""
        return shutil.disk_usage(self.workspace.root).free


def station_of(request: Request) -> Station:
    """The station that a request is for."""
    found = request.app.state.station
    assert isinstance(found, Station)
    return found
