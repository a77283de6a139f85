"""The idempotency keys of images that are on their way: a key belongs to one image, from its arrival to its row."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Header
from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.station.tables import Inspection

Key = Annotated[str | None, Header(max_length=200, description="a repeated request with the same key counts once")]
"""The header Idempotency-Key of a request."""


DIGITS = 16
"""Digits of a file's SHA-256 in its key."""


class KeyUsedError(Exception):
    """The idempotency key was used for another image."""


def key_of(state: str, sha256: str) -> str:
    """The key of a file in a state, which is a short text, with this content."""
    return f"{state}:{sha256[:DIGITS]}"


def was_recorded(session: Session, product_id: int, state: str) -> bool:
    """Whether a file in this state was inspected, with whatever content."""
    known = Inspection.key.between(key_of(state, DIGITS * "0"), key_of(state, DIGITS * "f"))
    return session.scalar(select(Inspection.id).where(Inspection.product_id == product_id, known).limit(1)) is not None


class Keys:
    """(Product, key) -> the SHA-256 of its image, and how many requests have it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[tuple[int, str], tuple[str, int]] = {}

    @contextmanager
    def held(self, product_id: int, key: str | None, sha256: str) -> Iterator[None]:
        """Holds a key for an image meanwhile; raises KeyUsedError where another image holds it."""
        if key is None:
            yield
            return
        with self._lock:
            owner, count = self._held.get((product_id, key), (sha256, 0))
            if owner != sha256:
                raise KeyUsedError
            self._held[product_id, key] = owner, count + 1
        try:
            yield
        finally:
            self._release((product_id, key))

    def _release(self, held: tuple[int, str]) -> None:
        with self._lock:
            owner, count = self._held.pop(held)
            if count > 1:
                self._held[held] = owner, count - 1
