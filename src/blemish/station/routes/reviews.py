"""The queue of what people review."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from blemish.station.access import Operator
from blemish.station.reviewing import TakenError, answer, learnable, next_for, reviews_of, undo, waits
from blemish.station.routes.inspections import inspection_out
from blemish.station.schemas import QueueOut, ReviewIn, ReviewOut
from blemish.station.station import station_of
from blemish.station.tables import Decision, Inspection, Model, Review

router = APIRouter(prefix="/v1", tags=["reviews"])


@router.post("/products/{product_id}/review-queue")
def next_review(
    request: Request, product_id: int, who: Operator, after: Annotated[int, Query(ge=0, lt=2**62)] = 0
) -> QueueOut:
    """The next inspection to review, which is claimed for two minutes; `after` skips one."""
    station = station_of(request)
    station.product(product_id)
    with station.store.writing() as session:
        found = next_for(session, product_id, who.name, after) or (after and next_for(session, product_id, who.name))
        return _queue(session, product_id, found or None)


@router.post("/inspections/{inspection_id}/review", status_code=201)
def review(request: Request, inspection_id: int, given: ReviewIn, who: Operator) -> ReviewOut:
    """Says what an image truly shows; 409 where another person reviewed it or looks at it."""
    station = station_of(request)
    station.get(Inspection, inspection_id)
    try:
        with station.store.writing() as session:
            found = answer(session, session.get_one(Inspection, inspection_id), given.verdict, given.reason, who.name)
            session.flush()
            product = session.get_one(Inspection, inspection_id).product_id
    except TakenError:
        raise HTTPException(409, "Another person reviewed this image, or looks at it now.") from None
    station.bus.publish("review", product=product, inspection=inspection_id)
    return review_out(found)


@router.post("/products/{product_id}/reviews/undo")
def undo_review(request: Request, product_id: int, who: Operator) -> ReviewOut:
    """Takes your last review back."""
    station = station_of(request)
    station.product(product_id)
    with station.store.writing() as session:
        found = undo(session, product_id, who.name)
    if found is None:
        raise HTTPException(409, "There is no review of yours to take back.")
    station.bus.publish("review", product=product_id, inspection=found.inspection_id)
    return review_out(found)


@router.get("/products/{product_id}/reviews")
def list_reviews(
    request: Request, product_id: int, _: Operator, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[ReviewOut]:
    """Reviews, the latest first."""
    station = station_of(request)
    station.product(product_id)
    with station.store.reading() as session:
        rows = session.scalars(reviews_of(product_id).order_by(Review.id.desc()).limit(limit))
        return [review_out(row) for row in rows]


def _queue(session: Session, product_id: int, found: Inspection | None) -> QueueOut:
    number = session.scalar(select(func.count()).select_from(Inspection).where(waits(product_id))) or 0
    shown = None
    if found is not None:
        model, decision = session.get_one(Model, found.model_id), session.get_one(Decision, found.decision_id)
        shown = inspection_out(found, model, decision)
    return QueueOut(waiting=number, learnable=len(learnable(session, product_id)), next=shown)


def review_out(found: Review) -> ReviewOut:
    """The review as the interface gives it."""
    return ReviewOut(
        id=found.id,
        inspection=found.inspection_id,
        verdict=found.verdict,
        reason=found.reason,
        created_by=found.created_by,
        created_at=found.created_at,
        undone_at=found.undone_at,
    )
