"""The database and the files: the schema, both kinds of databases, files by content, backups, retention."""

from __future__ import annotations

import os
import sqlite3
import time
import tomllib
from functools import partial
from pathlib import Path
from string import Formatter

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from station_help import picture

from blemish.errors import BlemishError
from blemish.station import audit, backup, checks, retention
from blemish.station.admin_schemas import Retention
from blemish.station.blobs import Blobs
from blemish.station.reporting import compared
from blemish.station.retention import DAY
from blemish.station.store import open_store
from blemish.station.tables import Base, Decision, Image, Inspection, Product
from blemish.station.texts.reader import LANGUAGES, preferred, texts_of
from blemish.station.uploads import day_in, shown_name
from blemish.station.workspace import open_workspace

PNG = {"content-type": "image/png"}
of_sqlite = pytest.mark.skipif("BLEMISH_TEST_DATABASE" in os.environ, reason="about SQLite")


def test_the_migrations_make_the_tables(tmp_path):
    store = open_store(f"sqlite:///{tmp_path / 'a.db'}")
    with store.connection() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    store.close()


def test_a_database_of_the_first_version_is_migrated_with_what_it_holds(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with monkeypatch.context() as patched:
        patched.setattr(command, "upgrade", partial(lambda real, config, _: real(config, "0001"), command.upgrade))
        store = open_store(url)
    with store.writing() as session:
        session.execute(text("INSERT INTO products (name, created_by, created_at) VALUES ('gear', 'me', 1)"))
    store.close()
    store = open_store(url)
    with store.reading() as session:
        assert session.scalars(select(Product)).one().name == "gear"
        assert session.scalars(select(Decision)).all() == []
    store.close()


def test_a_database_of_a_newer_version_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path / 'a.db'}"
    store = open_store(url)
    with store.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    with pytest.raises(BlemishError, match="newer version"):
        open_store(url)


@pytest.mark.parametrize("url", ["nonsense", "oracle+none://x", "sqlite:////nowhere/at/all.db"])
def test_a_wrong_database_is_one_line(url):
    with pytest.raises(BlemishError, match="database"):
        open_store(url)


def test_changes_are_stored_together_or_not_at_all(workspace):
    def change():
        with workspace.store.writing() as session:
            audit.append(session, "me", "x", "y")
            session.add_all([Product(name="same", created_by="me"), Product(name="same", created_by="me")])

    with pytest.raises(IntegrityError):
        change()
    with workspace.store.reading() as session:
        assert {product.name for product in session.query(Product)} == {"gear"}
        assert audit.first_changed(session) is None


def test_files_are_kept_once_by_their_content(tmp_path):
    blobs = Blobs(tmp_path)
    first, second = blobs.put(b"one"), blobs.put(b"one")
    assert first == second
    assert list(blobs.names()) == [first]
    assert blobs.read(first) == b"one"
    (tmp_path / first[:2] / ".new-left").write_bytes(b"half")
    blobs.remove_leftovers()
    assert blobs.size == 3
    assert blobs.remove([first]) == 3
    assert blobs.read(first) is None
    for name in ("../../etc/passwd", "", "A" * 64):
        with pytest.raises(ValueError, match="SHA-256"):
            blobs.path(name)


@of_sqlite
def test_a_backup_is_put_back_whole(client, workspace, tmp_path):
    found = client.post("/v1/products/1/inspect", content=picture(1), headers=PNG).json()
    folder = Path(client.post("/v1/admin/backup").json()["folder"])
    client.post("/v1/products/1/inspect", content=picture(2), headers=PNG)
    backup.restore(folder, tmp_path / "restored")
    restored = open_workspace(tmp_path / "restored")
    with restored.store.reading() as session:
        assert [row.id for row in session.execute(text("SELECT id FROM inspections"))] == [found["id"]]
        assert audit.first_changed(session) is None
        assert all(restored.blobs.read(image.sha256) for image in session.query(Image))
    restored.store.close()
    with pytest.raises(BlemishError, match="holds a workspace already"):
        backup.restore(folder, tmp_path / "restored")
    with pytest.raises(BlemishError, match="not a backup"):
        backup.restore(tmp_path, tmp_path / "other")


def test_the_retention_says_before_it_removes(client, workspace):
    for seed in range(3):
        client.post("/v1/products/1/inspect", content=picture(seed), headers=PNG)
    with workspace.store.writing() as session:
        session.execute(text("UPDATE inspections SET created_at = created_at - 864000 WHERE id = 1"))
    said = client.put("/v1/admin/storage/retention", json={"days": 5}).json()
    assert said["would_remove"] == 1
    assert client.get("/v1/inspections/1/image").status_code == 200
    assert client.post("/v1/admin/storage/clean").json()["would_remove"] == 0
    assert client.get("/v1/inspections/1/image").status_code == 404
    assert client.get("/v1/inspections/1").json()["links"] == {"self": "/v1/inspections/1"}
    assert client.get("/v1/inspections/2/image").status_code == 200
    with workspace.store.reading() as session:
        assert retention.outdated(session, workspace, Retention(bytes=1 << 20)) == []


def test_the_station_removes_by_itself_a_day_after_the_retention_was_set(client, workspace):
    for seed in range(3):
        client.post("/v1/products/1/inspect", content=picture(seed), headers=PNG)
    with workspace.store.writing() as session:
        session.execute(text("UPDATE inspections SET created_at = created_at - 864000 WHERE id <= 2"))
    assert client.get("/v1/admin/storage").json()["removes_at"] is None
    before, keeping = time.time(), client.app.state.station.housekeeping
    said = client.put("/v1/admin/storage/retention", json={"days": 5}).json()
    assert said["would_remove"] == 2
    assert before + DAY <= said["removes_at"] <= time.time() + DAY
    assert keeping.look(said["removes_at"] - 1) == 0
    assert client.get("/v1/inspections/1/image").status_code == 200
    assert keeping.look(said["removes_at"] + 1) == 2
    assert client.get("/v1/inspections/1/image").status_code == 404
    last = client.get("/v1/admin/audit?limit=1").json()[0]
    assert (last["who"], last["what"], last["new"]["number"]) == ("station", "images removed", 2)
    assert client.get("/v1/admin/storage").json()["removes_at"] >= before + DAY
    assert client.put("/v1/admin/storage/retention", json={}).json()["removes_at"] is None
    assert keeping.look(time.time() + 10 * DAY) == 0


def test_images_beyond_a_size_are_the_oldest(client, workspace):
    for seed in range(3):
        client.post("/v1/products/1/inspect", content=picture(seed), headers=PNG)
    with workspace.store.reading() as session:
        size = workspace.blobs.path(session.get(Inspection, 3).image).stat().st_size
        keep = Retention.model_construct(days=None, bytes=2 * size + size // 2)
        assert retention.outdated(session, workspace, keep) == [1]


def image(number, **fields):
    plain = {"width": 64, "height": 64, "brightness": 0.5, "sharpness": 100.0, "is_defect": False, "taken_at": None}
    return Image(id=number, pixel_sha256=str(number), name=str(number), **plain | fields)


def test_outliers_of_blur_and_exposure_are_found():
    usual = [image(number, sharpness=100 + number, brightness=0.5 + number / 1000) for number in range(30)]
    odd = [image(31, sharpness=5), image(32, brightness=0.2), image(33, brightness=0.9)]
    found = {finding.kind: finding.images for finding in checks.find([*usual, *odd])}
    assert found == {"blurred": (31,), "dark": (32,), "bright": (33,)}
    assert checks.find(usual) == []


def test_copies_and_days_are_found():
    images = [image(number, taken_at=1.7e9 + number) for number in range(25)]
    images += [image(40, taken_at=1.7e9), image(41, is_defect=True)]
    images[25].pixel_sha256, images[26].pixel_sha256 = "3", "4"
    found = {finding.kind: finding for finding in checks.find(images)}
    assert set(found) == {"good_and_defect", "duplicates", "one_day"}
    assert found["good_and_defect"].images == (4, 41)
    assert found["one_day"].values == {"day": "2023-11-14"}


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a/b/c.png", "c.png"),
        ("..\\..\\c.png", "c.png"),
        ("", "image"),
        ("a\nb\x00.png", "a b\\x00.png"),
        (None, "image"),
    ],
)
def test_names_are_for_display_alone(given, shown):
    assert shown_name(given) == shown


def test_a_day_in_a_name():
    assert day_in("cam_2024-02-29_001.png") == 1709164800.0
    assert day_in("cam_2023-02-29.png") is None
    assert day_in("part_120240229.png") is None


def test_every_language_has_every_text_with_the_same_values():
    def fields(words):
        return {key: {name for _, name, _, _ in Formatter().parse(text) if name} for key, text in words.items()}

    english = fields(texts_of("en").words)
    for language in LANGUAGES:
        assert fields(texts_of(language).words) == english
    assert preferred("fr-FR, de;q=0.8, en;q=0.7") == "de"
    assert preferred("xx") == "en"


def test_the_pages_use_only_texts_that_there_are():
    import re

    folder = Path(checks.__file__).parent
    known = set(tomllib.loads((folder / "texts" / "en.toml").read_text()))
    used = set()
    for path in [*folder.glob("templates/*.html"), *folder.glob("static/*.js")]:
        used |= set(re.findall(r"""\bt\(["'](\w+)["'][,)]""", path.read_text()))
    assert used <= known


def test_the_page_has_words_for_all_that_the_audit_log_says():
    import re

    folder, calls = Path(checks.__file__).parent, r'audit\.append\(\s*session,\s*[^,]+,\s*f?"([^"]+)",\s*f?"?([^"{,)]+)'
    said = {call for path in folder.rglob("*.py") for call in re.findall(calls, path.read_text())}
    assert len(said) > 20
    jobs, known = ("teach", "learn", "export", "import"), set(texts_of("en").words)
    done = {re.sub(r"\{(job\.)?kind\}", job, what) for what, _ in said for job in jobs}
    assert {"did_" + what.replace(" ", "_") for what in done} <= known
    subjects = {subject.strip().replace(" ", "_") for _, subject in said} - {"subject"}
    assert {f"on_{subject}" for subject in subjects} <= known


def test_drift_is_found_at_the_stated_rate():
    import numpy as np

    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(300):
        scores = generator.normal(size=60)
        wrong += compared(scores[:40], scores[40:]).is_drift
    assert wrong <= 10  # expected are 3
    assert compared(generator.normal(2, 1, 40), generator.normal(size=20)).is_drift
    assert compared([1.0] * 30, [1.0] * 10).p_value == 1.0
    assert compared([1.0] * 5, [1.0] * 10).p_value is None


@of_sqlite
def test_sqlite_writes_ahead_and_in_full(workspace):
    with sqlite3.connect(workspace.root / "station.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    with workspace.store.connection() as found:
        assert found.exec_driver_sql("PRAGMA synchronous").scalar() == 2
