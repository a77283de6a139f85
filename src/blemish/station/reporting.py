"""What happened on a line in a period: verdicts, latency, what reviewers said, and drift of the scores."""

from __future__ import annotations

import csv
import io
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from operator import itemgetter
from typing import Literal

import numpy as np
from sqlalchemy import ColumnElement, Integer, Row, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from blemish.files import csv_cells
from blemish.station.schemas import DriftOut, PeriodOut, PeriodRow
from blemish.station.tables import Check, Decision, Inspection, Model, Product

SHIFTS = (6, 14, 22)
"""The hours at which shifts begin."""
LEVEL = 0.01
"""The error rate of the test for drift: how often it is wrong where nothing has changed."""
COMPARED, NEEDED = 200, 20
"""Images that the test looks at, the latest, and how many it needs."""
QUARTER = 900
"""Seconds of a quarter of an hour: every hour, shift and day of every time zone begins with one."""
MOST_LATENCIES, FEWEST_LATENCIES = 20_000, 20
"""The 95 % quantile of the latency is that of images that are drawn at random: about so many of a period, and at least
so many of each quarter of an hour, or all."""
By = Literal["hour", "shift", "day"]
Counts = Mapping[tuple[str, str | None], int]
"""(verdict, review) -> images."""
Weighed = tuple[float, float]
"""A value, and for how many images it stands."""
Conditions = Sequence[ColumnElement[bool]]


class _Quarter(FunctionElement[int]):
    """The number of the quarter of an hour, since 1970, that a time in seconds lies in."""

    inherit_cache = True
    type = Integer()


@compiles(_Quarter)
def _floor(element: _Quarter, compiler: SQLCompiler, **options: object) -> str:
    return f"FLOOR({compiler.process(element.clauses, **options)} / {QUARTER})"


@compiles(_Quarter, "sqlite")
def _cast(element: _Quarter, compiler: SQLCompiler, **options: object) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} / {QUARTER} AS INTEGER)"  # not each has FLOOR


def period(session: Session, product: Product, days: int, by: By, until: float | None = None) -> PeriodOut:
    """The figures of the days before `until` (seconds since 1970; None: now), by hour, shift or day in the station's
    time zone.

    The database counts, so that a month of millions of images does not keep the station from answering.
    """
    end = time.time() if until is None else until
    first = datetime.fromtimestamp(end) - timedelta(days=days)
    begin = first.timestamp() if first.year > 1970 else 0.0
    within = (Inspection.product_id == product.id, Inspection.created_at >= begin, Inspection.created_at < end)
    label_of = cache(lambda number: _label(number * QUARTER, by))
    groups: dict[str, Counter[tuple[str, str | None]]] = defaultdict(Counter)
    counted = _counted(session, within)
    for number, verdict, reviewed, count in counted:
        groups[label_of(number)][verdict, reviewed] += count
    total: Counter[tuple[str, str | None]] = sum(groups.values(), Counter())
    latencies: dict[str, list[Weighed]] = defaultdict(list)
    most = max(FEWEST_LATENCIES, MOST_LATENCIES / max(1, len({number for number, *_ in counted})))
    for number, latency, weight in _latencies(session, within, most):
        latencies[label_of(number)].append((latency, weight))
    rows = [_row(label, counts, latencies[label]) for label, counts in groups.items()]
    whole = _row("", total, [one for some in latencies.values() for one in some])
    return PeriodOut(begin=begin, end=end, rows=rows, total=whole, drift=drift(session, product))


def _counted(session: Session, within: Conditions) -> list[Row[float, str, str | None, int]]:
    """(number of the quarter, verdict, review, images), by time."""
    kinds = (_Quarter(Inspection.created_at), Inspection.verdict, Inspection.reviewed)
    counted = session.execute(select(*kinds, func.count()).where(*within).group_by(*kinds))
    return sorted(counted, key=itemgetter(0))


def _latencies(session: Session, within: Conditions, most: float) -> Iterator[tuple[float, float, float]]:
    """(number of the quarter, latency, for how many images it stands) of images drawn at random, about `most` of each
    quarter.
    """
    quarter, number = _Quarter(Inspection.created_at).label("quarter"), func.count().label("number")
    sizes = select(quarter, number).where(*within).group_by(quarter).subquery()
    drawn = (
        select(sizes.c.quarter, Inspection.latency, sizes.c.number)
        .join(sizes, _Quarter(Inspection.created_at) == sizes.c.quarter)
        .where(*within, Inspection.drawn * sizes.c.number < most)
    )
    for at, latency, images in session.execute(drawn):
        yield at, latency, max(1.0, images / most)


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
    day = moment if begun else moment - timedelta(days=1)
    return f"{day:%Y-%m-%d} {begun[-1] if begun else SHIFTS[-1]:02}:00"


def _row(label: str, counts: Counts, latencies: Sequence[Weighed]) -> PeriodRow:
    def number(verdict: str, *reviews: str) -> int:
        return sum(
            count for (one, review), count in counts.items() if one == verdict and (review in reviews or not reviews)
        )

    return PeriodRow(
        label=label,
        inspected=sum(counts.values()),
        good=number("good"),
        review=number("review"),
        defect=number("defect"),
        reviewed_rejects=number("defect", "good", "defect"),
        false_rejects=number("defect", "good"),
        reviewed_good=number("good", "good", "defect"),
        missed=number("good", "defect"),
        p95=p95(*zip(*latencies, strict=True)) if latencies else None,
    )


def p95(values: Sequence[float], weights: Sequence[float] | None = None) -> float | None:
    """The smallest value that at least 95 % of them do not exceed; None without any."""
    return float(np.quantile(values, 0.95, weights=weights, method="inverted_cdf")) if values else None


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
