"""Logging in, events, health and metrics."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from fastapi import APIRouter, Header, HTTPException, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from sqlalchemy import text

from blemish.station.access import COOKIE, Operator, check_origin
from blemish.station.accounts import SESSION_SECONDS, RefusedError, log_in, log_out
from blemish.station.admin_schemas import Login
from blemish.station.schemas import Ready
from blemish.station.station import station_of

router = APIRouter(tags=["station"])
PUBLIC = {"/healthz", "/readyz", "/v1/login", "/v1/logout", "/login", "/static/{name}"}
"""The routes that need no role."""


@router.post("/v1/login", status_code=204)
def login(request: Request, given: Login) -> Response:
    """Logs a browser in, by a cookie; after repeated wrong passwords the name is locked for a while."""
    check_origin(request)
    station = station_of(request)
    try:
        token, _ = log_in(station.store, given.name, given.password)
    except RefusedError as error:
        if error.seconds:
            wait = math.ceil(error.seconds)
            raise HTTPException(
                429, f"Too many wrong passwords. Try again in {wait} s.", {"Retry-After": str(wait)}
            ) from None
        raise HTTPException(401, "The name or the password is wrong.") from None
    response = Response(status_code=204)
    response.set_cookie(
        COOKIE,
        token,
        max_age=int(SESSION_SECONDS),
        httponly=True,
        samesite="strict",
        secure=station.settings.is_secure,
    )
    return response


@router.post("/v1/logout", status_code=204)
def logout(request: Request) -> Response:
    """Ends the session of the browser."""
    check_origin(request)
    if token := request.cookies.get(COOKIE):
        log_out(station_of(request).store, token)
    response = Response(status_code=204)
    response.delete_cookie(COOKIE)
    return response


@router.get("/v1/events", response_class=StreamingResponse)
async def events(
    request: Request, _: Operator, last_event_id: Annotated[str | None, Header(max_length=30)] = None
) -> StreamingResponse:
    """What happens, as server-sent events: inspection, job, images, decision, model, review, disk,
    storage."""
    after = int(last_event_id) if last_event_id and last_event_id.isascii() and last_event_id.isdigit() else None
    stream = station_of(request).bus.stream(after)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


@router.get("/healthz")
def health() -> dict[Literal["status"], Literal["ok"]]:
    """Whether the process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"model": Ready}})
def ready(request: Request, response: Response) -> Ready:
    """Whether the database answers; 503 where images are not kept for want of space (`disk full`), or not even results
    (`not recording`). Inspections are answered all the same.
    """
    station = station_of(request)
    with station.store.reading() as session:
        session.execute(text("SELECT 1"))
    station.recorder.tell_condition()
    condition = station.recorder.condition
    response.status_code = 200 if condition == "ok" else 503
    return Ready(status=condition, keeps_images=condition == "ok")


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request, _: Operator) -> Response:
    """Numbers for Prometheus."""
    station = station_of(request)
    content = station.metrics.text(station.inspecting.waiting(), station.disk_free)
    return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")
