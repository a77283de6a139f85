"""How long images of inspections are kept, by age and by size. Results are kept always."""

from __future__ import annotations

import time

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from blemish.station import audit
from blemish.station.admin_schemas import Retention
from blemish.station.tables import Check, Image, Inspection, Setting
from blemish.station.workspace import Workspace

SETTING = "retention"
DAY = 86400.0
GRACE_SECONDS = 3600.0
"""A file that nothing names yet is kept for so long: its row may be being written."""


def chosen(session: Session) -> Retention:
    """The retention that was set."""
    found = session.get(Setting, SETTING)
    return Retention.model_validate(found.value) if found else Retention()


def choose(session: Session, new: Retention, who: str) -> None:
    """Sets the retention."""
    old = chosen(session).model_dump()
    session.merge(Setting(name=SETTING, value=new.model_dump()))
    audit.append(session, who, "retention set", "storage", old, new.model_dump())


def outdated(session: Session, workspace: Workspace, keep: Retention) -> list[int]:
    """The inspections whose images are not kept: those older than `days`, and the oldest beyond `bytes`."""
    rows = session.execute(
        select(Inspection.id, Inspection.image, Inspection.created_at)
        .where(Inspection.image.is_not(None))
        .order_by(Inspection.id.desc())
    )
    oldest = time.time() - keep.days * DAY if keep.days else 0.0
    total, found = 0, []
    for identifier, image, created_at in rows:
        if keep.bytes and image:
            path = workspace.blobs.path(image)
            total += path.stat().st_size if path.exists() else 0
        if created_at < oldest or (keep.bytes and total > keep.bytes):
            found.append(identifier)
    return found


def clean(workspace: Workspace, who: str) -> int:
    """Removes the images that the retention does not keep, then files that nothing names; gives how many images."""
    with workspace.store.writing() as session:
        gone = outdated(session, workspace, chosen(session))
        for start in range(0, len(gone), 500):
            some = gone[start : start + 500]
            session.execute(update(Inspection).where(Inspection.id.in_(some)).values(image=None, preview=None))
        if gone:
            audit.append(session, who, "images removed", "storage", None, {"number": len(gone)})
    _remove_unnamed(workspace)
    return len(gone)


def _remove_unnamed(workspace: Workspace) -> None:
    with workspace.store.reading() as session:
        columns = (Inspection.image, Inspection.preview, Image.sha256, Image.thumbnail, Check.preview)
        named = {name for column in columns for name in session.scalars(select(column).distinct())}
    limit = time.time() - GRACE_SECONDS
    old = [
        name
        for name in workspace.blobs.names()
        if name not in named and workspace.blobs.path(name).stat().st_mtime < limit
    ]
    workspace.blobs.remove(old)
