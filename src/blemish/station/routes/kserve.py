"""The open inference protocol (KServe, version 2): a product is a model."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from fastapi import APIRouter, HTTPException, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field
from sqlalchemy import select

import blemish
from blemish.errors import BlemishError
from blemish.station.access import Operator
from blemish.station.routes.inspections import found_out, inspect_one
from blemish.station.station import Station, station_of
from blemish.station.tables import Product
from blemish.station.uploads import Arrived

router = APIRouter(prefix="/v2", tags=["KServe"])
INPUT = {"name": "image", "datatype": "BYTES", "shape": [1]}
OUTPUTS = {"score": "FP64", "p_value": "FP64", "decision": "BYTES", "regions": "BYTES", "id": "INT64"}
"""Name of an output -> its data type; each has the shape [1], and `regions` is JSON."""
Name = Annotated[str, Path(max_length=100, description="the product's name or number")]


class Tensor(BaseModel):
    """An input: an image file in base64 (BYTES, shape [1]), or pixels (UINT8, shape [H, W], [H, W, 3] or [1, ...])."""

    name: Annotated[str, Field(max_length=100)]
    datatype: Literal["BYTES", "UINT8"]
    shape: list[Annotated[int, Field(ge=1, le=100_000)]] = Field(min_length=1, max_length=4)
    data: list[Any]
    parameters: dict[str, Any] = {}


class InferIn(BaseModel):
    """A request; `id` is its idempotency key, too."""

    id: Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")] | None = None
    inputs: list[Tensor] = Field(min_length=1, max_length=1)
    outputs: list[dict[str, Any]] = []
    parameters: dict[str, Any] = {}


class InferOut(BaseModel):
    """The outputs of a model."""

    model_name: str
    model_version: str
    id: str | None
    outputs: list[dict[str, Any]]


@router.get("")
def server(_: Operator) -> dict[str, Any]:
    """The server's name, version and extensions."""
    return {"name": "blemish", "version": blemish.__version__, "extensions": []}


@router.get("/health/live")
def live(_: Operator) -> dict[str, bool]:
    """Whether the server answers."""
    return {"live": True}


@router.get("/health/ready")
def ready(_: Operator) -> dict[str, bool]:
    """Whether the server is ready."""
    return {"ready": True}


@router.get("/models/{name}")
def metadata(request: Request, name: Name, _: Operator) -> dict[str, Any]:
    """The inputs and outputs of a model."""
    product = _product(station_of(request), name)
    outputs = [{"name": output, "datatype": kind, "shape": [1]} for output, kind in OUTPUTS.items()]
    versions = [str(product.active_model_id)] if product.active_model_id else []
    return {"name": product.name, "versions": versions, "platform": "blemish", "inputs": [INPUT], "outputs": outputs}


@router.get("/models/{name}/ready")
def model_ready(request: Request, response: Response, name: Name, _: Operator) -> dict[str, Any]:
    """Whether a model can infer."""
    product = _product(station_of(request), name)
    response.status_code = 200 if product.active_model_id else 409
    return {"name": product.name, "ready": bool(product.active_model_id)}


@router.post("/models/{name}/infer")
async def infer(request: Request, name: Name, given: InferIn, who: Operator) -> InferOut:
    """Inspects one image; it is recorded as any other."""
    station = station_of(request)
    product = await run_in_threadpool(_product, station, name)
    content = await run_in_threadpool(_content, given.inputs[0])
    arrived = Arrived(content, given.inputs[0].name)
    found = found_out(await inspect_one(station, product.id, arrived, who.name, "kserve", given.id), arrived.name)
    values = {
        "score": found.score,
        "p_value": found.p_value,
        "decision": found.decision,
        "regions": json.dumps([region.model_dump() for region in found.regions]),
        "id": -1 if found.id is None else found.id,
    }
    outputs = [{"name": one, "datatype": OUTPUTS[one], "shape": [1], "data": [value]} for one, value in values.items()]
    return InferOut(model_name=product.name, model_version=str(found.model), id=given.id, outputs=outputs)


def _product(station: Station, name: str) -> Product:
    with station.store.reading() as session:
        found = session.scalar(select(Product).where(Product.name == name)) if "\0" not in name else None
    if found is None and name.isascii() and name.isdigit():
        return station.product(int(name[:20]))
    if found is None:
        raise HTTPException(404, "There is no such product.")
    return found


def _content(tensor: Tensor) -> bytes:
    """The image file of an input; raises BlemishError where it is none."""
    if tensor.datatype == "BYTES":
        if tensor.shape != [1] or len(tensor.data) != 1 or not isinstance(tensor.data[0], str):
            raise BlemishError("inputs: BYTES need the shape [1] and one image file in base64.")
        try:
            return base64.b64decode(tensor.data[0], validate=True)
        except (binascii.Error, ValueError):
            raise BlemishError("inputs: the data are not base64.") from None
    shape = tensor.shape[1:] if tensor.shape[0] == 1 and len(tensor.shape) > 2 else tensor.shape
    try:
        pixels = np.asarray(tensor.data).reshape(shape)
    except (ValueError, OverflowError):
        raise BlemishError(f"inputs: the data do not have the shape {tensor.shape}.") from None
    is_image = len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)
    if not is_image or pixels.dtype.kind not in "iu" or pixels.min() < 0 or pixels.max() > 255:
        raise BlemishError("inputs: UINT8 need the shape [H, W] or [H, W, 3], and whole numbers from 0 to 255.")
    shown = pixels.astype(np.uint8)
    return cv2.imencode(".png", shown[:, :, ::-1] if shown.ndim == 3 else shown)[1].tobytes()
