"""The shape of the code: rooms in one order, no circle of imports, no module too long to read."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
LONGEST = 400
"""Lines of a module."""
BESIDE = {"__init__.py", "__main__.py", "errors.py", "files.py", "parallel.py", "progress.py", "types.py"}
"""What stands beside the rooms."""


@pytest.fixture(scope="module")
def rooms() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rooms", ROOT / "docs" / "rooms.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_room_imports_only_rooms_before_it(rooms):
    upward = [
        f"{room} imports {other}"
        for room, others in rooms.arrows().items()
        for other in others
        if rooms.ROOMS.index(other) > rooms.ROOMS.index(room)
    ]
    assert upward == []


def test_no_modules_import_each_other_in_a_circle(rooms):
    assert rooms.circles() == []


def test_every_folder_is_a_room_and_few_modules_stand_beside_them(rooms):
    entries = {path.name for path in rooms.SOURCE.iterdir()} - {"__pycache__", "py.typed"}
    assert {name for name in entries if name.endswith(".py")} == BESIDE
    assert {name for name in entries if not name.endswith(".py")} == set(rooms.ROOMS)


def test_no_module_is_too_long_to_read(rooms):
    lengths = {path.name: len(path.read_text().splitlines()) for path in rooms.SOURCE.rglob("*.py")}
    assert {name: number for name, number in lengths.items() if number > LONGEST} == {}


def test_the_drawing_in_the_documents_is_that_of_the_code(rooms):
    assert rooms.draw() in (ROOT / "docs" / "architecture.md").read_text()


def test_a_circle_would_be_found(rooms, tmp_path, monkeypatch):
    (tmp_path / "__init__.py").touch()
    (tmp_path / "first.py").write_text("def f():\n    from blemish import second\n")
    (tmp_path / "second.py").write_text("from typing import TYPE_CHECKING\nfrom blemish.third import name\n")
    (tmp_path / "third.py").write_text("import blemish.first\n")
    monkeypatch.setattr(rooms, "SOURCE", tmp_path)
    assert rooms.circles() == [["blemish.first", "blemish.second", "blemish.third"]]
    (tmp_path / "third.py").write_text("if TYPE_CHECKING:\n    import blemish.first\n")
    assert rooms.circles() == []
