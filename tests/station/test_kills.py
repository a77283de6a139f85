"""A station that is killed at any moment loses no answer and counts none twice."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from station_help import picture, wait_for

from blemish.station import audit
from blemish.station.tables import Decision, Inspection, Review
from blemish.station.workspace import Workspace, open_workspace

NUM_KILLS = int(os.environ.get("BLEMISH_STATION_KILLS", "5"))
"""How often the station is killed; 200 for a long run."""
CLIENTS = 3


class Load:
    """Clients that inspect, review and decide, and note every answer that they got."""

    def __init__(self, port: int):
        self.base, self.ended = f"http://127.0.0.1:{port}", threading.Event()
        self.inspections: dict[str, int] = {}
        self.reviews: set[int] = set()
        self.decisions: set[int] = set()
        self.threads = [threading.Thread(target=self._inspect, args=(index,)) for index in range(CLIENTS)]
        self.threads.append(threading.Thread(target=self._decide))
        for thread in self.threads:
            thread.start()

    def end(self) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def _ask(self, path: str, body: bytes, kind: str = "application/json", key: str = "") -> dict | None:
        headers = {"Content-Type": kind} | ({"Idempotency-Key": key} if key else {})
        request = urllib.request.Request(self.base + path, body, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError):
            time.sleep(0.05)
            return None

    def _inspect(self, client: int) -> None:
        number = 0
        while not self.ended.is_set():
            key = f"{client}-{number}"
            found = self._ask("/v1/products/1/inspect", picture(number % 50 + 900), "image/png", key)
            if found is None:
                continue  # the same again, with the same key
            self.inspections[key] = found["id"]
            number += 1
            if self._ask(f"/v1/inspections/{found['id']}/review", b'{"verdict": "good"}'):
                self.reviews.add(found["id"])

    def _decide(self) -> None:
        number = 1
        while not self.ended.is_set():
            given = {"review_threshold": number, "defect_threshold": number + 1}
            if found := self._ask("/v1/models/1/decisions", json.dumps(given).encode(), key=str(number)):
                self.decisions.add(found["id"])
                number += 1
            time.sleep(0.05)


def start(root: Path, port: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "blemish", "serve", str(root), "--port", str(port), "--keep-free", "0"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_until_ready(port: int, process: subprocess.Popen) -> None:
    end = time.monotonic() + 300
    while time.monotonic() < end:
        assert process.poll() is None, "the station does not open again"
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2)
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the station does not answer")


@pytest.mark.slow
def test_no_answer_is_lost_and_none_counted_twice(workspace: Workspace):
    root, generator = workspace.root, random.Random(0)
    workspace.store.close()
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    process, load = start(root, port), Load(port)
    try:
        for number in range(NUM_KILLS):
            wait_until_ready(port, process)
            if number % 2 == 0:  # while it answers; the other kills hit it while it opens
                before = len(load.inspections)
                wait_for(lambda before=before: len(load.inspections) > before)
            time.sleep(generator.uniform(0, 3))
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = start(root, port)
        wait_until_ready(port, process)
        answered = len(load.inspections)
        wait_for(lambda: len(load.inspections) > answered)
    finally:
        load.end()
        process.terminate()
        process.wait()
    check(root, load)


def check(root: Path, load: Load) -> None:
    assert len(load.inspections) > CLIENTS
    opened = open_workspace(root)
    with opened.store.reading() as session:
        rows = session.query(Inspection).all()
        assert len({row.key for row in rows}) == len(rows)
        by_key = {row.key: row for row in rows}
        assert {key: by_key[key].id for key in load.inspections} == load.inspections
        assert load.reviews <= {review.inspection_id for review in session.query(Review)}
        decisions = session.query(Decision).where(Decision.key.is_not(None)).all()
        assert load.decisions <= {decision.id for decision in decisions}
        assert len({decision.review_threshold for decision in decisions}) == len(decisions)
        assert audit.first_changed(session) is None
        for row in rows:
            assert opened.blobs.read(row.image), "an image that was recorded is there"
    opened.store.close()
