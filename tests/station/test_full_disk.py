"""A disk that is full: inspections are answered, what is not kept is said, and nothing that was recorded is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event, text
from station_help import BASE, picture

from blemish.station import recording
from blemish.station.app import create_app
from blemish.station.station import Settings
from blemish.station.tables import AuditEntry, Inspection
from blemish.station.workspace import Workspace, open_workspace

PNG = {"content-type": "image/png"}
of_sqlite = pytest.mark.skipif("BLEMISH_TEST_DATABASE" in os.environ, reason="about SQLite")


def inspect(client: TestClient, seed: int) -> dict:
    answer = client.post("/v1/products/1/inspect", content=picture(seed), headers=PNG | {"Idempotency-Key": str(seed)})
    assert answer.status_code == 200
    found: dict = answer.json()
    assert found["decision"] in ("good", "review", "defect")
    return found


def inspect_until(client: TestClient, is_recorded: bool, seeds: Iterator[int], most: int = 400) -> list[dict]:
    """Inspects until a result is recorded, or is not; gives all results."""
    found: list[dict] = []
    while not found or (found[-1]["id"] is not None) != is_recorded:
        assert len(found) < most
        found.append(inspect(client, next(seeds)))
    return found


def check_recorded(workspace: Workspace, answered: list[dict]) -> None:
    """Everything that was answered with a number is there, once; the number of all others is in the audit log."""
    numbers = [one["id"] for one in answered if one["id"] is not None]
    with workspace.store.reading() as session:
        assert sorted(row.id for row in session.query(Inspection)) == sorted(numbers)
        entries = session.query(AuditEntry).where(AuditEntry.what == "results not recorded")
        missed = [int(entry.new.split('"number": ')[1].rstrip("}")) for entry in entries]
    assert sum(missed) == len(answered) - len(numbers) > 0


def test_where_little_is_free_results_are_recorded_without_images(client):
    client.app.state.station.recorder._keep_free = 1 << 60
    found = inspect(client, 1)
    assert found["id"] is not None
    assert set(found["links"]) == {"self"}
    assert (client.get("/readyz").status_code, client.get("/readyz").json()["status"]) == (503, "disk full")
    assert "their images are not kept" in client.get("/").text


@of_sqlite
def test_what_the_database_cannot_take_is_answered_and_counted(client, workspace, monkeypatch):
    """SQLite is allowed no more pages, as if the disk were full."""
    monkeypatch.setattr(recording, "RETRY_SECONDS", 0.0)
    engine, seeds, most = workspace.store._reading, iter(range(10_000)), [1]

    @event.listens_for(engine, "begin")
    def _limit(connection):
        connection.exec_driver_sql(f"PRAGMA max_page_count = {most[0]}")

    answered = inspect_until(client, False, seeds)
    most[0] = 1 << 30
    answered += inspect_until(client, True, seeds)
    assert 'blemish_unrecorded_total{product="1"} 1.0' in client.get("/metrics").text
    check_recorded(workspace, answered)


@of_sqlite
def test_a_repeated_request_that_was_not_recorded_is_recorded_then(client, workspace):
    engine, is_full = workspace.store._reading, [1]

    @event.listens_for(engine, "begin")
    def _refuse(connection):
        connection.exec_driver_sql(f"PRAGMA query_only = {is_full[0]}")

    first = inspect(client, 7777)
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()) == (503, {"status": "not recording", "keeps_images": False})
    assert "not even their results are recorded" in client.get("/products/1/inspect").text
    is_full[0] = 0
    again = inspect(client, 7777)
    assert (first["id"], again["is_repeated"]) == (None, False)
    assert again["id"] is not None
    assert again["score"] == first["score"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if os.name != "posix" or os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path: Path) -> None:
    """Fills the disk to the last byte."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue


@of_sqlite
def test_a_disk_that_is_really_full(taught_folder, small_disk, monkeypatch):
    monkeypatch.setattr(recording, "RETRY_SECONDS", 0.0)
    root, filler, seeds = small_disk / "workspace", small_disk / "filler", iter(range(10_000))
    shutil.copytree(taught_folder, root)
    workspace = open_workspace(root)
    with TestClient(create_app(workspace, Settings(keep_free=1 << 20)), base_url=BASE) as client:
        answered = [inspect(client, next(seeds))]
        assert "image" in answered[0]["links"]
        fill(filler)
        answered += inspect_until(client, False, seeds)
        assert all("image" not in one["links"] for one in answered[1:])
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "disk full")
        for page in ("/", "/products/1/inspect", "/products/1/review", "/admin"):
            assert "The disk is full" in client.get(page).text
        assert client.get("/v1/products/1/inspections").status_code == 200
        assert client.post("/v1/products", json={"name": "other"}).status_code == 503
    workspace = open_workspace(root)  # on the full disk, as after a power cut
    with TestClient(create_app(workspace, Settings(keep_free=1 << 20)), base_url=BASE) as client:
        answered += [inspect(client, next(seeds)) for _ in range(3)]
        filler.unlink()
        answered += inspect_until(client, True, seeds)
        assert client.get("/readyz").json() == {"status": "ok", "keeps_images": True}
        assert "image" in inspect(client, 0)["links"]
        with workspace.store.reading() as session:
            assert session.scalar(text("PRAGMA integrity_check")) == "ok"
        numbers = {one["id"] for one in answered if one["id"] is not None}
        assert {one["id"] for one in client.get("/v1/products/1/inspections?limit=500").json()} == numbers
        assert client.get("/v1/admin/audit/check").json()["is_whole"]
