"""The figures of a period: what is counted, the latency of quiet and busy hours, days on which the clocks change."""

from __future__ import annotations

import random
import time
from datetime import datetime

import numpy as np
import pytest
from sqlalchemy import insert

from blemish.station.reporting import QUARTER, p95, period
from blemish.station.tables import Inspection, Model, Product

MINUTE, HOUR = 60, 3600


@pytest.fixture
def berlin(monkeypatch):
    if not hasattr(time, "tzset"):
        pytest.skip("the time zone of a process cannot be set here")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def add(workspace, times, latency=lambda _: 0.1, verdict=lambda _: "good", reviewed=lambda _: None):
    """Puts inspections of the taught product at these times into the database."""
    draw = random.Random(0)
    with workspace.store.writing() as session:
        model = session.get_one(Model, 1)
        same = {"product_id": 1, "model_id": 1, "decision_id": model.active_decision_id, "name": "a", "regions": []}
        same |= {
            "sha256": "0",
            "width": 8,
            "height": 8,
            "score": 0.1,
            "p_value": 0.5,
            "source": "",
            "created_by": "test",
        }
        rows = [
            {"created_at": at, "latency": latency(at), "verdict": verdict(at), "reviewed": reviewed(at)}
            | {"drawn": draw.random(), "awaits_review": False}
            for at in times
        ]
        session.execute(insert(Inspection), [same | row for row in rows])


def figures(workspace, *, days=1, by="hour", until):
    with workspace.store.reading() as session:
        return period(session, session.get_one(Product, 1), days, by, until)


def at(*parts: int) -> float:
    return datetime(*parts).timestamp()


def test_every_image_counts_once_in_its_hour(workspace):
    start = at(2025, 5, 6)
    kinds = [("good", None), ("good", "defect"), ("defect", "good"), ("defect", "defect"), ("review", "unsure")]
    for index, (verdict, reviewed) in enumerate(kinds):
        times = [start + index * HOUR + QUARTER * step for step in (0, 0.5, 1, 3, 3.999)]
        add(workspace, times, verdict=lambda _, v=verdict: v, reviewed=lambda _, r=reviewed: r)
    found = figures(workspace, until=at(2025, 5, 7))
    assert [row.label for row in found.rows] == [f"2025-05-06 {hour:02}:00" for hour in range(5)]
    assert [row.inspected for row in found.rows] == [5] * 5
    total = found.total
    assert (total.inspected, total.good, total.defect, total.review) == (25, 10, 10, 5)
    assert (total.reviewed_rejects, total.false_rejects, total.reviewed_good, total.missed) == (10, 5, 5, 5)
    empty = figures(workspace, until=at(2025, 5, 6))
    assert (empty.rows, empty.total.inspected, empty.total.p95) == ([], 0, None)


def test_the_latency_of_quiet_hours_is_known_beside_busy_ones(workspace):
    start, draw = at(2025, 5, 6), random.Random(1)
    busy = [start + 10 * HOUR + second for second in range(6_000)]
    quiet = [start + hour * HOUR + 7 * MINUTE for hour in range(24) if hour not in (10, 11)]
    slow = {time: draw.expovariate(10) for time in busy}
    add(workspace, busy + quiet, latency=lambda time: slow.get(time, 5.0))
    found = figures(workspace, until=at(2025, 5, 7))
    assert [row.p95 for row in found.rows if row.inspected == 1] == [5.0] * 22
    expected = np.quantile(list(slow.values()), 0.95)
    assert found.total.p95 == pytest.approx(expected, rel=0.05)
    assert [row.p95 for row in found.rows if row.inspected > 1] == [pytest.approx(expected, rel=0.05)] * 2


def test_the_quantile_is_a_value_that_95_percent_do_not_exceed():
    assert p95(list(range(1, 101))) == 95
    assert p95([1, 2], [19, 1]) == 1
    assert p95([1, 2], [18, 2]) == 2
    assert p95([]) is None


def test_days_on_which_the_clocks_change(workspace, berlin):
    night = [at(2025, 3, 30, 22, 30), at(2025, 3, 31, 0, 15), at(2025, 3, 31, 1, 15)]
    add(workspace, night)
    found = figures(workspace, by="shift", until=at(2025, 3, 31, 6))
    assert [(row.label, row.inspected) for row in found.rows] == [("2025-03-30 22:00", 3)]
    assert figures(workspace, days=7, until=at(2025, 4, 2)).begin == at(2025, 3, 26)
    assert figures(workspace, days=7, until=at(2025, 10, 29)).begin == at(2025, 10, 22)
    assert figures(workspace, days=7, until=0.0).begin == 0.0
