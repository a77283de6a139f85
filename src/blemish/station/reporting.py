"""What happened on a line in a period: verdicts, latency, what reviewers said, and drift of the scores."""

from __future__ import annotations

import csv
import io
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.files import csv_cells
from blemish.station.schemas import DriftOut, PeriodOut, PeriodRow
from blemish.station.tables import Check, Decision, Inspection, Model, Product

DAY = 86400.0
SHIFTS = (6, 14, 22)
"""The hours at which shifts begin."""
LEVEL = 0.01
"""The error rate of the test for drift: how often it is wrong where nothing has changed."""
COMPARED, NEEDED = 200, 20
"""Images that the test looks at, the latest, and how many it needs."""
By = Literal["hour", "shift", "day"]
Line = tuple[float, str, float, str | None]
"""created_at, verdict, latency, review."""


def period(session: Session, product: Product, days: int, by: By, until: float | None = None) -> PeriodOut:
    """The figures of the days before `until` (seconds since 1970; None: now), by hour, shift or day in the station's
    time zone.
    """
    end = time.time() if until is None else until
    begin = end - days * DAY
    lines: list[Line] = [
        (at, verdict, latency, reviewed)
        for at, verdict, latency, reviewed in session.execute(
            select(Inspection.created_at, Inspection.verdict, Inspection.latency, Inspection.reviewed)
            .where(Inspection.product_id == product.id, Inspection.created_at >= begin, Inspection.created_at < end)
            .order_by(Inspection.created_at)
        )
    ]
    groups: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        groups[_label(line[0], by)].append(line)
    rows = [_row(label, some) for label, some in groups.items()]
    return PeriodOut(begin=begin, end=end, rows=rows, total=_row("", lines), drift=drift(session, product))


def as_csv(found: PeriodOut) -> str:
    """The rows as CSV; no cell is read as a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(PeriodRow.model_fields)
    for row in found.rows:
        writer.writerow(csv_cells(row.model_dump().values()))
    return text.getvalue()


def _label(at: float, by: By) -> str:
    moment = datetime.fromtimestamp(at)
    if by == "day":
        return f"{moment:%Y-%m-%d}"
    if by == "hour":
        return f"{moment:%Y-%m-%d %H}:00"
    begun = [hour for hour in SHIFTS if hour <= moment.hour]
    day = moment if begun else datetime.fromtimestamp(at - DAY)
    return f"{day:%Y-%m-%d} {begun[-1] if begun else SHIFTS[-1]:02}:00"


def _row(label: str, lines: Sequence[Line]) -> PeriodRow:
    verdicts = [verdict for _, verdict, _, _ in lines]
    rejects = [reviewed for _, verdict, _, reviewed in lines if verdict == "defect" and reviewed in ("good", "defect")]
    passed = [reviewed for _, verdict, _, reviewed in lines if verdict == "good" and reviewed in ("good", "defect")]
    return PeriodRow(
        label=label,
        inspected=len(lines),
        good=verdicts.count("good"),
        review=verdicts.count("review"),
        defect=verdicts.count("defect"),
        reviewed_rejects=len(rejects),
        false_rejects=rejects.count("good"),
        reviewed_good=len(passed),
        missed=passed.count("defect"),
        p95=p95([latency for _, _, latency, _ in lines]),
    )


def p95(latencies: Sequence[float]) -> float | None:
    """The 95 % quantile; None without any."""
    return float(np.quantile(latencies, 0.95)) if latencies else None


def drift(session: Session, product: Product) -> DriftOut:
    """Whether the latest images that the active model did not reject score unlike the held-out good ones.

    Both are cut off at the same threshold, so that they are exchangeable where nothing has changed.
    """
    found = DriftOut(p_value=None, is_drift=False, level=LEVEL, num_images=0, num_held_out=0, needed=NEEDED)
    model = session.get(Model, product.active_model_id) if product.active_model_id else None
    if model is None:
        return found
    limit = session.get_one(Decision, model.active_decision_id).defect_threshold
    scores = list(
        session.scalars(
            select(Inspection.score)
            .where(Inspection.model_id == model.id, Inspection.score <= limit)
            .order_by(Inspection.id.desc())
            .limit(COMPARED)
        )
    )
    held_out = session.scalars(
        select(Check.score).where(Check.model_id == model.id, Check.is_defect.is_(False), Check.score <= limit)
    )
    return compared(scores, list(held_out))


def compared(scores: Sequence[float], held_out: Sequence[float]) -> DriftOut:
    """The rank test of Mann and Whitney (1947) of both samples, two-sided, by the normal approximation with ties."""
    found = DriftOut(
        p_value=None,
        is_drift=False,
        level=LEVEL,
        num_images=len(scores),
        num_held_out=len(held_out),
        needed=NEEDED,
    )
    if len(scores) < NEEDED or len(held_out) < 3:
        return found
    values = np.concatenate([scores, held_out])
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n, m, total = len(scores), len(held_out), len(values)
    statistic = float(ranks[:n].sum()) - n * (n + 1) / 2
    ties = float((counts.astype(np.float64) ** 3 - counts).sum()) / (total * (total - 1))
    spread = math.sqrt(max(n * m / 12 * (total + 1 - ties), 0.0))
    distance = max(abs(statistic - n * m / 2) - 0.5, 0.0)
    p_value = math.erfc(distance / spread / math.sqrt(2)) if spread else 1.0
    return found.model_copy(update={"p_value": p_value, "is_drift": p_value < LEVEL})
