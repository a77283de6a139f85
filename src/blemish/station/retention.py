"""How long images of inspections are kept, by age and by size. Results are kept always.

What is not kept is removed once a day by the station itself (`housekeeping`), for the first time a day after the
retention was set: until then the page says how many images would go, and the retention can be changed.
"""

from __future__ import annotations

import time

from sqlalchemy import Select, delete, select, update
from sqlalchemy.orm import Session

from blemish.station import audit
from blemish.station.admin_schemas import Retention
from blemish.station.tables import Check, Image, Inspection, Setting
from blemish.station.workspace import Workspace

SETTING, NEXT = "retention", "retention-next"
"""The names of the settings: what is kept, and when the station removes the rest."""
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
    _schedule(session, new)
    audit.append(session, who, "retention set", "storage", old, new.model_dump())


def next_run(session: Session) -> float | None:
    """When the station removes what is not kept, in seconds since 1970; None where all is kept."""
    found = session.get(Setting, NEXT)
    return float(found.value["at"]) if found else None


def _schedule(session: Session, keep: Retention) -> None:
    """Puts the next removal a day ahead, or takes it back where there is no limit."""
    if keep == Retention():
        session.execute(delete(Setting).where(Setting.name == NEXT))
    else:
        session.merge(Setting(name=NEXT, value={"at": time.time() + DAY}))


def outdated(session: Session, workspace: Workspace, keep: Retention) -> list[int]:
    """The inspections whose images are not kept: those older than `days`, and the oldest beyond `bytes`."""
    kept = select(Inspection.id).where(Inspection.image.is_not(None))
    old = Inspection.created_at < time.time() - (keep.days or 0) * DAY
    found = list(session.scalars(kept.where(old))) if keep.days else []
    if keep.bytes:
        found += _beyond(session, workspace, keep.bytes, kept.where(~old) if keep.days else kept)
    return found


def _beyond(session: Session, workspace: Workspace, most: int, kept: Select[int]) -> list[int]:
    """Those of the kept inspections, the latest first, whose images are beyond `most` bytes with all later ones."""
    total, found = 0, []
    order = Inspection.created_at.desc(), Inspection.id.desc()
    for identifier, image in session.execute(kept.add_columns(Inspection.image).order_by(*order)):
        path = workspace.blobs.path(image)
        total += path.stat().st_size if path.exists() else 0
        if total > most:
            found.append(identifier)
    return found


def clean(workspace: Workspace, who: str) -> int:
    """Removes the images that the retention does not keep, then files that nothing names; gives how many images."""
    with workspace.store.writing() as session:
        keep = chosen(session)
        gone = outdated(session, workspace, keep)
        _schedule(session, keep)
        for start in range(0, len(gone), 500):
            some = gone[start : start + 500]
            session.execute(update(Inspection).where(Inspection.id.in_(some)).values(image=None, preview=None))
        if gone:
            audit.append(session, who, "images removed", "storage", None, {"number": len(gone)} | keep.model_dump())
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
