"""Starts jobs as processes, watches and cancels them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from sqlalchemy import select

from blemish.errors import BlemishError
from blemish.station import audit
from blemish.station.events import Bus
from blemish.station.job import fail
from blemish.station.tables import Job, Product
from blemish.station.workspace import Workspace

WATCH_SECONDS = 0.3
HERE = socket.gethostname()


class Jobs:
    """The jobs of this station's processes; a product has one at a time."""

    def __init__(self, workspace: Workspace, bus: Bus):
        self._workspace, self._bus = workspace, bus
        self._processes: dict[int, subprocess.Popen[str]] = {}
        self._watchers: list[threading.Thread] = []

    def recover(self) -> None:
        """Ends the jobs of an earlier process of this station, which died with it."""
        with self._workspace.store.reading() as session:
            left = list(session.scalars(select(Job.id).where(Job.state == "running", Job.station == HERE)))
        for job_id in left:
            fail(self._workspace, job_id, "the station was stopped meanwhile. Start it again.")

    def start(self, product: Product, kind: str, settings: dict[str, Any], who: str) -> Job:
        """Starts a job; raises BlemishError where the product has one already."""
        with self._workspace.store.writing() as session:
            running = select(Job).where(Job.product_id == product.id, Job.state == "running")
            if session.scalar(running):
                raise BlemishError(f"{product.name}: is being taught already. Wait until that is done, or cancel it.")
            job = Job(product_id=product.id, kind=kind, settings=settings, created_by=who, station=HERE, log=[])
            session.add(job)
            audit.append(session, who, f"{kind} started", f"product {product.name}", None, settings)
        process = subprocess.Popen(
            [sys.executable, "-m", "blemish.station.job"], stdin=subprocess.PIPE, text=True, env=_environment()
        )
        self._processes[job.id] = process
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            given = {"root": str(self._workspace.root), "database": self._workspace.database, "job": job.id}
            process.stdin.write(json.dumps(given) + "\n")
            process.stdin.flush()
        watcher = threading.Thread(target=self._watch, args=(job.id, process), daemon=True)
        self._watchers.append(watcher)
        watcher.start()
        return job

    def cancel(self, job: Job, who: str) -> bool:
        """Stops a job; False where it had ended already."""
        with self._workspace.store.writing() as session:
            found = session.get_one(Job, job.id)
            if found.state != "running":
                return False
            found.state, found.ended_at = "cancelled", time.time()
            product = session.get_one(Product, job.product_id)
            audit.append(session, who, f"{job.kind} cancelled", f"product {product.name}")
        if process := self._processes.get(job.id):
            _stop(process)
        return True

    def close(self) -> None:
        """Stops all jobs."""
        for process in list(self._processes.values()):
            _stop(process)
        for watcher in self._watchers:
            watcher.join(5)

    def _watch(self, job_id: int, process: subprocess.Popen[str]) -> None:
        """Tells the pages how far a job is, until its process ends."""
        said: tuple[Any, ...] = ()
        while True:
            ended = process.poll() is not None
            if ended:
                fail(self._workspace, job_id, "its process ended unexpectedly, perhaps for want of memory.")
            with self._workspace.store.reading() as session:
                job = session.get_one(Job, job_id)
            now = (job.state, job.stage, job.done, len(job.log))
            if now != said:
                self._bus.publish("job", job=job_id, product=job.product_id, state=job.state)
                said = now
            if ended:
                break
            time.sleep(WATCH_SECONDS)
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()
        self._processes.pop(job_id, None)
        if job.model_id is None:
            shutil.rmtree(self._workspace.new_model_folder(job_id), ignore_errors=True)


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(3)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _environment() -> dict[str, str]:
    """As the commands set it: see `blemish.cli.app`."""
    own = {"OPENCV_FOR_THREADS_NUM": "1", "OPENCV_LOG_LEVEL": "SILENT"}
    search = os.pathsep.join(path for path in sys.path if path)
    return own | {**os.environ, "PYTHONPATH": search}
