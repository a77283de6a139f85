"""Records what was found: the image files, then the rows of several images together, then the pages are told.

Previews are drawn when the results were answered. Their rows name them before: a station that is killed meanwhile has
such a result and its image, but no map of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from blemish.data.kept import KeptImages
from blemish.errors import BlemishError
from blemish.inference.previews import encode_preview, picture_of
from blemish.station import audit
from blemish.station.blobs import new_name
from blemish.station.drawing import Drawing
from blemish.station.events import Bus
from blemish.station.keys import KeyUsedError
from blemish.station.metrics import Metrics
from blemish.station.reviewing import awaits
from blemish.station.store import is_out_of_space
from blemish.station.tables import Decision, Inspection, Model
from blemish.station.verdicts import Judged
from blemish.station.workspace import Workspace
from blemish.types import Prediction

if TYPE_CHECKING:
    from blemish.station.inspecting import Item

logger = logging.getLogger("blemish")

RETRY_SECONDS = 30.0
"""After a file could not be written, none is tried for so long."""
Condition = Literal["ok", "disk full", "not recording"]
"""What is kept of inspections: all, results without images, or nothing, because even the database cannot be written."""
CONDITIONS: tuple[Condition, ...] = get_args(Condition)


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
    kept: Future[str | None]
    """The name of the image's file, which is written meanwhile; None where it is not kept."""
    recorded: float = 0.0
    """Seconds of writing its row, and those of the results that were recorded with it."""
    row: Inspection | None = None
    """Its row; None where even the database cannot be written, so that nothing is recorded."""
    is_repeated: bool = False
    """Whether the row is that of an earlier request with the same key."""


class Recorder:
    """Writes results. Files are kept while at least `keep_free` bytes are free on the disk."""

    def __init__(self, workspace: Workspace, bus: Bus, metrics: Metrics, keep_free: int):
        self._workspace, self._bus, self._metrics, self._keep_free = workspace, bus, metrics, keep_free
        self._file_failed = self._row_failed = -RETRY_SECONDS
        self._unrecorded, self._said = 0, CONDITIONS[0]
        self.drawing = Drawing()

    @property
    def condition(self) -> Condition:
        """What is kept now."""
        now = time.monotonic()
        if now - self._row_failed < RETRY_SECONDS:
            return "not recording"
        has_failed = now - self._file_failed < RETRY_SECONDS
        return "disk full" if has_failed or self._workspace.blobs.free <= self._keep_free else "ok"

    def keep(self, item: Item) -> str | None:
        """Keeps the image's file, and gives its name; None where it is not kept."""
        return self._put(item.content, item.sha256) if self.condition == "ok" else None

    def record(self, group: Sequence[tuple[Item, Found]]) -> list[Found | Exception]:
        """The results with their rows, or the reason why there is none; several images cost one transaction.

        Where the database cannot be written because the disk is full, the results have no rows. How many those were is
        written to the audit log with the next row.
        """
        began = time.monotonic()
        images = [found.kept.result() for _, found in group]
        try:
            with self._workspace.store.writing() as session:
                recorded = [_row(session, item, found, kept) for (item, found), kept in zip(group, images, strict=True)]
                if self._unrecorded:
                    number = {"number": self._unrecorded}
                    audit.append(session, "station", "results not recorded", "disk full", None, number)
        except DBAPIError as error:
            if not is_out_of_space(error):
                raise
            self._miss([found for _, found in group], error)
            return [found for _, found in group]
        self._unrecorded, self._row_failed = 0, -RETRY_SECONDS
        for result in recorded:
            if isinstance(result, Found) and not result.is_repeated and result.row is not None:
                self._tell(result.row)
        self.tell_condition()
        spent = time.monotonic() - began
        return [replace(one, recorded=spent) if isinstance(one, Found) else one for one in recorded]

    def _miss(self, group: Sequence[Found], error: DBAPIError) -> None:
        logger.error("%d results are answered, but not recorded: %s", len(group), error.orig)
        self._row_failed = time.monotonic()
        self._unrecorded += len(group)
        for found in group:
            self._metrics.missed(found.product_id)
        self.tell_condition()

    def tell_condition(self) -> None:
        """Tells the pages what is kept, where that has changed."""
        if (now := self.condition) != self._said:
            self._said = now
            self._bus.publish("disk", condition=now)

    def draw(self, item: Item, found: Found) -> None:
        """Has the preview of a result drawn that was recorded now."""
        if found.row is not None and found.row.preview and not found.is_repeated:
            self.drawing.draw(found.row.preview, partial(self._draw, item, found, found.row.preview))

    def _draw(self, item: Item, found: Found, name: str) -> None:
        pictures = KeptImages({found.prediction.sample.image: picture_of(item.pixels)})
        level, regions = found.decision.pixel_threshold, found.judged.found
        self._put(encode_preview(found.prediction, level, pictures, regions), name)

    def _put(self, content: bytes, sha256: str | None = None) -> str | None:
        """Stores a file; None where that fails, and then no other is tried for a while.

        It is not flushed, which would take longer than all else: the result in the database is what must not be lost.
        """
        try:
            return self._workspace.blobs.put(content, sha256, flush=False)
        except BlemishError as error:
            logger.warning("an image is not kept: %s", error)
            self._file_failed = time.monotonic()
            return None

    def _tell(self, row: Inspection) -> None:
        if row.preview:
            self.drawing.expect(row.preview)
        self._metrics.inspected(row.product_id, row.verdict, row.latency)
        self._bus.publish("inspection", id=row.id, product=row.product_id, verdict=row.verdict, score=row.score)


def _row(session: Session, item: Item, found: Found, image: str | None) -> Found | Exception:
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
        image=image,
        preview=new_name() if image else None,
        source=item.source,
        latency=time.monotonic() - item.arrived,
        drawn=found.drawn,
        awaits_review=awaits(found.judged.verdict, found.drawn),
        created_by=item.who,
    )
    session.add(row)  # it gets its number with the others, at the latest when the transaction ends
    return replace(found, row=row)


def by_key(session: Session, product_id: int, key: str) -> Inspection | None:
    """The inspection that a request with this idempotency key made."""
    return session.scalar(select(Inspection).where(Inspection.product_id == product_id, Inspection.key == key))
