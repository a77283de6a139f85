"""Teaching, and the jobs that do it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from sqlalchemy import select

from blemish.errors import BlemishError
from blemish.station.access import Engineer, Operator
from blemish.station.reviewing import learnable
from blemish.station.schemas import JobOut, Teach
from blemish.station.station import Station, station_of
from blemish.station.tables import Job, Model

router = APIRouter(prefix="/v1", tags=["teaching"])


@router.post("/products/{product_id}/teach", status_code=202)
def teach(request: Request, product_id: int, settings: Teach, who: Engineer) -> JobOut:
    """Starts teaching with the product's good images; the answer names the job to follow."""
    station = station_of(request)
    product = station.product(product_id)
    _check_can_teach(station)
    chosen = {name: value for name, value in settings.model_dump().items() if value not in (None, {})}
    _check(chosen)
    return job_out(station.jobs.start(product, "teach", chosen, who.name))


@router.post("/products/{product_id}/learn", status_code=202)
def learn(request: Request, product_id: int, who: Engineer) -> JobOut:
    """Lets the active model learn what reviewers called good; the result is a candidate to accept or discard."""
    station = station_of(request)
    product = station.product(product_id)
    _check_can_teach(station)
    with station.store.reading() as session:
        found = learnable(session, product_id)
        waiting = session.scalar(select(Model.id).where(Model.product_id == product_id, Model.state == "candidate"))
    if product.active_model_id is None or not found:
        raise HTTPException(409, "No review calls an image good that was rejected, so there is nothing to learn.")
    if waiting:
        raise HTTPException(409, "A candidate waits already. Accept or discard it first.")
    settings = {
        "parent": product.active_model_id,
        "reviews": [review.id for review, _ in found],
        "inspections": [inspection.id for _, inspection in found],
    }
    return job_out(station.jobs.start(product, "learn", settings, who.name))


@router.get("/products/{product_id}/jobs")
def list_jobs(
    request: Request, product_id: int, _: Operator, limit: Annotated[int, Query(ge=1, le=200)] = 20
) -> list[JobOut]:
    """The jobs of a product, the latest first."""
    station = station_of(request)
    station.product(product_id)
    with station.store.reading() as session:
        jobs = session.scalars(select(Job).where(Job.product_id == product_id).order_by(Job.id.desc()).limit(limit))
        return [job_out(job) for job in jobs]


@router.get("/jobs/{job_id}")
def get_job(request: Request, job_id: int, _: Operator) -> JobOut:
    """How far a job is."""
    return job_out(station_of(request).get(Job, job_id))


@router.post("/jobs/{job_id}/cancel")
def cancel_job(request: Request, job_id: int, who: Engineer) -> JobOut:
    """Stops a running job; nothing of it is left."""
    station = station_of(request)
    if not station.jobs.cancel(station.get(Job, job_id), who.name):
        raise HTTPException(409, "The job has ended already.")
    return job_out(station.get(Job, job_id))


def _check_can_teach(station: Station) -> None:
    if not station.can_teach:
        raise HTTPException(409, "Teaching needs torch. Run: pip install 'blemish[train]'")


def _check(settings: dict[str, object]) -> None:
    """Raises BlemishError for a method or an option that there is not, before a job begins."""
    from blemish.detectors import detector_class
    from blemish.runs.config import RunConfig

    given = {"model": "ensemble"} | settings
    config = RunConfig.create(**given, data_path=Path(), ckpt_path=Path())
    known = set(detector_class(config.model).option_fields()) - {"size", "precision"}
    if unknown := sorted(set(config.options) - known):
        raise BlemishError(f"options: {config.model} has no option {unknown[0]}. It has: {', '.join(sorted(known))}.")


def job_out(job: Job) -> JobOut:
    """The job as the interface gives it."""
    spent = time.time() - job.stage_since
    left = spent * (job.total - job.done) / job.done if job.state == "running" and 0 < job.done < job.total else None
    return JobOut(
        id=job.id,
        product=job.product_id,
        kind=job.kind,
        state=job.state,
        stage=job.stage,
        done=job.done,
        total=job.total,
        seconds_left=left,
        log=job.log,
        error=job.error,
        model=job.model_id,
        created_by=job.created_by,
        created_at=job.created_at,
        ended_at=job.ended_at,
    )
