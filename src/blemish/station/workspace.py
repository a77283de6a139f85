"""The folder of a station: its database, files and models."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from blemish.files import absolute, make_folder
from blemish.station.blobs import Blobs
from blemish.station.store import Store, open_store
from blemish.station.tables import Model

DATABASE = "station.db"
LEFTOVERS = (".import-*", ".export-*", ".download-*")
"""Patterns of what requests and jobs that were killed leave in the workspace."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """An open workspace."""

    root: Path
    database: str
    """The URL of the database."""
    store: Store
    blobs: Blobs

    def model_folder(self, model: Model) -> Path:
        """The folder of a version of a model."""
        return self.root / "models" / model.folder

    def new_model_folder(self, job_id: int) -> Path:
        """Where a job writes its model."""
        return self.root / "models" / f"job-{job_id}"

    def tidy(self) -> None:
        """Removes what killed processes left: unfinished files, and folders of models that were never recorded."""
        self.blobs.remove_leftovers()
        with self.store.reading() as session:
            named = set(session.scalars(select(Model.folder)))
        for left in LEFTOVERS:
            for path in self.root.glob(left):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        for folder in (self.root / "models").iterdir():
            if folder.name not in named:
                shutil.rmtree(folder, ignore_errors=True)


def open_workspace(root: Path, database: str | None = None) -> Workspace:
    """The workspace in a folder, which is created where it is missing; without `database` it holds its own, in SQLite.

    Raises BlemishError where the folder cannot be made or the database cannot be opened.
    """
    root = absolute(root)
    for folder in (root, root / "files", root / "models"):
        make_folder(folder)
    url = database or f"sqlite:///{root / DATABASE}"
    return Workspace(root, url, open_store(url), Blobs(root / "files"))
