"""The queue of inspections that people review. Who is shown one claims it, so that two do not review the same."""

from __future__ import annotations

import time

from sqlalchemy import ColumnElement, Select, and_, or_, select
from sqlalchemy.orm import Session

from blemish.station import audit
from blemish.station.tables import Claim, Image, Inspection, Review
from blemish.station.verdicts import Verdict

CLAIM_SECONDS = 120.0
ORDER: tuple[Verdict, ...] = ("review", "defect", "good")
"""What is reviewed first."""
SAMPLED = 0.02
"""The part of the good images that is reviewed, too, to learn how many defects are missed."""


class TakenError(Exception):
    """Another person reviewed or claimed it."""


def awaits(verdict: str, drawn: float) -> bool:
    """Whether a new result is to be reviewed: all that is not called good, and SAMPLED of what is."""
    return verdict != "good" or drawn < SAMPLED


def waits(product_id: int) -> ColumnElement[bool]:
    """The condition of the inspections of a product that wait for a review."""
    return and_(Inspection.product_id == product_id, Inspection.awaits_review)


def reviews_of(product_id: int) -> Select[Review, Inspection]:
    """The reviews of a product's inspections, each with its inspection.

    The reviews are gone through, not the inspections, which are far more: as an expression the product has no index.
    """
    product = Inspection.product_id + 0
    return (
        select(Review, Inspection).join(Inspection, Inspection.id == Review.inspection_id).where(product == product_id)
    )


def next_for(session: Session, product_id: int, who: str, after: int = 0) -> Inspection | None:
    """The next inspection to review, which `who` claims; doubtful ones first, then defects, then samples.

    `after` skips up to that identifier within its kind. None where nothing is left.
    """
    now = time.time()
    other = select(Claim.inspection_id).where(Claim.until > now, Claim.who != who)
    waiting = (
        select(Inspection)
        .where(waits(product_id), Inspection.id.not_in(other), Inspection.id > after)
        .order_by(Inspection.id)
        .limit(1)
    )
    of_kinds = (session.scalar(waiting.where(Inspection.verdict == verdict)) for verdict in ORDER)
    found = next((one for one in of_kinds if one is not None), None)
    if found is not None:
        for old in session.scalars(select(Claim).where(or_(Claim.until <= now, Claim.who == who))):
            session.delete(old)
        session.flush()
        session.add(Claim(inspection_id=found.id, who=who, until=now + CLAIM_SECONDS))
    return found


def answer(session: Session, inspection: Inspection, verdict: str, reason: str, who: str) -> Review:
    """Records a review; raises TakenError where it was reviewed already, or another person looks at it."""
    claim = session.get(Claim, inspection.id)
    if inspection.reviewed is not None or (claim and claim.who != who and claim.until > time.time()):
        raise TakenError
    if claim:
        session.delete(claim)
    review = Review(inspection_id=inspection.id, verdict=verdict, reason=reason, created_by=who)
    inspection.reviewed, inspection.awaits_review = verdict, False
    session.add(review)
    new = {"verdict": verdict, "reason": reason}
    audit.append(session, who, "reviewed", f"inspection {inspection.id}", inspection.verdict, new)
    return review


def undo(session: Session, product_id: int, who: str) -> Review | None:
    """Takes back the last review of a person that counts and was not learned; None where there is none."""
    own = reviews_of(product_id).where(Review.created_by == who)
    last = own.where(Review.undone_at.is_(None), Review.learned_by.is_(None)).order_by(Review.id.desc()).limit(1)
    review: Review | None = session.scalar(last)
    if review is not None:
        review.undone_at = time.time()
        inspection = session.get_one(Inspection, review.inspection_id)
        inspection.reviewed, inspection.awaits_review = None, awaits(inspection.verdict, inspection.drawn)
        audit.append(session, who, "review undone", f"inspection {review.inspection_id}", review.verdict)
    return review


def learnable(session: Session, product_id: int) -> list[tuple[Review, Inspection]]:
    """The reviews that call an image good which was not called good, and which no model has learned yet."""
    known = select(Image.sha256).where(Image.product_id == product_id)
    rows = session.execute(
        reviews_of(product_id)
        .where(Review.verdict == "good", Review.undone_at.is_(None), Review.learned_by.is_(None))
        .where(Inspection.image.is_not(None), Inspection.verdict != "good", Inspection.sha256.not_in(known))
        .order_by(Review.id)
    )
    return [(review, inspection) for review, inspection in rows]
