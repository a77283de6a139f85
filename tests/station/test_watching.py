"""A watched folder while files, its disk and the model misbehave: no image is forgotten, none counted twice."""

from __future__ import annotations

import os
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from station_help import picture, wait_for

from blemish.errors import BlemishError
from blemish.station import watching
from blemish.station.inspecting import NotReadyError, RefusedError
from blemish.station.uploads import Limits
from blemish.station.watching import Watcher

FOUND = SimpleNamespace(row=object())


class Model:
    """Stands for what inspects: not taught at first; notes what is asked, and raises what it is told to."""

    def __init__(self):
        self.asked: list[str] = []
        self.names: list[str] = []
        """What was asked since it is taught."""
        self.problem: Exception | None = NotReadyError()

    def submit(self, _, item):
        (self.asked if isinstance(self.problem, NotReadyError) else self.names).append(item.name)
        future: Future = Future()
        if self.problem is None:
            future.set_result(FOUND)
        else:
            future.set_exception(self.problem)
        return future


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "line"
    made.mkdir()
    for number in range(3):
        (made / f"{number}.png").write_bytes(picture(number))
    return made


@pytest.fixture
def watcher(folder, workspace, model, monkeypatch):
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.05)
    made = Watcher(1, folder, workspace.store, model, Limits())
    yield made
    made.end()


def all_done(watcher):
    return len(watcher._done) == len(list(watcher.folder.iterdir()))


def test_a_folder_that_was_away_loses_no_image(folder, model, watcher):
    wait_for(lambda: model.asked)
    folder.rename(folder.with_name("away"))
    wait_for(lambda: "is not there" in watcher.problem)
    model.problem = None
    folder.with_name("away").rename(folder)
    wait_for(lambda: all_done(watcher))
    assert set(model.names) == {"0.png", "1.png", "2.png"}


@pytest.mark.parametrize("problem", [BlemishError("the model cannot be read"), RuntimeError("out of memory")])
def test_an_error_of_the_model_is_told_and_tried_again(model, watcher, problem):
    model.problem = problem
    wait_for(lambda: watcher.problem == str(problem))
    assert not watcher._done
    model.problem = None
    wait_for(lambda: all_done(watcher))
    assert watcher.problem == ""


def test_a_product_that_is_not_taught_has_one_file_read_at_each_look(model, watcher):
    wait_for(lambda: len(model.asked) > 3)
    assert set(model.asked) == {"0.png"}
    assert "not been taught" in watcher.problem


def test_a_refused_image_is_done_and_a_file_that_cannot_be_read_is_tried_again(folder, model, watcher, monkeypatch):
    model.problem = RefusedError("0.png: lies outside the region of interest")
    wait_for(lambda: all_done(watcher))
    assert model.names == ["0.png", "1.png", "2.png"]
    model.problem, read = None, watching.read_bytes

    def fail(path, largest):
        raise BlemishError(f"{path}: Permission denied")

    monkeypatch.setattr(watching, "read_bytes", fail)
    (folder / "3.png").write_bytes(picture(3))
    wait_for(lambda: "Permission denied" in watcher.problem)
    monkeypatch.setattr(watching, "read_bytes", read)
    wait_for(lambda: model.names[3:] == ["3.png"])


def test_a_file_that_is_rewritten_while_it_is_read_is_inspected_once(folder, model, watcher, monkeypatch):
    read = watching.read_bytes

    def rewritten(path, largest):
        if path.name == "1.png" and path.stat().st_mtime_ns != 10**18:
            content = read(path, largest)
            path.write_bytes(picture(9))
            os.utime(path, ns=(10**18, 10**18))
            return content
        return read(path, largest)

    monkeypatch.setattr(watching, "read_bytes", rewritten)
    model.problem = None
    wait_for(lambda: all_done(watcher))
    assert sorted(model.names) == ["0.png", "1.png", "2.png"]
