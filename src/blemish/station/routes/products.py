"""Products, their images and the region of interest."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session
from starlette.datastructures import FormData, UploadFile

from blemish.errors import BlemishError
from blemish.imaging.roi import read_roi
from blemish.station import audit, checks
from blemish.station.access import Engineer, Operator, is_open
from blemish.station.bodies import UPLOAD_BODY, content_kind, read_body, spooled_body
from blemish.station.pictures import file_response
from blemish.station.reviewing import waits
from blemish.station.schemas import AddedOut, FindingOut, FromFolder, ImageOut, NewProduct, ProductOut, RefusedOut, Roi
from blemish.station.station import Station, station_of
from blemish.station.tables import Check, Image, Inspection, Job, Model, Product
from blemish.station.texts.reader import texts_of
from blemish.station.uploads import Arrived, add_image, in_archive, in_folder, record_addition

router = APIRouter(prefix="/v1/products", tags=["products"])
RUNNING_SECONDS = 60.0
After = Annotated[int, Query(ge=0, lt=2**62)]
Page = Annotated[int, Query(ge=1, le=1000)]


@router.get("")
def list_products(request: Request, _: Operator) -> list[ProductOut]:
    """All products, by name."""
    station = station_of(request)
    with station.store.reading() as session:
        return [describe(session, product) for product in session.scalars(select(Product).order_by(Product.name))]


@router.post("", status_code=201)
def create_product(request: Request, new: NewProduct, who: Engineer) -> ProductOut:
    """Creates a product, without images."""
    with station_of(request).store.writing() as session:
        if session.scalar(select(Product).where(Product.name == new.name)):
            raise HTTPException(409, f"There is a product {new.name} already.")
        product = Product(name=new.name, created_by=who.name)
        session.add(product)
        session.flush()
        audit.append(session, who.name, "product created", f"product {new.name}")
        return describe(session, product)


@router.get("/{product_id}")
def get_product(request: Request, product_id: int, _: Operator) -> ProductOut:
    """One product."""
    station = station_of(request)
    product = station.product(product_id)
    with station.store.reading() as session:
        return describe(session, product)


@router.put("/{product_id}/roi")
def set_roi(request: Request, product_id: int, roi: Roi, who: Engineer) -> Roi:
    """Sets the region of interest of the next teaching."""
    station, plain = station_of(request), roi.model_dump(mode="json")
    station.product(product_id)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "roi.json"
        path.write_text(json.dumps(plain))
        try:
            read_roi(path)
        except BlemishError as error:
            raise BlemishError(str(error).replace(f" {path}", "")) from None
    _keep_roi(station, product_id, plain, who.name)
    return roi


@router.delete("/{product_id}/roi", status_code=204)
def remove_roi(request: Request, product_id: int, who: Engineer) -> Response:
    """Looks at whole images from the next teaching on."""
    station = station_of(request)
    station.product(product_id)
    _keep_roi(station, product_id, None, who.name)
    return Response(status_code=204)


def _keep_roi(station: Station, product_id: int, roi: dict[str, Any] | None, who: str) -> None:
    with station.store.writing() as session:
        product = session.get_one(Product, product_id)
        audit.append(session, who, "region set", f"product {product.name}", product.roi, roi)
        product.roi = roi


@router.get("/{product_id}/images")
def list_images(
    request: Request, product_id: int, _: Operator, is_defect: bool | None = None, after: After = 0, limit: Page = 200
) -> list[ImageOut]:
    """The images to teach and check with, in the order of their numbers, from the one after `after` on."""
    station = station_of(request)
    station.product(product_id)
    with station.store.reading() as session:
        chosen = select(Image).where(Image.product_id == product_id, Image.id > after)
        if is_defect is not None:
            chosen = chosen.where(Image.is_defect == is_defect)
        return [image_out(image) for image in session.scalars(chosen.order_by(Image.id).limit(limit))]


@router.post("/{product_id}/images", openapi_extra=UPLOAD_BODY)
async def add_images(
    request: Request,
    product_id: int,
    who: Engineer,
    is_defect: bool = False,
    name: Annotated[str, Query(max_length=300)] = "image",
    taken_at: Annotated[float | None, Query(ge=0, le=1e11, allow_inf_nan=False)] = None,
) -> AddedOut:
    """Adds images: one as the body, several as multipart/form-data, or a zip archive as application/zip.

    Good images are learned from. Defective ones only check; they never influence a threshold.
    """
    station = station_of(request)
    product = await run_in_threadpool(station.product, product_id)
    kind, limits = content_kind(request), station.settings.limits
    if kind == "multipart/form-data":
        async with request.form(max_files=2000, max_fields=10) as form:
            files = await uploads_of(form, limits.image_bytes)
        return await run_in_threadpool(_add, station, product, files, who.name, is_defect)
    if kind == "application/zip":
        with await spooled_body(request, limits.archive_bytes) as file:
            arrived = in_archive(file, limits)
            return await run_in_threadpool(_add, station, product, arrived, who.name, is_defect)
    content = await read_body(request, limits.image_bytes)
    return await run_in_threadpool(_add, station, product, [Arrived(content, name, taken_at)], who.name, is_defect)


@router.post("/{product_id}/images/from-folder")
def add_folder(request: Request, product_id: int, folder: FromFolder, who: Engineer) -> AddedOut:
    """Adds the images of a folder of the station's machine, which must be one that it was started with."""
    station = station_of(request)
    product, path = station.product(product_id), Path(folder.path).resolve()
    if not station.may_read(path) and not is_open(station):
        raise HTTPException(403, "The station takes no images from there. Start it with --folder, or upload them.")
    arrived = in_folder(path, station.settings.limits)
    return _add(station, product, arrived, who.name, folder.is_defect)


@router.delete("/{product_id}/images/{image_id}", status_code=204)
def remove_image(request: Request, product_id: int, image_id: int, who: Engineer) -> Response:
    """Leaves an image out of the next teaching. One that a model was checked with stays."""
    station = station_of(request)
    image = station.get(Image, image_id)
    if image.product_id != product_id:
        raise HTTPException(404, f"The product has no image {image_id}.")
    with station.store.writing() as session:
        if session.scalar(select(Check.id).where(Check.image_id == image_id).limit(1)):
            raise HTTPException(409, "A model was checked with this image, so it has to stay.")
        session.execute(delete(Image).where(Image.id == image_id))
        audit.append(session, who.name, "image removed", f"image {image_id}", image.name)
    return Response(status_code=204)


@router.get("/{product_id}/findings")
def list_findings(request: Request, product_id: int, _: Operator) -> list[FindingOut]:
    """What is conspicuous about the images: copies, blur, exposure, sizes, days."""
    return findings(station_of(request), product_id, "en")


@router.get("/{product_id}/images/{image_id}/thumbnail", response_class=Response)
def get_thumbnail(request: Request, product_id: int, image_id: int, _: Operator) -> Response:
    """A small version of the image, as JPEG."""
    station = station_of(request)
    image = station.get(Image, image_id)
    if image.product_id != product_id:
        raise HTTPException(404, f"The product has no image {image_id}.")
    return file_response(station, image.thumbnail)


@router.get("/{product_id}/images/{image_id}/file", response_class=Response)
def get_file(request: Request, product_id: int, image_id: int, _: Operator) -> Response:
    """The image's file, as it was sent."""
    station = station_of(request)
    image = station.get(Image, image_id)
    if image.product_id != product_id:
        raise HTTPException(404, f"The product has no image {image_id}.")
    return file_response(station, image.sha256)


def findings(station: Station, product_id: int, language: str) -> list[FindingOut]:
    """The findings on a product's images, in words of a language."""
    station.product(product_id)
    with station.store.reading() as session:
        images = list(session.scalars(select(Image).where(Image.product_id == product_id)))
    words = texts_of(language)
    return [
        FindingOut(
            kind=one.kind,
            severity=one.severity,
            text=words.say(f"finding_{one.kind}", **one.values),
            values=one.values,
            images=list(one.images),
        )
        for one in checks.find(images)
    ]


async def uploads_of(form: FormData, largest: int) -> list[Arrived]:
    """The files of a form; raises HTTPException 422 without any."""
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    if not files:
        raise HTTPException(422, "The form holds no file.")
    return [Arrived(await file.read(largest + 1), file.filename or "image") for file in files]


def _add(station: Station, product: Product, arrived: Iterable[Arrived], who: str, is_defect: bool) -> AddedOut:
    refused: list[RefusedOut] = []
    images, known = [], 0
    try:
        for image, is_new in _added(station, product, arrived, who, refused, is_defect=is_defect):
            images.append(image.id)
            known += not is_new
    finally:
        new = len(images) - known
        record_addition(station.workspace, product.name, who, new, is_defect=is_defect)
    if refused and len(refused) == 1 and not images:
        raise BlemishError(refused[0].reason)
    station.bus.publish("images", product=product.id)
    return AddedOut(added=new, known=known, refused=refused, images=images)


def _added(
    station: Station,
    product: Product,
    arrived: Iterable[Arrived],
    who: str,
    refused: list[RefusedOut],
    *,
    is_defect: bool,
) -> Iterator[tuple[Image, bool]]:
    for one in arrived:
        try:
            yield add_image(station.workspace, product.id, one, who, station.settings.limits, is_defect=is_defect)
        except BlemishError as error:
            refused.append(RefusedOut(name=one.name[-120:], reason=str(error)))


def describe(session: Session, product: Product) -> ProductOut:
    """The product with its numbers."""
    own = Inspection.product_id == product.id
    today = own & (Inspection.created_at >= midnight())
    last = session.execute(
        select(Inspection.id, Inspection.created_at).where(own).order_by(Inspection.id.desc()).limit(1)
    ).first()
    teaching = session.scalar(select(Job.id).where(Job.product_id == product.id, Job.state == "running"))
    model = session.get(Model, product.active_model_id) if product.active_model_id else None
    is_running = last is not None and time.time() - last[1] < RUNNING_SECONDS
    state = "teaching" if teaching else "empty" if model is None else "running" if is_running else "ready"
    counts = dict(
        session.execute(
            select(Image.is_defect, func.count()).where(Image.product_id == product.id).group_by(Image.is_defect)
        ).all()
    )

    def count(*conditions: object) -> int:
        return session.scalar(select(func.count()).select_from(Inspection).where(*conditions)) or 0  # type: ignore[arg-type]

    return ProductOut(
        id=product.id,
        name=product.name,
        state=state,
        created_at=product.created_at,
        model=model.number if model else None,
        num_good=counts.get(False, 0),
        num_defective=counts.get(True, 0),
        inspected_today=count(today),
        rejected_today=count(today, Inspection.verdict == "defect"),
        to_review=count(waits(product.id)),
        last_inspection=last[0] if last else None,
    )


def midnight() -> float:
    """When today began, in the station's time zone."""
    now = time.localtime()
    return time.mktime((now.tm_year, now.tm_mon, now.tm_mday, 0, 0, 0, 0, 0, -1))


def image_out(image: Image) -> ImageOut:
    """The image as the interface gives it."""
    return ImageOut.model_validate(image, from_attributes=True)
