"""What happens on a line: counters, figures of a period, the watched folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from sqlalchemy import func, select

from blemish.errors import extras
from blemish.station.access import Engineer, Operator, is_open
from blemish.station.reporting import By, as_csv, p95, period
from blemish.station.routes.products import midnight
from blemish.station.schemas import CountersOut, PeriodOut, WatchIn, WatchOut
from blemish.station.station import station_of
from blemish.station.tables import Inspection
from blemish.station.texts.reader import texts_of

router = APIRouter(prefix="/v1/products", tags=["line"])
LATEST = 1000
"""Results whose latency the counters look at."""
Days = Annotated[int, Query(ge=1, le=366)]
Until = Annotated[
    float | None, Query(ge=0, le=1e11, description="end of the period, seconds since 1970; now if left out")
]


@router.get("/{product_id}/counters")
def counters(request: Request, product_id: int, _: Operator) -> CountersOut:
    """What happened today."""
    station = station_of(request)
    station.product(product_id)
    own = Inspection.product_id == product_id
    with station.store.reading() as session:
        today = own & (Inspection.created_at >= midnight())
        counts = dict(
            session.execute(select(Inspection.verdict, func.count()).where(today).group_by(Inspection.verdict)).all()
        )
        minute = select(func.count()).select_from(Inspection).where(own, Inspection.created_at >= time.time() - 60)
        latest = select(Inspection.latency).where(today).order_by(Inspection.created_at.desc()).limit(LATEST)
        return CountersOut(
            inspected=sum(counts.values()),
            good=counts.get("good", 0),
            review=counts.get("review", 0),
            defect=counts.get("defect", 0),
            per_minute=session.scalar(minute) or 0,
            p95=p95(list(session.scalars(latest))),
        )


@router.get("/{product_id}/report")
def report(
    request: Request, product_id: int, _: Operator, days: Days = 7, by: By = "day", until: Until = None
) -> PeriodOut:
    """The figures of a period, and whether scores have drifted lately."""
    station = station_of(request)
    product = station.product(product_id)
    with station.store.reading() as session:
        return period(session, product, days, by, until)


@router.get("/{product_id}/report.csv", response_class=Response)
def report_csv(
    request: Request, product_id: int, who: Operator, days: Days = 7, by: By = "day", until: Until = None
) -> Response:
    """The figures of a period as CSV."""
    found = report(request, product_id, who, days, by, until)
    headers = {"Content-Disposition": f'attachment; filename="product-{product_id}.csv"'}
    return Response(as_csv(found), media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/{product_id}/report.pdf", response_class=Response)
def report_pdf(
    request: Request,
    product_id: int,
    who: Operator,
    days: Days = 7,
    by: By = "day",
    until: Until = None,
    language: Literal["en", "de"] = "en",
) -> Response:
    """The figures of a period as PDF; needs matplotlib, of the extra `train`."""
    with extras():
        from blemish.station.period_pdf import as_pdf

    found = report(request, product_id, who, days, by, until)
    name = station_of(request).product(product_id).name
    headers = {"Content-Disposition": f'attachment; filename="product-{product_id}.pdf"'}
    content = as_pdf(found, name, texts_of(language))
    return Response(content, media_type="application/pdf", headers=headers)


@router.get("/{product_id}/watch")
def get_watch(request: Request, product_id: int, _: Operator) -> WatchOut:
    """The folder whose new images are inspected."""
    station = station_of(request)
    station.product(product_id)
    path, problem = station.watching.of(product_id)
    return WatchOut(path=path, problem=problem or None)


@router.put("/{product_id}/watch")
def set_watch(request: Request, product_id: int, given: WatchIn, who: Engineer) -> WatchOut:
    """Inspects new images in a folder of the station's machine, which must be one that it was started with."""
    station = station_of(request)
    station.product(product_id)
    path = Path(given.path).resolve()
    if not station.may_read(path) and not is_open(station):
        raise HTTPException(403, "The station takes no images from there. Start it with --folder.")
    station.watching.watch(product_id, path, who.name)
    return get_watch(request, product_id, who)


@router.delete("/{product_id}/watch", status_code=204)
def stop_watch(request: Request, product_id: int, who: Engineer) -> Response:
    """Watches no folder any more."""
    station = station_of(request)
    station.product(product_id)
    station.watching.stop(product_id, who.name)
    return Response(status_code=204)
