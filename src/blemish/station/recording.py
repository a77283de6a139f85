"""Records what was found: the files, then the rows of several images together, then the pages are told."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from blemish.errors import BlemishError
from blemish.inference.previews import encode_preview
from blemish.station.events import Bus
from blemish.station.metrics import Metrics
from blemish.station.reviewing import awaits
from blemish.station.tables import Decision, Inspection, Model
from blemish.station.verdicts import Judged
from blemish.station.workspace import Workspace
from blemish.types import Prediction

if TYPE_CHECKING:
    from blemish.station.inspecting import Item

logger = logging.getLogger("blemish")


RETRY_SECONDS = 30.0
"""After a file could not be written, none is tried for so long."""


class KeyUsedError(Exception):
    """The idempotency key was used for another image."""


@dataclass(frozen=True, slots=True)
class Found:
    """The result for one image."""

    product_id: int
    model: Model
    decision: Decision
    judged: Judged
    prediction: Prediction
    decoded: float
    waited: float
    computed: float
    """Seconds of decoding, in the queue, and of computing."""
    drawn: float
    row: Inspection | None = None
    """Its row; None where the disk is full, so that nothing is recorded."""
    is_repeated: bool = False
    """Whether the row is that of an earlier request with the same key."""


class Recorder:
    """Writes results. Files are kept while at least `keep_free` bytes are free on the disk."""

    def __init__(self, workspace: Workspace, bus: Bus, metrics: Metrics, keep_free: int):
        self._workspace, self._bus, self._metrics, self._keep_free = workspace, bus, metrics, keep_free
        self._failed_at: float | None = None

    @property
    def is_full(self) -> bool:
        """Whether images are not kept now, because the disk is full."""
        has_failed = self._failed_at is not None and time.monotonic() - self._failed_at < RETRY_SECONDS
        return has_failed or self._workspace.blobs.free < self._keep_free

    def record(self, group: Sequence[tuple[Item, Found]]) -> list[Found | Exception]:
        """The results with their rows, or the reason why there is none; several images cost one transaction."""
        files = [self._files(item, found) for item, found in group]
        try:
            with self._workspace.store.writing() as session:
                recorded = [_row(session, item, found, kept) for (item, found), kept in zip(group, files, strict=True)]
        except OperationalError as error:
            if "full" not in str(error).lower() and "no space" not in str(error).lower():
                raise
            self._failed_at = time.monotonic()
            return [found for _, found in group]
        for result in recorded:
            if isinstance(result, Found) and not result.is_repeated and result.row is not None:
                self._tell(result.row)
        return recorded

    def _files(self, item: Item, found: Found) -> tuple[str | None, str | None]:
        """The names of the image's file and of its preview; None where they are not kept."""
        if self.is_full:
            return None, None
        preview = encode_preview(found.prediction, found.decision.pixel_threshold)
        try:
            # Not flushed, which would take longer than all else: the result in the database is what must not be lost.
            put = partial(self._workspace.blobs.put, flush=False)
            return put(item.content), put(preview)
        except BlemishError as error:
            logger.warning("an image is not kept: %s", error)
            self._failed_at = time.monotonic()
            return None, None

    def _tell(self, row: Inspection) -> None:
        self._metrics.inspected(row.product_id, row.verdict, row.latency)
        self._bus.publish("inspection", id=row.id, product=row.product_id, verdict=row.verdict, score=row.score)


def _row(session: Session, item: Item, found: Found, kept: tuple[str | None, str | None]) -> Found | Exception:
    if item.key is not None and (known := by_key(session, found.product_id, item.key)):
        return KeyUsedError() if known.sha256 != item.sha256 else replace(found, row=known, is_repeated=True)
    row = Inspection(
        product_id=found.product_id,
        model_id=found.model.id,
        decision_id=found.decision.id,
        key=item.key,
        name=item.name,
        sha256=item.sha256,
        width=found.prediction.map.shape[1],
        height=found.prediction.map.shape[0],
        score=found.prediction.score,
        p_value=found.judged.p_value,
        verdict=found.judged.verdict,
        regions=found.judged.regions,
        image=kept[0],
        preview=kept[1],
        source=item.source,
        latency=time.monotonic() - item.arrived,
        drawn=found.drawn,
        awaits_review=awaits(found.judged.verdict, found.drawn),
        created_by=item.who,
    )
    session.add(row)
    session.flush()
    return replace(found, row=row)


def by_key(session: Session, product_id: int, key: str) -> Inspection | None:
    """The inspection that a request with this idempotency key made."""
    return session.scalar(select(Inspection).where(Inspection.product_id == product_id, Inspection.key == key))
