"""`blemish serve`: addresses, the first admin, the lock of a workspace, the demonstration."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading

import pytest

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
