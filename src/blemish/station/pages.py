"""The pages: HTML made here, small scripts that call the interface for programs, and texts of one language."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files
from typing import Annotated, Any

import cv2
import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from sqlalchemy import select

from blemish.station.access import is_open, needs, principal_of
from blemish.station.accounts import Principal, Role
from blemish.station.routes.models import decision_out, model_out
from blemish.station.routes.products import describe, findings
from blemish.station.routes.teaching import job_out
from blemish.station.station import Station, station_of
from blemish.station.tables import Decision, Image, Job, Model, Product
from blemish.station.texts.reader import LANGUAGES, preferred, texts_of

router = APIRouter(include_in_schema=False)
OF_THE_REPORT = ("elements.js", "draw.js", "maps.js", "histogram.js")
"""Scripts of the report's page that are served as one module, shared.js."""
LANGUAGE_COOKIE = "blemish_language"
COLOUR_MAPS = {"cividis": cv2.COLORMAP_CIVIDIS, "inferno": cv2.COLORMAP_INFERNO, "viridis": cv2.COLORMAP_VIRIDIS}
"""Colour maps of increasing brightness, readable with any colour vision."""
KINDS = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
TABS: dict[str, Role] = {
    "teach": "engineer",
    "decide": "engineer",
    "inspect": "operator",
    "review": "operator",
    "models": "engineer",
    "line": "operator",
}
"""Page of a product -> the role that it needs, in the order of the tabs."""


def page_needs(role: Role) -> Callable[[Request], Principal]:
    """As `access.needs`, but who is not logged in is led to the login."""

    def check(request: Request) -> Principal:
        try:
            return needs(role)(request)
        except HTTPException as error:
            if error.status_code != 401:
                raise
            raise HTTPException(303, "Log in first.", {"Location": "/login"}) from None

    check.role = role  # type: ignore[attr-defined]
    return check


Operator = Annotated[Principal, Depends(page_needs("operator"))]
Engineer = Annotated[Principal, Depends(page_needs("engineer"))]
Admin = Annotated[Principal, Depends(page_needs("admin"))]


@router.get("/")
def products_page(request: Request, who: Operator) -> Response:
    """All products."""
    with station_of(request).store.reading() as session:
        found = [describe(session, product) for product in session.scalars(select(Product).order_by(Product.name))]
    return _page(request, who, "products", {"products": [one.model_dump(mode="json") for one in found]})


@router.get("/products/{product_id}/teach")
def teach_page(request: Request, product_id: int, who: Engineer) -> Response:
    """Images, checks, the region of interest, teaching."""
    station = station_of(request)
    language = _language(request)
    with station.store.reading() as session:
        chosen = select(Job).where(Job.product_id == product_id).order_by(Job.id.desc()).limit(1)
        job = session.scalar(chosen)
        first = session.scalar(select(Image).where(Image.product_id == product_id).order_by(Image.id).limit(1))
    state = {
        "job": job_out(job).model_dump(mode="json") if job else None,
        "findings": [one.model_dump(mode="json") for one in findings(station, product_id, language)],
        "can_teach": station.can_teach,
        "roi": station.product(product_id).roi,
        "first": {"id": first.id, "width": first.width, "height": first.height} if first else None,
        "may_name_folders": is_open(station) or bool(station.settings.folders),
    }
    return _page(request, who, "teach", state, product_id)


@router.get("/products/{product_id}/decide")
def decide_page(request: Request, product_id: int, who: Engineer, model: int | None = None) -> Response:
    """The thresholds of a model; the active one unless another is named."""
    station = station_of(request)
    product = station.product(product_id)
    state: dict[str, Any] = {"model": None, "models": [], "decisions": []}
    with station.store.reading() as session:
        rows = select(Model).where(Model.product_id == product_id, Model.state != "discarded").order_by(Model.id.desc())
        known = list(session.scalars(rows))
        chosen = next((one for one in known if one.id == (model or product.active_model_id)), None)
        if chosen:
            state["model"] = model_out(station, session, product, chosen).model_dump(mode="json")
            state["models"] = [{"id": one.id, "number": one.number, "state": one.state} for one in known]
            own = select(Decision).where(Decision.model_id == chosen.id).order_by(Decision.number.desc())
            state["decisions"] = [decision_out(one, chosen).model_dump(mode="json") for one in session.scalars(own)]
    return _page(request, who, "decide", state, product_id)


@router.get("/products/{product_id}/inspect")
def inspect_page(request: Request, product_id: int, who: Operator) -> Response:
    """The latest images, live."""
    return _page(request, who, "inspect", {}, product_id)


@router.get("/products/{product_id}/review")
def review_page(request: Request, product_id: int, who: Operator) -> Response:
    """The queue of what people review."""
    return _page(request, who, "review", {}, product_id)


@router.get("/products/{product_id}/models")
def models_page(request: Request, product_id: int, who: Engineer) -> Response:
    """The versions of a product's model."""
    return _page(request, who, "models", {}, product_id)


@router.get("/products/{product_id}/line")
def line_page(request: Request, product_id: int, who: Operator) -> Response:
    """Yield, rejects and drift over time."""
    return _page(request, who, "line", {}, product_id)


@router.get("/admin")
def admin_page(request: Request, who: Admin) -> Response:
    """Users, tokens, the audit log, storage."""
    return _page(request, who, "admin", {})


@router.get("/login")
def login_page(request: Request) -> Response:
    """The login."""
    if principal_of(request) is not None:
        return RedirectResponse("/", 303)
    return _page(request, None, "login", {})


@router.get("/static/{name}")
def static(request: Request, name: str) -> Response:
    """A script or style of the pages."""
    content = _static(name)
    if content is None:
        raise HTTPException(404, "There is no such file.")
    tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=KINDS[name.rpartition(".")[2]], headers=headers)


@lru_cache
def _static(name: str) -> bytes | None:
    report = files("blemish.reporting") / "templates"
    if name == "shared.js":
        return as_module("\n".join((report / script).read_text("utf-8") for script in OF_THE_REPORT)).encode()
    if name == "report.css":
        return (report / "style.css").read_bytes()
    own = files("blemish.station") / "static"
    return next((one.read_bytes() for one in own.iterdir() if one.name == name), None)


def as_module(script: str) -> str:
    """A script as a module that exports everything that it defines."""
    names = re.findall(r"^(?:const|function) ([\w$]+)", script, re.MULTILINE)
    return f"{script}\nexport {{ {', '.join(dict.fromkeys(names))} }};\n"


@lru_cache
def _environment() -> Environment:
    loader = PackageLoader("blemish.station")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@lru_cache
def _colours() -> dict[str, list[list[int]]]:
    """Name of a colour map -> 64 colours [red, green, blue] from dark to bright."""
    levels = np.round(np.linspace(0, 255, 64)).astype(np.uint8)[:, None]
    return {name: cv2.applyColorMap(levels, number)[:, 0, ::-1].tolist() for name, number in COLOUR_MAPS.items()}


def _language(request: Request) -> str:
    chosen = request.query_params.get("language") or request.cookies.get(LANGUAGE_COOKIE)
    return chosen if chosen in LANGUAGES else preferred(request.headers.get("accept-language", ""))


def _page(
    request: Request, who: Principal | None, name: str, state: dict[str, Any], product_id: int | None = None
) -> HTMLResponse:
    station, texts = station_of(request), texts_of(_language(request))
    product = None
    if product_id is not None:
        found = station.product(product_id)
        with station.store.reading() as session:
            product = describe(session, found).model_dump(mode="json")
    tabs = [tab for tab, role in TABS.items() if product and who and who.may(role)]
    html = (
        _environment()
        .get_template(f"{name}.html")
        .render(
            t=texts.say,
            texts=texts.words,
            language=texts.language,
            languages=LANGUAGES,
            who=who,
            name=name,
            product=product,
            tabs=tabs,
            colours=_colours(),
            state=state | {"product": product, "role": who.role if who else None, "name": who.name if who else None},
            station=_about(station, who),
        )
    )
    response = HTMLResponse(html)
    if request.query_params.get("language") in LANGUAGES:
        response.set_cookie(LANGUAGE_COOKIE, texts.language, max_age=31536000, samesite="lax", httponly=True)
    return response


def _about(station: Station, who: Principal | None) -> dict[str, Any]:
    return {"condition": "ok" if who is None else station.recorder.condition, "is_open": is_open(station)}
