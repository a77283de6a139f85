"""Who makes a request, and what that role may do. Each route names its role; a test walks all of them."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request

from blemish.station.accounts import Principal, Role, has_users, of_session, of_token
from blemish.station.station import Station, station_of

COOKIE = "blemish_session"
LOCAL = Principal("local", "admin")
"""Who works where no login is needed."""
SAFE = {"GET", "HEAD", "OPTIONS"}
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def is_open(station: Station) -> bool:
    """Whether no login is needed: the station is reached from this machine alone, and has no users."""
    return station.settings.is_loopback and not has_users(station.store)


def principal_of(request: Request) -> Principal | None:
    """Who makes the request: a program with a token, a browser that is logged in, or anyone where that is open."""
    station = station_of(request)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        with station.store.reading() as session:
            return of_token(session, token.strip())
    if cookie := request.cookies.get(COOKIE):
        with station.store.reading() as session:
            if found := of_session(session, cookie):
                return found
    return LOCAL if is_open(station) else None


def check_origin(request: Request) -> None:
    """Refuses what another website makes a browser send, and names of this machine that another one gives it."""
    host = request.headers.get("host", "")
    if urlsplit(f"//{host}").hostname not in LOOPBACK and is_open(station_of(request)):
        raise HTTPException(421, "This station answers to 127.0.0.1 and localhost alone.")
    if request.method in SAFE:
        return
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
    if site not in ("same-origin", "none") or (origin is not None and urlsplit(origin).netloc != host):
        raise HTTPException(403, "The request comes from another website.")


def _check_csrf(request: Request, principal: Principal) -> None:
    if principal.csrf is None or request.method in SAFE:
        return
    given = request.headers.get("x-csrf-token", "")
    if not secrets.compare_digest(given.encode(), principal.csrf.encode()):
        raise HTTPException(403, "The header X-CSRF-Token is missing or wrong. Load the page again.")


def needs(role: Role) -> Callable[[Request], Principal]:
    """The dependency of a route that needs a role; it gives who makes the request."""

    def check(request: Request) -> Principal:
        check_origin(request)
        principal = principal_of(request)
        if principal is None:
            raise HTTPException(401, "Log in, or send a token.", {"WWW-Authenticate": "Bearer"})
        _check_csrf(request, principal)
        if not principal.may(role):
            raise HTTPException(403, f"This needs the role {role}; {principal.name} is {principal.role}.")
        return principal

    check.role = role  # type: ignore[attr-defined]
    return check


Operator = Annotated[Principal, Depends(needs("operator"))]
Engineer = Annotated[Principal, Depends(needs("engineer"))]
Admin = Annotated[Principal, Depends(needs("admin"))]
