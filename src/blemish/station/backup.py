"""Backups of a workspace, made while the station works, and put back while it does not."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from blemish.errors import BlemishError
from blemish.files import make_folder
from blemish.station import audit
from blemish.station.workspace import DATABASE, Workspace

BACKUPS = "backups"


def back_up(workspace: Workspace, who: str) -> Path:
    """Copies the workspace to backups/<time> in it, and gives that folder; files are linked where the disk can.

    The database is copied first: every file that it names is there then. Raises BlemishError with a database on a
    server, which has its own tools for that.
    """
    if not workspace.store.is_sqlite:
        raise BlemishError("backup: the database is on a server. Use pg_dump, and copy the folders files and models.")
    folder = workspace.root / BACKUPS / time.strftime("%Y-%m-%d-%H%M%S")
    with workspace.store.writing() as session:
        audit.append(session, who, "backup made", f"backup {folder.name}")
    with _whole(folder) as part:
        with (
            closing(sqlite3.connect(workspace.root / DATABASE)) as source,
            closing(sqlite3.connect(part / DATABASE)) as copy,
        ):
            source.backup(copy)
        for name in ("files", "models"):
            shutil.copytree(workspace.root / name, part / name, copy_function=_link, ignore=_unfinished)
    return folder


def restore(backup: Path, root: Path) -> None:
    """Puts a backup into a new workspace folder; raises BlemishError where that holds a workspace already."""
    if not (backup / DATABASE).is_file():
        raise BlemishError(f"{backup}: not a backup, since it has no {DATABASE}. Give a folder below {BACKUPS}.")
    if (root / DATABASE).exists():
        raise BlemishError(f"{root}: holds a workspace already. Give a folder that does not exist yet.")
    make_folder(root.parent)
    with _whole(root) as part:
        shutil.copytree(backup, part, dirs_exist_ok=True)


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder that is written under another name, and renamed when it is complete."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    make_folder(part)
    try:
        yield part
        if folder.is_dir():
            folder.rmdir()
        part.rename(folder)
    except OSError as error:
        raise BlemishError(f"{folder}: cannot be written ({error.strerror or error}). Free some space.") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _unfinished(_: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith((".", "job-"))]
