"""What the tests of the station share: images, and waiting."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from fastapi import FastAPI
from fastapi.routing import APIRoute

from blemish.station import job
from blemish.station.tables import Job
from blemish.station.workspace import Workspace

SETTINGS = {"model": "padim", "size": 64, "validation": 0.3, "options": {"backbone": "gabor"}}
BASE = "http://127.0.0.1:8765"


def picture(seed: int, *, is_defect: bool = False, side: int = 64) -> bytes:
    """A PNG of a soft gradient with noise; a defective one has a bright square."""
    generator = np.random.default_rng(seed)
    ramp = np.linspace(60, 160, side) + generator.uniform(-10, 10)
    image = generator.normal(ramp[None, :, None], 6, (side, side, 3))
    if is_defect:
        top, left = generator.integers(8, side - 24, 2)
        image[top : top + 16, left : left + 16] += 90
    return cv2.imencode(".png", np.clip(image, 0, 255).astype(np.uint8))[1].tobytes()


def routes(app: FastAPI) -> list[APIRoute]:
    """Every route of the application, those of included routers, too."""
    found, ahead = [], list[Any](app.routes)
    while ahead:
        route = ahead.pop()
        if isinstance(route, APIRoute):
            found.append(route)
        ahead += list(getattr(getattr(route, "original_router", None), "routes", ()))
    return found


def teach(workspace: Workspace, product_id: int, kind: str = "teach", settings: dict | None = None) -> Job:
    """Runs a job in this process."""
    with workspace.store.writing() as session:
        made = Job(
            product_id=product_id,
            kind=kind,
            settings=SETTINGS if settings is None else settings,
            created_by="test",
            station="",
            log=[],
        )
        session.add(made)
    job.run(workspace, made.id)
    with workspace.store.reading() as session:
        return session.get_one(Job, made.id)


def wait_for(condition: Callable[[], object], seconds: float = 300) -> None:
    """Waits until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def as_files(contents: list[bytes], field: str = "images") -> list[tuple[str, tuple[str, io.BytesIO, str]]]:
    """The files of a form."""
    return [(field, (f"{index}.png", io.BytesIO(one), "image/png")) for index, one in enumerate(contents)]
