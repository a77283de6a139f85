"""A station that has a taught product: 64x64 images, a Gaussian on Gabor features.

With BLEMISH_TEST_DATABASE=postgresql+psycopg://USER@HOST/postgres the same tests run against that server, in databases
of their own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, make_url, text
from station_help import BASE, picture, teach

from blemish.station.app import create_app
from blemish.station.station import Settings
from blemish.station.tables import Product
from blemish.station.uploads import Arrived, Limits, add_image
from blemish.station.workspace import Workspace, open_workspace

SERVER = os.environ.get("BLEMISH_TEST_DATABASE")
TAUGHT = f"blemish_taught_{os.getpid()}"
_numbers = count()


def database(template: str | None = None, name: str | None = None) -> str | None:
    """The URL of a new database on the server, a copy of `template` if there is one; None for SQLite."""
    if SERVER is None:
        return None
    name = name or f"blemish_test_{os.getpid()}_{next(_numbers)}"
    server = create_engine(SERVER, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else "")))
    server.dispose()
    return make_url(SERVER).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def taught_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the product "gear": 24 good and 4 defective images, a model. Not to be changed."""
    root = tmp_path_factory.mktemp("station") / "workspace"
    workspace = open_workspace(root, database(name=TAUGHT))
    with workspace.store.writing() as session:
        product = Product(name="gear", created_by="test")
        session.add(product)
    for seed in range(28):
        arrived = Arrived(picture(seed, is_defect=seed >= 24), f"{seed:03}.png")
        add_image(workspace, product.id, arrived, "test", Limits(), is_defect=seed >= 24)
    done = teach(workspace, product.id)
    assert done.error is None
    workspace.store.close()
    return root


@pytest.fixture
def workspace(taught_folder: Path, tmp_path: Path) -> Iterator[Workspace]:
    """A copy of the taught workspace."""
    opened = open_workspace(Path(shutil.copytree(taught_folder, tmp_path / "workspace")), database(TAUGHT))
    yield opened
    opened.store.close()


@pytest.fixture
def client(workspace: Workspace) -> Iterator[TestClient]:
    """A program that talks to the taught station, which is open to this machine."""
    with TestClient(create_app(workspace, Settings(keep_free=0)), base_url=BASE) as found:
        yield found


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[TestClient]:
    """A program that talks to a station with an empty workspace."""
    opened = open_workspace(tmp_path / "empty", database())
    with TestClient(create_app(opened, Settings(keep_free=0)), base_url=BASE) as found:
        yield found
