"""Inspecting images, and what was found."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import select

from blemish.errors import BlemishError
from blemish.station.access import Operator
from blemish.station.bodies import ARRIVED, IMAGE_BODY, MANY_BODY, content_kind, read_body
from blemish.station.inspecting import CAPACITY, BusyError, NotReadyError, item_of
from blemish.station.keys import Key, KeyUsedError
from blemish.station.pictures import file_response, map_response, overlay_response, picture_response
from blemish.station.recording import Found, by_key
from blemish.station.routes.products import uploads_of
from blemish.station.schemas import InspectionOut, InspectionProblem
from blemish.station.station import Station, station_of
from blemish.station.tables import Decision, Inspection, Model
from blemish.station.uploads import Arrived, shown_name

router = APIRouter(prefix="/v1", tags=["inspections"])
RETRY_SECONDS = 1
MOST_IMAGES = 500
BUSY: dict[int | str, dict[str, Any]] = {429: {"description": "the queue is full; come again after Retry-After"}}


@router.post("/products/{product_id}/inspect", openapi_extra=IMAGE_BODY, responses=BUSY)
async def inspect(
    request: Request,
    response: Response,
    product_id: int,
    who: Operator,
    name: Annotated[str, Query(max_length=300)] = "image",
    source: Annotated[str, Query(max_length=80)] = "api",
    idempotency_key: Key = None,
) -> InspectionOut:
    """Inspects one image: the body, or the file of a form.

    The answer is given when it is recorded. Its header Server-Timing says in milliseconds how long the body took to
    arrive (receive), how long the image was decoded, waited for the model (queue) and was computed, and what the
    station itself took of the time since the request arrived: all the rest (own), of which `record` is file and row.
    """
    station = station_of(request)
    limit, began = station.settings.limits.image_bytes, time.monotonic()
    if content_kind(request) == "multipart/form-data":
        async with request.form(max_files=1, max_fields=10) as form:
            (arrived, *_) = await uploads_of(form, limit)
    else:
        arrived = Arrived(await read_body(request, limit), name)
    received = time.monotonic() - began
    found = await inspect_one(station, product_id, arrived, who.name, source, idempotency_key)
    if isinstance(found, Found):
        response.headers["Server-Timing"] = _timing(found, received, time.monotonic() - request.scope[ARRIVED])
    return found_out(found, arrived.name)


def _timing(found: Found, received: float, whole: float) -> str:
    """Where the time went, in milliseconds."""
    others = {"receive": received, "decode": found.decoded, "queue": found.waited, "compute": found.computed}
    parts = others | {"record": found.recorded, "own": whole - sum(others.values())}
    return ", ".join(f"{name};dur={1000 * seconds:.2f}" for name, seconds in parts.items())


@router.post("/products/{product_id}/inspect-many", openapi_extra=MANY_BODY, responses=BUSY)
async def inspect_many(
    request: Request,
    product_id: int,
    who: Operator,
    source: Annotated[str, Query(max_length=80)] = "api",
    idempotency_key: Key = None,
) -> list[InspectionOut | InspectionProblem]:
    """Inspects the files of a form, in their order; one that cannot be used has its reason in its place."""
    station = station_of(request)
    await run_in_threadpool(station.product, product_id)
    if content_kind(request) != "multipart/form-data":
        raise HTTPException(422, "A form with files is needed (multipart/form-data).")
    async with request.form(max_files=MOST_IMAGES, max_fields=10) as form:
        files = await uploads_of(form, station.settings.limits.image_bytes)
    results: list[InspectionOut | InspectionProblem] = []
    for start in range(0, len(files), CAPACITY // 4):
        some = files[start : start + CAPACITY // 4]
        keys = [idempotency_key and f"{idempotency_key}#{start + index}" for index in range(len(some))]
        tries = [
            inspect_one(station, product_id, one, who.name, source, key) for one, key in zip(some, keys, strict=True)
        ]
        for one, found in zip(some, await asyncio.gather(*tries, return_exceptions=True), strict=True):
            if isinstance(found, Found | Known):
                results.append(found_out(found, one.name))
            elif isinstance(found, BlemishError):
                results.append(InspectionProblem(name=shown_name(one.name), error=str(found)))
            else:
                raise found
    return results


@dataclass(frozen=True, slots=True)
class Known:
    """What an earlier request with the same idempotency key found."""

    row: Inspection
    model: Model
    decision: Decision


async def inspect_one(
    station: Station, product_id: int, arrived: Arrived, who: str, source: str, key: str | None
) -> Found | Known:
    """The recorded result; raises HTTPException 429 where the queue is full, and BlemishError for an unfit file."""
    try:
        begun = await run_in_threadpool(_begin, station, product_id, arrived, who, source, key)
        if isinstance(begun, Known):
            return begun
        return await asyncio.wrap_future(begun)
    except BusyError:
        station.metrics.refused(product_id)
        raise HTTPException(
            429, "The queue is full. Send it again later.", {"Retry-After": str(RETRY_SECONDS)}
        ) from None
    except NotReadyError:
        raise HTTPException(409, "The product has no active model. Teach it first.") from None
    except KeyUsedError:
        raise HTTPException(422, "The idempotency key was used for another image.") from None


def _begin(
    station: Station, product_id: int, arrived: Arrived, who: str, source: str, key: str | None
) -> Known | Future[Found]:
    """Begins an inspection, unless an earlier request with the key had this image.

    All that it takes is done in one go: each further change between threads would cost time.
    """
    station.product(product_id)
    if station.inspecting.line(product_id).waiting >= CAPACITY:
        raise BusyError
    item = item_of(arrived, station.settings.limits, source=source, who=who, key=key or None)
    with ExitStack() as held:
        held.enter_context(station.keys.held(product_id, item.key, item.sha256))
        if item.key and (known := _known(station, product_id, item.key, item.sha256)):
            return known
        future = station.inspecting.submit(product_id, item)
        future.add_done_callback(partial(_end, held.pop_all()))  # until then the key belongs to this image
        return future


def _end(held: ExitStack, _: Future[Found]) -> None:
    held.close()


def _known(station: Station, product_id: int, key: str, sha256: str) -> Known | None:
    """What an earlier request with the key found; raises KeyUsedError where that was another image."""
    with station.store.reading() as session:
        row = by_key(session, product_id, key)
        if row is None:
            return None
        if row.sha256 != sha256:
            raise KeyUsedError
        return Known(row, session.get_one(Model, row.model_id), session.get_one(Decision, row.decision_id))


@router.get("/products/{product_id}/inspections")
def list_inspections(
    request: Request,
    product_id: int,
    _: Operator,
    verdict: Literal["good", "review", "defect"] | None = None,
    before: Annotated[int, Query(ge=1)] = 2**62,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> list[InspectionOut]:
    """Results, the latest first, from the one before `before` on."""
    station = station_of(request)
    station.product(product_id)
    with station.store.reading() as session:
        chosen = (
            select(Inspection, Model, Decision)
            .join(Model, Model.id == Inspection.model_id)
            .join(Decision, Decision.id == Inspection.decision_id)
            .where(Inspection.product_id == product_id, Inspection.id < min(before, 2**62))
        )
        if verdict:
            chosen = chosen.where(Inspection.verdict == verdict)
        rows = session.execute(chosen.order_by(Inspection.id.desc()).limit(limit))
        return [inspection_out(row, model, decision) for row, model, decision in rows]


@router.get("/inspections/{inspection_id}")
def get_inspection(request: Request, inspection_id: int, _: Operator) -> InspectionOut:
    """One result."""
    station = station_of(request)
    row = station.get(Inspection, inspection_id)
    return inspection_out(row, station.get(Model, row.model_id), station.get(Decision, row.decision_id))


@router.get("/inspections/{inspection_id}/image", response_class=Response)
def get_image(request: Request, inspection_id: int, _: Operator) -> Response:
    """The image's file, as it was sent."""
    station = station_of(request)
    return file_response(station, station.get(Inspection, inspection_id).image)


@router.get("/inspections/{inspection_id}/picture", response_class=Response)
def get_picture(
    request: Request, inspection_id: int, _: Operator, side: Annotated[int, Query(ge=64, le=4096)] = 1200
) -> Response:
    """The image with a longer side of at most `side` pixels, as JPEG."""
    station = station_of(request)
    row = station.get(Inspection, inspection_id)
    return picture_response(station, row.image, row.preview, side)


@router.get("/inspections/{inspection_id}/map", response_class=Response)
def get_map(request: Request, inspection_id: int, _: Operator) -> Response:
    """The anomaly map at display size, as a grey PNG; X-Map-Low and X-Map-High are the values of black and white."""
    station = station_of(request)
    return map_response(station, station.get(Inspection, inspection_id).preview)


@router.get("/inspections/{inspection_id}/overlay", response_class=Response)
def get_overlay(request: Request, inspection_id: int, _: Operator) -> Response:
    """The image with its regions outlined, above a caption, as JPEG."""
    station = station_of(request)
    row = station.get(Inspection, inspection_id)
    return overlay_response(station, row, station.get(Decision, row.decision_id))


def found_out(found: Found | Known, name: str) -> InspectionOut:
    """The result as the interface gives it; without an identifier where it could not be recorded."""
    if isinstance(found, Known):
        return inspection_out(found.row, found.model, found.decision, is_repeated=True)
    if found.row is not None:
        return inspection_out(found.row, found.model, found.decision, is_repeated=found.is_repeated)
    return InspectionOut(
        id=None,
        product=found.product_id,
        model=found.model.number,
        decision=found.judged.verdict,
        score=found.prediction.score,
        p_value=found.judged.p_value,
        review_threshold=found.decision.review_threshold,
        defect_threshold=found.decision.defect_threshold,
        pixel_threshold=found.decision.pixel_threshold,
        regions=found.judged.regions,
        name=shown_name(name),
        width=found.prediction.map.shape[1],
        height=found.prediction.map.shape[0],
        created_at=None,
        latency=found.waited + found.computed,
        reviewed=None,
        is_repeated=False,
        links={},
    )


def inspection_out(row: Inspection, model: Model, decision: Decision, *, is_repeated: bool = False) -> InspectionOut:
    """A recorded result as the interface gives it."""
    own = f"/v1/inspections/{row.id}"
    links = {"self": own}
    links |= {kind: f"{own}/{kind}" for kind in ("picture", "map", "overlay") if row.preview}
    links |= {"image": f"{own}/image"} if row.image else {}
    return InspectionOut(
        id=row.id,
        product=row.product_id,
        model=model.number,
        decision=row.verdict,
        score=row.score,
        p_value=row.p_value,
        review_threshold=decision.review_threshold,
        defect_threshold=decision.defect_threshold,
        pixel_threshold=decision.pixel_threshold,
        regions=row.regions,
        name=row.name,
        width=row.width,
        height=row.height,
        created_at=row.created_at,
        latency=row.latency,
        reviewed=row.reviewed,
        is_repeated=is_repeated,
        links=links,
    )
