"""Versions of models and of their decisions."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from typing import IO, Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.background import BackgroundTask

from blemish.errors import BlemishError
from blemish.model.folder import read_model
from blemish.station import audit
from blemish.station.access import Engineer, Operator
from blemish.station.bodies import FILE_BODY, spooled_body
from blemish.station.comparing import compare
from blemish.station.keys import Key
from blemish.station.packages import pack, unpack
from blemish.station.pictures import map_response, picture_response
from blemish.station.routes.teaching import job_out
from blemish.station.schemas import CheckOut, CompareOut, DecisionIn, DecisionOut, ExportIn, JobOut, ModelOut
from blemish.station.station import Station, station_of
from blemish.station.tables import Check, Decision, Image, Inspection, Model, Product, Review
from blemish.station.uploads import Arrived, examined, shown_name
from blemish.station.verdicts import plain

router = APIRouter(prefix="/v1", tags=["models"])


@router.get("/products/{product_id}/models")
def list_models(request: Request, product_id: int, _: Operator) -> list[ModelOut]:
    """The versions of a product's model, the latest first."""
    station = station_of(request)
    product = station.product(product_id)
    with station.store.reading() as session:
        rows = session.scalars(select(Model).where(Model.product_id == product_id).order_by(Model.number.desc()))
        return [model_out(station, session, product, model) for model in rows]


@router.get("/models/{model_id}")
def get_model(request: Request, model_id: int, _: Operator) -> ModelOut:
    """One version, with how it came about."""
    station = station_of(request)
    model = station.get(Model, model_id)
    with station.store.reading() as session:
        return model_out(station, session, session.get_one(Product, model.product_id), model)


@router.post("/models/{model_id}/activate")
def activate(request: Request, model_id: int, who: Engineer) -> ModelOut:
    """Inspects with this version from now on; so an earlier one is put back, too."""
    station = station_of(request)
    model = station.get(Model, model_id)
    if model.state != "ready":
        raise HTTPException(409, f"The version is {model.state}. Accept it first, or choose another one.")
    with station.store.writing() as session:
        return _activate(station, session, session.get_one(Model, model_id), who.name)


@router.post("/models/{model_id}/accept")
def accept(request: Request, model_id: int, who: Engineer) -> ModelOut:
    """Accepts a candidate that learned from reviews, and activates it; its images are good images from now on."""
    station = station_of(request)
    with station.store.writing() as session:
        model = _candidate(session, station.get(Model, model_id).id)
        model.state = "ready"
        _keep_learned(station, session, model, who.name)
        audit.append(
            session, who.name, "learning accepted", f"model {model.id}", None, model.lineage.get("num_learned")
        )
        return _activate(station, session, model, who.name)


@router.post("/models/{model_id}/discard")
def discard(request: Request, model_id: int, who: Engineer) -> ModelOut:
    """Discards a candidate; its reviews may be learned again."""
    station = station_of(request)
    with station.store.writing() as session:
        model = _candidate(session, station.get(Model, model_id).id)
        model.state = "discarded"
        audit.append(session, who.name, "learning discarded", f"model {model.id}")
        return model_out(station, session, session.get_one(Product, model.product_id), model)


@router.get("/models/{model_id}/compare/{other_id}")
def compare_models(request: Request, model_id: int, other_id: int, _: Operator) -> CompareOut:
    """What changes on the check set from one version to the other, each with its own thresholds."""
    station = station_of(request)
    before, after = station.get(Model, model_id), station.get(Model, other_id)
    if before.product_id != after.product_id:
        raise HTTPException(409, "The versions are of different products.")
    with station.store.reading() as session:
        return compare(session, before, after)


@router.post("/models/{model_id}/export", status_code=202)
def export_model(request: Request, model_id: int, given: ExportIn, who: Engineer) -> JobOut:
    """Exports a version for another runtime; it is kept only where it agrees with the model on real images."""
    station = station_of(request)
    model = station.get(Model, model_id)
    settings = {"model": model_id, "format": given.format}
    return job_out(station.jobs.start(station.product(model.product_id), "export", settings, who.name))


@router.get("/models/{model_id}/file", response_class=FileResponse)
def download_model(request: Request, model_id: int, _: Engineer) -> FileResponse:
    """The version as one file, a zip archive, which another station imports and `blemish` reads unpacked."""
    station = station_of(request)
    model = station.get(Model, model_id)
    handle, name = tempfile.mkstemp(prefix=".download-", suffix=".zip", dir=station.workspace.root)
    with os.fdopen(handle, "wb") as file:
        pack(station.workspace.model_folder(model), file)
    shown = f"product-{model.product_id}-version-{model.number}.zip"
    return FileResponse(name, media_type="application/zip", filename=shown, background=BackgroundTask(os.unlink, name))


@router.post("/products/{product_id}/models", status_code=202, openapi_extra=FILE_BODY)
async def import_model(
    request: Request, product_id: int, who: Engineer, name: Annotated[str, Query(max_length=200)] = "model.zip"
) -> JobOut:
    """Brings in a version that was downloaded; the answer names the job that scores the check set with it."""
    station = station_of(request)
    product = await run_in_threadpool(station.product, product_id)
    folder = f".import-{secrets.token_hex(8)}"

    def start(file: IO[bytes]) -> JobOut:
        unpack(file, station.workspace.root / folder)
        settings = {"folder": folder, "name": shown_name(name)}
        try:
            return job_out(station.jobs.start(product, "import", settings, who.name))
        except BlemishError:
            shutil.rmtree(station.workspace.root / folder, ignore_errors=True)
            raise

    with await spooled_body(request, station.settings.limits.archive_bytes) as file:
        return await run_in_threadpool(start, file)


@router.get("/models/{model_id}/checks")
def list_checks(request: Request, model_id: int, _: Operator) -> list[CheckOut]:
    """The scores of the frozen check set: held-out good images, which set the threshold, and defective ones."""
    station = station_of(request)
    station.get(Model, model_id)
    with station.store.reading() as session:
        rows = session.execute(
            select(Check, Image.name).join(Image, Image.id == Check.image_id).where(Check.model_id == model_id)
        )
        return [
            CheckOut(
                id=check.id,
                image=check.image_id,
                name=name,
                is_defect=check.is_defect,
                score=check.score,
                areas=check.areas,
            )
            for check, name in rows
        ]


@router.get("/checks/{check_id}/picture", response_class=Response)
def get_check_picture(request: Request, check_id: int, _: Operator) -> Response:
    """A small version of an image of a check set, as JPEG."""
    station = station_of(request)
    check = station.get(Check, check_id)
    return picture_response(station, station.get(Image, check.image_id).sha256, check.preview, 320)


@router.get("/checks/{check_id}/map", response_class=Response)
def get_check_map(request: Request, check_id: int, _: Operator) -> Response:
    """The anomaly map of an image of a check set at display size, as a grey PNG."""
    station = station_of(request)
    return map_response(station, station.get(Check, check_id).preview)


@router.get("/models/{model_id}/decisions")
def list_decisions(request: Request, model_id: int, _: Operator) -> list[DecisionOut]:
    """The versions of a model's thresholds, the latest first."""
    station = station_of(request)
    model = station.get(Model, model_id)
    with station.store.reading() as session:
        rows = session.scalars(select(Decision).where(Decision.model_id == model_id).order_by(Decision.number.desc()))
        return [decision_out(decision, model) for decision in rows]


@router.post("/models/{model_id}/decisions", status_code=201, responses={200: {"model": DecisionOut}})
def decide(
    request: Request,
    response: Response,
    model_id: int,
    given: DecisionIn,
    who: Engineer,
    idempotency_key: Key = None,
) -> DecisionOut:
    """Applies thresholds, as a new version.

    The same again makes no other version (200): where that person's version with these thresholds and this note is
    applied already, or the request has the Idempotency-Key of an earlier one, whose version is then the answer.
    """
    station = station_of(request)
    station.get(Model, model_id)
    if given.review_threshold > given.defect_threshold:
        raise BlemishError("review_threshold: is above defect_threshold. Give one that is at most as high.")
    with station.store.writing() as session:
        model = session.get_one(Model, model_id)
        before = session.get_one(Decision, model.active_decision_id)
        if known := _made_before(session, before, given, who.name, idempotency_key):
            response.status_code = 200
            return decision_out(known, model)
        last = session.scalar(select(func.max(Decision.number)).where(Decision.model_id == model_id)) or 0
        decision = Decision(
            model_id=model_id,
            number=last + 1,
            pixel_threshold=before.pixel_threshold,
            created_by=who.name,
            key=idempotency_key or None,
            **given.model_dump(),
        )
        session.add(decision)
        session.flush()
        return _apply(station, session, model, before, decision, who.name)


def _made_before(session: Session, active: Decision, given: DecisionIn, who: str, key: str | None) -> Decision | None:
    """The decision that an earlier request with the same key made, or the active one where that is the same.

    Raises HTTPException 422 where the key was used for other thresholds.
    """
    same = select(Decision).where(Decision.model_id == active.model_id, Decision.key == key)
    known = session.scalar(same) if key else None
    if known and not _is(known, given, who):
        raise HTTPException(422, "The idempotency key was used for another decision.")
    return known or (active if not key and _is(active, given, who) else None)


def _is(decision: Decision, given: DecisionIn, who: str) -> bool:
    """Whether a decision is what this person gives."""
    return all(getattr(decision, name) == value for name, value in [*given, ("created_by", who)])


@router.post("/decisions/{decision_id}/apply")
def apply_again(request: Request, decision_id: int, who: Engineer) -> DecisionOut:
    """Puts an earlier decision back."""
    station = station_of(request)
    chosen = station.get(Decision, decision_id)
    with station.store.writing() as session:
        model = session.get_one(Model, chosen.model_id)
        before = session.get_one(Decision, model.active_decision_id)
        return _apply(station, session, model, before, session.get_one(Decision, decision_id), who.name)


def _apply(
    station: Station, session: Session, model: Model, before: Decision, decision: Decision, who: str
) -> DecisionOut:
    model.active_decision_id = decision.id
    old, new = ({"number": one.number} | plain(one) for one in (before, decision))
    audit.append(session, who, "decision applied", f"model {model.id}", old, new | {"note": decision.note})
    station.bus.publish("decision", product=model.product_id, model=model.id)
    return decision_out(decision, model)


def _activate(station: Station, session: Session, model: Model, who: str) -> ModelOut:
    product = session.get_one(Product, model.product_id)
    before = session.get(Model, product.active_model_id) if product.active_model_id else None
    product.active_model_id = model.id
    subject = f"product {product.name}"
    audit.append(session, who, "model activated", subject, before.number if before else None, model.number)
    station.bus.publish("model", product=product.id, model=model.id)
    return model_out(station, session, product, model)


def _candidate(session: Session, model_id: int) -> Model:
    model = session.get_one(Model, model_id)
    if model.state != "candidate":
        raise HTTPException(409, f"The version is {model.state}, not a candidate.")
    return model


def _keep_learned(station: Station, session: Session, model: Model, who: str) -> None:
    """Marks the reviews that a candidate learned, and adds their images to the good ones."""
    learned = model.lineage.get("reviews", [])
    rows = session.execute(
        select(Review, Inspection)
        .join(Inspection, Inspection.id == Review.inspection_id)
        .where(Review.id.in_(learned), Review.learned_by.is_(None))
    )
    for review, inspection in list(rows):
        review.learned_by = model.id
        content = station.workspace.blobs.read(inspection.image) if inspection.image else None
        same = select(Image.id).where(Image.product_id == model.product_id, Image.sha256 == inspection.sha256)
        if content and not session.scalar(same):
            arrived = Arrived(content, inspection.name, inspection.created_at)
            session.add(examined(station.workspace, model.product_id, arrived, who, station.settings.limits))
            session.flush()


def model_out(station: Station, session: Session, product: Product, model: Model) -> ModelOut:
    """The version as the interface gives it."""
    decision = session.get(Decision, model.active_decision_id) if model.active_decision_id else None
    try:
        exports = read_model(station.workspace.model_folder(model)).exports
    except BlemishError:
        exports = {}
    return ModelOut(
        id=model.id,
        product=model.product_id,
        number=model.number,
        state=model.state,
        is_active=product.active_model_id == model.id,
        parent=model.parent_id,
        lineage=model.lineage,
        decision=decision_out(decision, model) if decision else None,
        exports=exports,
        created_by=model.created_by,
        created_at=model.created_at,
    )


def decision_out(decision: Decision, model: Model) -> DecisionOut:
    """The thresholds as the interface gives them."""
    return DecisionOut(
        id=decision.id,
        model=decision.model_id,
        number=decision.number,
        **plain(decision),
        note=decision.note,
        is_active=model.active_decision_id == decision.id,
        created_by=decision.created_by,
        created_at=decision.created_at,
    )
