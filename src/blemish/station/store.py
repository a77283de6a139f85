"""The database of a station: SQLite inside the workspace, or PostgreSQL; its schema is migrated when it is opened."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.orm import Session

from blemish.errors import BlemishError, one_line

MIGRATIONS = Path(__file__).parent / "migrations"
WRITE_LOCK = 0x626C656D
"""The advisory lock of PostgreSQL under which one writer at a time changes the database."""
BUSY_SECONDS = 30
NO_SPACE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
"""Results of SQLite on a disk that is full, or that has become read-only."""
DISK_FULL = "53100"
"""The same of PostgreSQL."""


class Store:
    """Sessions of the database. One process or thread writes at a time, any number read."""

    def __init__(self, engine: Engine):
        self._reading, self._writing = engine, engine.execution_options(writes=True)
        self.is_sqlite = engine.dialect.name == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one state of the database; its objects stay usable afterwards."""
        with Session(self._reading, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session whose changes are stored together when the block ends, or not at all if it raises."""
        with Session(self._writing, expire_on_commit=False) as session, session.begin():
            if not self.is_sqlite:
                session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITE_LOCK})
            yield session

    def connection(self) -> Connection:
        """A connection for what sessions do not do, such as a backup."""
        return self._reading.connect()

    def close(self) -> None:
        """Closes all connections."""
        self._reading.dispose()


def open_store(database: str) -> Store:
    """The store at a URL such as sqlite:////path/to/file, created and migrated to the present schema.

    Raises BlemishError where the URL is not one, the server is not reached, or a newer version wrote the database.
    """
    try:
        url = make_url(database)
        engine = create_engine(url, **_options(url.get_backend_name()))
    except (ArgumentError, NoSuchModuleError) as error:
        raise BlemishError(
            f"database: {one_line(error, 120)}. Give postgresql+psycopg://USER:PASSWORD@HOST/NAME, or leave it out."
        ) from None
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin)
    try:
        _migrate(engine)
    except CommandError as error:
        raise BlemishError(f"database {_shown(url)}: written by a newer version ({one_line(error, 120)}).") from None
    except DBAPIError as error:
        raise BlemishError(f"database {_shown(url)}: cannot be opened ({one_line(error.orig, 200)}).") from None
    return Store(engine)


def is_out_of_space(error: DBAPIError) -> bool:
    """Whether the database cannot be written because of its disk."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    return code & 0xFF in NO_SPACE if code is not None else getattr(error.orig, "sqlstate", None) == DISK_FULL


def _shown(url: Any) -> str:
    return str(url.render_as_string(hide_password=True))


def _options(backend: str) -> dict[str, Any]:
    if backend == "sqlite":
        return {"connect_args": {"timeout": BUSY_SECONDS}, "pool_size": 20, "max_overflow": 40}
    return {"pool_pre_ping": True, "pool_size": 20, "max_overflow": 40}


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # `_begin` begins transactions itself
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_SECONDS * 1000}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.execution_options(writes=True).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITE_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
