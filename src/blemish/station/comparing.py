"""Compares two versions of a model on the images of both check sets."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.station.schemas import CompareOut
from blemish.station.tables import Check, Decision, Image, Model
from blemish.station.verdicts import verdict_of


def compare(session: Session, before: Model, after: Model) -> CompareOut:
    """False alarms, misses and reviews of each version with its decision, and the images whose verdict changes."""
    old, new = _checks(session, before), _checks(session, after)
    common = [image for image in old if image in new]
    rows = [_row(old[image], new[image]) for image in common]
    names = dict(session.execute(select(Image.id, Image.name).where(Image.id.in_(common))).all())
    changed = [row | {"name": names[row["image"]]} for row in rows if row["before"] != row["after"]]
    return CompareOut(
        num_good=sum(not row["is_defect"] for row in rows),
        num_defective=sum(row["is_defect"] for row in rows),
        before=_counts(rows, "before"),
        after=_counts(rows, "after"),
        changed=changed,
    )


def _checks(session: Session, model: Model) -> dict[int, tuple[Check, str]]:
    """Image -> its check and verdict."""
    decision = session.get_one(Decision, model.active_decision_id)
    checks = session.scalars(select(Check).where(Check.model_id == model.id).order_by(Check.id))
    return {check.image_id: (check, verdict_of(check.score, decision, check.areas)) for check in checks}


def _row(old: tuple[Check, str], new: tuple[Check, str]) -> dict[str, Any]:
    return {
        "image": old[0].image_id,
        "check": new[0].id,
        "is_defect": old[0].is_defect,
        "before": old[1],
        "after": new[1],
        "score_before": old[0].score,
        "score_after": new[0].score,
    }


def _counts(rows: list[dict[str, Any]], which: str) -> dict[str, int]:
    return {
        "false_alarms": sum(row[which] == "defect" and not row["is_defect"] for row in rows),
        "misses": sum(row[which] == "good" and row["is_defect"] for row in rows),
        "reviews": sum(row[which] == "review" for row in rows),
    }
