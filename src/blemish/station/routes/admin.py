"""Users, tokens, the audit log and storage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from blemish.station import audit, retention
from blemish.station.access import Admin
from blemish.station.accounts import create_token, create_user, end_sessions, has_users, hash_password
from blemish.station.admin_schemas import (
    AuditCheck,
    AuditOut,
    Retention,
    StorageOut,
    TokenIn,
    TokenOut,
    UserChange,
    UserIn,
    UserOut,
)
from blemish.station.station import Station, station_of
from blemish.station.tables import AuditEntry, Token, User

router = APIRouter(prefix="/v1/admin", tags=["administration"])


@router.get("/users")
def list_users(request: Request, _: Admin) -> list[UserOut]:
    """All users, by name."""
    with station_of(request).store.reading() as session:
        users = session.scalars(select(User).order_by(User.name))
        return [UserOut.model_validate(user, from_attributes=True) for user in users]


@router.post("/users", status_code=201)
def add_user(request: Request, new: UserIn, who: Admin) -> UserOut:
    """Creates a user. The first must be an admin; from then on everyone has to log in."""
    store = station_of(request).store
    if new.role != "admin" and not has_users(store):
        raise HTTPException(409, "The first user must be an admin, since everyone has to log in from then on.")
    user = create_user(store, new.name, new.password, new.role, who.name)
    return UserOut.model_validate(user, from_attributes=True)


@router.patch("/users/{user_id}")
def change_user(request: Request, user_id: int, change: UserChange, who: Admin) -> UserOut:
    """Changes a user's role or password, or whether the user may log in; that ends the user's sessions."""
    station = station_of(request)
    station.get(User, user_id)
    digest = hash_password(change.password) if change.password is not None else None
    with station.store.writing() as session:
        user = session.get_one(User, user_id)
        old = {"role": user.role, "is_active": user.is_active}
        user.role = change.role or user.role
        user.is_active = user.is_active if change.is_active is None else change.is_active
        if digest:
            user.password_hash, user.failures, user.locked_until = digest, 0, 0.0
        session.flush()
        _check_admin_left(session)
        end_sessions(session, user)
        new = {"role": user.role, "is_active": user.is_active, "password changed": digest is not None}
        audit.append(session, who.name, "user changed", f"user {user.name}", old, new)
        return UserOut.model_validate(user, from_attributes=True)


def _check_admin_left(session: Session) -> None:
    left = select(func.count()).select_from(User).where(User.role == "admin", User.is_active)
    if not session.scalar(left):
        raise HTTPException(409, "This is the last admin. Make another one first.")


@router.get("/tokens")
def list_tokens(request: Request, _: Admin) -> list[TokenOut]:
    """The tokens of programs, by name."""
    with station_of(request).store.reading() as session:
        return [_token_out(token) for token in session.scalars(select(Token).order_by(Token.name))]


@router.post("/tokens", status_code=201)
def add_token(request: Request, new: TokenIn, who: Admin) -> TokenOut:
    """Creates a token for a program; it is shown this once."""
    secret, token = create_token(station_of(request).store, new.name, new.role, who.name)
    return _token_out(token, secret)


@router.delete("/tokens/{token_id}", status_code=204)
def revoke_token(request: Request, token_id: int, who: Admin) -> Response:
    """Revokes a token."""
    station = station_of(request)
    station.get(Token, token_id)
    with station.store.writing() as session:
        token = session.get_one(Token, token_id)
        token.revoked_at = (
            token.revoked_at or audit.append(session, who.name, "token revoked", f"token {token.name}").at
        )
    return Response(status_code=204)


@router.get("/audit")
def list_audit(
    request: Request,
    _: Admin,
    before: Annotated[int, Query(ge=1)] = 2**62,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[AuditOut]:
    """Lines of the audit log, the latest first."""
    with station_of(request).store.reading() as session:
        chosen = select(AuditEntry).where(AuditEntry.number < min(before, 2**62))
        return [_audit_out(one) for one in session.scalars(chosen.order_by(AuditEntry.number.desc()).limit(limit))]


@router.get("/audit/check")
def check_audit(request: Request, _: Admin) -> AuditCheck:
    """Whether every line of the audit log is as it was written."""
    with station_of(request).store.reading() as session:
        changed = audit.first_changed(session)
        last = session.scalar(select(AuditEntry).order_by(AuditEntry.number.desc()).limit(1))
    return AuditCheck(
        is_whole=changed is None,
        first_changed=changed,
        num_lines=last.number if last else 0,
        last_hash=last.hash if last else audit.START,
    )


@router.get("/audit/export", response_class=StreamingResponse)
def export_audit(request: Request, _: Admin) -> StreamingResponse:
    """The whole audit log as JSON lines, with the hashes."""
    store = station_of(request).store

    def lines() -> Iterator[str]:
        with store.reading() as session:
            for entry in audit.lines(session):
                yield json.dumps(_audit_out(entry).model_dump()) + "\n"

    headers = {"Content-Disposition": 'attachment; filename="audit.jsonl"'}
    return StreamingResponse(lines(), media_type="application/jsonl", headers=headers)


@router.get("/storage")
def get_storage(request: Request, _: Admin) -> StorageOut:
    """The space that files take, and what the retention would remove now."""
    return _storage(station_of(request))


@router.put("/storage/retention")
def set_retention(request: Request, chosen: Retention, who: Admin) -> StorageOut:
    """Sets how long images are kept. Nothing is removed yet: the answer says how many would be, and from when on the
    station removes them each day.
    """
    station = station_of(request)
    with station.store.writing() as session:
        retention.choose(session, chosen, who.name)
    return _storage(station)


@router.post("/storage/clean")
def clean(request: Request, who: Admin) -> StorageOut:
    """Removes the images that the retention does not keep; the results stay."""
    station = station_of(request)
    retention.clean(station.workspace, who.name)
    return _storage(station)


@router.post("/backup", response_class=Response)
def backup(request: Request, who: Admin) -> Response:
    """Copies the database, the models and the images to backups/<time> in the workspace, while the station works."""
    from blemish.station.backup import back_up

    folder = back_up(station_of(request).workspace, who.name)
    return Response(json.dumps({"folder": str(folder)}), media_type="application/json", status_code=201)


def _storage(station: Station) -> StorageOut:
    with station.store.reading() as session:
        chosen = retention.chosen(session)
        number = len(retention.outdated(session, station.workspace, chosen))
        removes_at = retention.next_run(session)
    return StorageOut(
        files_bytes=station.workspace.blobs.size,
        free_bytes=station.disk_free,
        is_full=station.recorder.condition != "ok",
        retention=chosen,
        would_remove=number,
        removes_at=removes_at,
    )


def _token_out(token: Token, secret: str | None = None) -> TokenOut:
    return TokenOut.model_validate(token, from_attributes=True).model_copy(update={"token": secret})


def _audit_out(entry: AuditEntry) -> AuditOut:
    def value(text: str) -> Any:
        return json.loads(text) if text else None

    return AuditOut(
        number=entry.number,
        at=entry.at,
        who=entry.who,
        what=entry.what,
        subject=entry.subject,
        old=value(entry.old),
        new=value(entry.new),
        hash=entry.hash,
    )
