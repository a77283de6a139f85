"""`blemish serve`: addresses, the first admin, the lock of a workspace, the demonstration."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading

import pytest
from station_help import picture, teach

from blemish import load
from blemish.cli import main
from blemish.errors import BlemishError
from blemish.model.locking import locked
from blemish.station import demo
from blemish.station.accounts import log_in
from blemish.station.events import Bus
from blemish.station.jobs import HERE, Jobs
from blemish.station.serve import Address, check_address, serve
from blemish.station.station import Settings
from blemish.station.tables import Inspection, Job, Review
from blemish.station.workspace import open_workspace

of_sqlite = pytest.mark.skipif("BLEMISH_TEST_DATABASE" in os.environ, reason="about SQLite")


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["serve", *arguments])
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out, said.err


def test_an_address_that_others_reach_needs_an_admin(tmp_path, capsys):
    code, _, error = run([str(tmp_path / "w"), "--host", "0.0.0.0"], capsys)
    assert code == 2
    assert "--init" in " ".join(error.split())


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("example.com", False),
    ],
)
def test_which_addresses_only_this_machine_reaches(host, is_loopback):
    assert Address(host, 1).is_loopback is is_loopback


def test_the_first_admin_is_made_once(tmp_path, capsys, monkeypatch):
    workspace = str(tmp_path / "w")
    code, _, error = run([workspace, "--init"], capsys)
    assert code == 2
    assert "BLEMISH_ADMIN_PASSWORD" in error
    monkeypatch.setenv("BLEMISH_ADMIN_PASSWORD", "short")
    assert run([workspace, "--init"], capsys)[0] == 2
    monkeypatch.setenv("BLEMISH_ADMIN_PASSWORD", "correct horse")
    assert run([workspace, "--init", "--admin", "ann"], capsys)[0] == 0
    code, _, error = run([workspace, "--init"], capsys)
    assert code == 2
    assert "has users already" in error
    opened = open_workspace(tmp_path / "w")
    assert log_in(opened.store, "ann", "correct horse")[1].role == "admin"
    check_address(opened, Address("0.0.0.0", 80))
    with pytest.raises(BlemishError, match="no such file"):
        check_address(opened, Address("0.0.0.0", 80, tmp_path / "none.pem"))
    opened.store.close()


def test_a_workspace_is_served_by_one_process(tmp_path):
    opened = open_workspace(tmp_path / "w")
    with locked(opened.root, "another station"):
        problems = []

        def attempt():
            try:
                serve(opened, Address("127.0.0.1", 1), Settings())
            except BlemishError as error:
                problems.append(str(error))

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
    assert "another station" in problems[0]
    opened.store.close()


@pytest.mark.parametrize("option", [["--database", "nonsense"], ["--restore", "/nowhere"], ["--port", "0"]])
def test_wrong_options_are_one_line(tmp_path, capsys, option):
    code, _, error = run([str(tmp_path / "w"), *option], capsys)
    assert code == 2
    assert "Traceback" not in error


def test_a_port_in_use_and_a_bad_certificate_are_one_line(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, _, error = run([str(tmp_path / "w"), "--port", port], capsys)
    assert code == 2
    assert "Address already in use" in error
    (tmp_path / "bad.pem").write_text("no certificate")
    options = ["--port", port, "--certificate", str(tmp_path / "bad.pem")]
    code, _, error = run([str(tmp_path / "w"), *options], capsys)
    assert code == 2
    assert "cannot be used" in " ".join(error.split())


@pytest.mark.slow
def test_a_job_ends_with_its_station(workspace):
    """What the process of a killed station started ends by itself, and is marked when the next one opens."""
    with workspace.store.writing() as session:
        made = Job(product_id=1, kind="teach", settings={}, created_by="test", station=HERE, log=[])
        session.add(made)
    search = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-m", "blemish.station.job"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": search})
    given = {"root": str(workspace.root), "database": workspace.database, "job": made.id}
    process.stdin.write(json.dumps(given) + "\n")
    process.stdin.close()
    assert process.wait(300) == 1
    Jobs(workspace, Bus()).recover()
    workspace.tidy()
    with workspace.store.reading() as session:
        found = session.get_one(Job, made.id)
    assert (found.state, found.error) == ("failed", "the station was stopped meanwhile. Start it again.")
    assert [path.name for path in (workspace.root / "models").iterdir()] == ["job-1"]


@pytest.mark.slow
def test_the_demonstration_is_taught_inspected_and_reviewed(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "SIZE", 64)
    opened, steps = open_workspace(tmp_path / "w"), []
    demo.demo(opened, steps.append)
    demo.demo(opened, steps.append)
    assert len(steps) == 3
    with opened.store.reading() as session:
        assert session.query(Inspection).count() > 30
        assert session.query(Review).count() > 0
    opened.store.close()


@pytest.mark.slow
def test_a_station_without_torch_can_be_opened():
    """What inspects with an exported model loads neither torch nor what draws figures."""
    code = "import sys, blemish.station.app; print(sorted({'torch', 'matplotlib', 'scipy'} & set(sys.modules)))"
    search = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": search}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"


WITHOUT_TORCH = """
import json, sys
from importlib.machinery import PathFinder
from pathlib import Path

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        is_hidden = name.partition(".")[0] in {"torch", "timm", "matplotlib"}
        return None if is_hidden else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [Without if one is PathFinder else one for one in sys.meta_path]
from fastapi.testclient import TestClient
from blemish.station.app import create_app
from blemish.station.station import Settings
from blemish.station.workspace import open_workspace

root, image = map(Path, sys.argv[1:])
app = create_app(open_workspace(root, None), Settings(keep_free=0))
with TestClient(app, base_url="http://127.0.0.1:8765") as client:
    answers = [
        client.post("/v1/products/1/inspect", content=image.read_bytes(), headers={"content-type": "image/png"}),
        client.post("/v1/products/1/teach", json={}),
        client.post("/v1/products/1/learn"),
        client.get("/products/1/teach"),
        client.get("/v1/products/1/report.pdf"),
    ]
print(json.dumps([[one.status_code, one.text] for one in answers]))
"""
"""A program that inspects and tries to teach where torch is not installed."""


@of_sqlite
@pytest.mark.slow
def test_without_torch_an_exported_model_inspects_and_teaching_says_what_it_needs(workspace, tmp_path):
    done = teach(workspace, 1, "export", {"model": 1, "format": "onnx"})
    assert done.error is None
    folder = next((workspace.root / "models").iterdir())
    (tmp_path / "part.png").write_bytes(picture(501, is_defect=True))
    expected = load(folder, backend="onnx").predict(tmp_path / "part.png").score
    workspace.store.close()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", WITHOUT_TORCH, str(workspace.root), str(tmp_path / "part.png")]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert run.returncode == 0, run.stderr
    inspected, taught, learned, page, figures = json.loads(run.stdout.splitlines()[-1])
    assert inspected[0] == 200
    found = json.loads(inspected[1])
    assert (found["decision"], found["score"]) == ("defect", expected)
    for code, words in (taught, learned):
        assert code == 409
        assert "blemish[train]" in words
    assert page[0] == 200
    assert "blemish[train]" in page[1].replace("&#39;", "'")
    assert figures[0] == 422
