"""The audit log: who did what and when, with the value before and after. Each line's hash covers the line before."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Generator
from contextlib import closing
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.station.tables import AuditEntry

START = "0" * 64
"""The hash before the first line."""


def append(session: Session, who: str, what: str, subject: str, old: Any = None, new: Any = None) -> AuditEntry:
    """Adds a line; the session must be one of `Store.writing`, which has one writer at a time."""
    session.flush()
    last = session.scalars(select(AuditEntry).order_by(AuditEntry.number.desc()).limit(1)).first()
    number, before = (last.number + 1, last.hash) if last else (1, START)
    entry = AuditEntry(
        number=number, at=time.time(), who=who, what=what, subject=subject, old=_text(old), new=_text(new), hash=""
    )
    entry.hash = hash_of(entry, before)
    session.add(entry)
    return entry


def hash_of(entry: AuditEntry, before: str) -> str:
    """SHA-256 of a line and of the hash before it, in hexadecimal."""
    fields = [entry.number, repr(entry.at), entry.who, entry.what, entry.subject, entry.old, entry.new]
    return hashlib.sha256((before + "\n" + json.dumps(fields)).encode()).hexdigest()


def first_changed(session: Session) -> int | None:
    """The number of the first line that was changed, or after which lines are missing; None where all are whole."""
    before, expected = START, 1
    with closing(lines(session)) as entries:
        for entry in entries:
            if entry.number != expected or entry.hash != hash_of(entry, before):
                return expected
            before, expected = entry.hash, expected + 1
    return None


def lines(session: Session) -> Generator[AuditEntry, None, None]:
    """All lines, the oldest first."""
    found = session.scalars(select(AuditEntry).order_by(AuditEntry.number).execution_options(yield_per=500))
    try:
        yield from found
    finally:
        found.close()  # the server's cursor, also where not all lines are wanted


def _text(value: Any) -> str:
    return "" if value is None else json.dumps(value, sort_keys=True, ensure_ascii=False)
