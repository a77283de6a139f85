"""The process of a job: python -m blemish.station.job, with {root, database, job} as a line on standard input.

It writes its stages to the database. It ends when standard input does: then the station has ended.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from blemish.errors import BlemishError, extras, one_line
from blemish.progress import Phases, Progress
from blemish.station import audit
from blemish.station.packages import adopt, export_model
from blemish.station.tables import Job, Product
from blemish.station.teaching import Taught, learn_reviews, record, teach
from blemish.station.workspace import Workspace, open_workspace

KINDS: dict[str, Callable[[Workspace, Job, Phases], Taught | None]] = {
    "teach": teach,
    "learn": learn_reviews,
    "export": export_model,
    "import": adopt,
}
"""Kind of a job -> the function that does it; it gives a new model, if it makes one."""
BETWEEN_WRITES = 0.4
"""Seconds between two reports of progress."""
LONGEST_LOG = 200


class Reporter(logging.Handler):
    """Writes the stage, the progress and the log of a job to the database."""

    def __init__(self, workspace: Workspace, job_id: int):
        super().__init__(logging.INFO)
        self._workspace, self._job_id, self._written = workspace, job_id, 0.0

    def phase(self, name: str) -> Progress:
        """Begins a stage."""
        self._write(stage=name, done=0, total=0, stage_since=time.time())

        def report(done: int, total: int, *, unit: str = "images", **shown: float) -> None:  # noqa: ARG001
            if done == total or time.monotonic() - self._written > BETWEEN_WRITES:
                self._write(done=done, total=total)

        return report

    def emit(self, record: logging.LogRecord) -> None:
        """Adds a line to the job's log."""
        with self._workspace.store.writing() as session:
            job = session.get_one(Job, self._job_id)
            line = {"level": record.levelname.lower(), "text": one_line(record.getMessage(), 300)}
            job.log = [*job.log, line][-LONGEST_LOG:]

    def _write(self, **fields: Any) -> None:
        self._written = time.monotonic()
        with self._workspace.store.writing() as session:
            job = session.get_one(Job, self._job_id)
            for name, value in fields.items():
                setattr(job, name, value)


def main() -> None:
    """Runs the job that standard input names."""
    given = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_station, daemon=True).start()
    with suppress(OSError, AttributeError):
        os.nice(5)  # the page and the inspections come first
    workspace = open_workspace(Path(given["root"]), given["database"])
    run(workspace, given["job"])


def run(workspace: Workspace, job_id: int) -> None:
    """Runs a job in this process, and records how it ended."""
    reporter, logger = Reporter(workspace, job_id), logging.getLogger("blemish")
    logger.addHandler(reporter)
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        with workspace.store.reading() as session:
            job = session.get_one(Job, job_id)
        with extras():
            taught = KINDS[job.kind](workspace, job, reporter.phase)
    except BlemishError as error:
        fail(workspace, job_id, str(error))
    except Exception as error:
        traceback.print_exc()
        fail(workspace, job_id, f"unexpected {type(error).__name__}: {one_line(error, 200)}. This is a bug in blemish.")
    else:
        _finish(workspace, job_id, taught)
    finally:
        logger.setLevel(before)
        logger.removeHandler(reporter)


def _finish(workspace: Workspace, job_id: int, taught: Taught | None) -> None:
    with workspace.store.writing() as session:
        job = session.get_one(Job, job_id, with_for_update=True)
        if job.state == "running":  # not cancelled meanwhile
            if taught is not None:
                record(session, job, taught)
            else:
                product = session.get_one(Product, job.product_id)
                audit.append(
                    session, job.created_by, f"{job.kind} finished", f"product {product.name}", None, job.settings
                )
            job.state, job.ended_at = "done", time.time()


def fail(workspace: Workspace, job_id: int, error: str) -> None:
    """Records that a running job failed."""
    with workspace.store.writing() as session:
        job = session.get_one(Job, job_id)
        if job.state == "running":
            job.state, job.error, job.ended_at = "failed", error, time.time()
            product = session.get_one(Product, job.product_id)
            audit.append(session, job.created_by, f"{job.kind} failed", f"product {product.name}", None, error)


def _end_with_the_station() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
