"""Pages and requests stay fast after millions of inspections: no query goes through all of them, or sorts them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine
from station_help import picture, routes

PNG = {"content-type": "image/png"}
SLOW = ("SCAN inspections", "USE TEMP B-TREE FOR ORDER BY")
Query = tuple[str, tuple[object, ...]]

pytestmark = pytest.mark.skipif("BLEMISH_TEST_DATABASE" in os.environ, reason="asks SQLite for its plans")


@pytest.fixture
def queries() -> Iterator[list[Query]]:
    """The queries of inspections, as they are sent to the database."""
    sent: list[Query] = []

    def keep(_connection, _cursor, statement, parameters, *_):
        if "inspections" in statement and statement.lstrip().startswith("SELECT"):
            sent.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", keep)
    yield sent
    event.remove(Engine, "before_cursor_execute", keep)


def slow(database, queries: list[Query]) -> list[tuple[str, str]]:
    """The steps that take longer with each inspection that there is, with their queries."""
    with sqlite3.connect(database) as connection:
        plans = [(query, connection.execute(f"EXPLAIN QUERY PLAN {query}", values)) for query, values in queries]
        return [(step[3], query) for query, plan in plans for step in plan if step[3].startswith(SLOW)]


def readable(app) -> list[str]:
    """The addresses that read something of everything, or of the first product."""
    paths = [route.path for route in routes(app) if "GET" in route.methods]
    own = [path.format(product_id=1) for path in paths if "{" not in path.replace("{product_id}", "")]
    return [path for path in own if not path.endswith("/events")]


def test_no_query_goes_through_all_inspections(client, workspace, queries):
    for seed in (24, 25, 3):
        content = picture(seed, is_defect=seed > 20)
        assert client.post("/v1/products/1/inspect", content=content, headers=PNG).status_code == 200
    client.post("/v1/products/1/review-queue")
    client.post("/v1/inspections/1/review", json={"verdict": "good"})
    client.post("/v1/products/1/reviews/undo")
    for kept in ({"days": 1}, {"days": 0, "bytes": 1000}):
        client.put("/v1/admin/storage/retention", json=kept)
    paths = readable(client.app)
    assert len(paths) > 20
    for path in [*paths, *(f"/v1/products/1/inspections?verdict={one}" for one in ("good", "review", "defect"))]:
        assert client.get(path).status_code < 500
    assert len(queries) > 20
    assert slow(workspace.root / "station.db", queries) == []
