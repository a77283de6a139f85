"""The application: the interface for programs, the pages, and what holds for every answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import blemish
from blemish.errors import BlemishError
from blemish.station import pages
from blemish.station.bodies import ARRIVED, Limited
from blemish.station.routes import admin, inspections, kserve, line, models, products, reviews, system, teaching
from blemish.station.schemas import Problem
from blemish.station.station import Settings, Station
from blemish.station.workspace import Workspace

logger = logging.getLogger("blemish")

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
PROBLEMS = {
    code: {"model": Problem, "description": why}
    for code, why in {
        400: "what was given is not understood",
        401: "no login and no token",
        403: "the role does not allow it",
        404: "there is no such thing",
        409: "the present state does not allow it",
        413: "too large",
        421: "another host",
        422: "what was given is not allowed",
    }.items()
}


def create_app(workspace: Workspace, settings: Settings | None = None) -> FastAPI:
    """The application for a workspace; it is open from the start of its life span to its end."""
    station = Station(workspace, settings or Settings())

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        station.open()
        station.bus.start(asyncio.get_running_loop())
        yield
        await asyncio.to_thread(station.close)

    app = FastAPI(
        title="blemish station",
        version=blemish.__version__,
        description="Inspects images, and manages products, models, decisions and reviews.",
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=life,
        responses=PROBLEMS,  # type: ignore[arg-type]
    )
    app.state.station = station
    for routes in (products, teaching, models, inspections, line, reviews, kserve, admin, system):
        app.include_router(routes.router)
    app.include_router(pages.router)
    app.add_exception_handler(BlemishError, _unfit)
    app.add_exception_handler(OperationalError, _unavailable)
    app.add_middleware(Limited, largest=station.settings.limits.archive_bytes)
    app.add_middleware(WithHeaders)
    return app


class WithHeaders:
    """Adds to each answer what holds for all, and to each request when it arrived, in monotonic seconds."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[ARRIVED] = time.monotonic()

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, answer)


async def _unfit(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 422)


async def _unavailable(_: Request, error: Exception) -> JSONResponse:
    logger.error("the database: %s", error)
    return JSONResponse({"detail": "The database cannot be written now, perhaps because the disk is full."}, 503)
