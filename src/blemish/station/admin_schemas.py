"""What the interface for administration takes and gives."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints

from blemish.station.accounts import Role
from blemish.station.schemas import Taken


class UserIn(Taken):
    """A user to create."""

    name: Annotated[str, StringConstraints(max_length=64)]
    password: Annotated[str, StringConstraints(max_length=1024)]
    role: Role


class UserChange(Taken):
    """What to change of a user."""

    role: Role | None = None
    is_active: bool | None = None
    password: Annotated[str, StringConstraints(max_length=1024)] | None = None


class UserOut(BaseModel):
    """A user."""

    id: int
    name: str
    role: Role
    is_active: bool
    created_at: float


class TokenIn(Taken):
    """A token to create."""

    name: Annotated[str, StringConstraints(max_length=64)]
    role: Role


class TokenOut(BaseModel):
    """The key of a program; `token` is given once, when it is created."""

    id: int
    name: str
    role: Role
    created_by: str
    created_at: float
    revoked_at: float | None
    token: str | None = None


class AuditOut(BaseModel):
    """A line of the audit log."""

    number: int
    at: float
    who: str
    what: str
    subject: str
    old: Any
    new: Any
    hash: str


class AuditCheck(BaseModel):
    """Whether the audit log is whole."""

    is_whole: bool
    first_changed: int | None
    num_lines: int
    last_hash: str


class Login(Taken):
    """A name and its password."""

    name: Annotated[str, StringConstraints(max_length=64)]
    password: Annotated[str, StringConstraints(max_length=1024)]


class Retention(Taken):
    """How long images are kept; what is left out has no limit. Results are kept always."""

    days: Annotated[int, Field(ge=1, le=36500)] | None = None
    bytes: Annotated[int, Field(ge=1 << 20, le=1 << 50)] | None = None


class StorageOut(BaseModel):
    """The space of the workspace."""

    files_bytes: int
    free_bytes: int
    is_full: bool
    retention: Retention
    would_remove: int = Field(description="inspections whose images the retention removes")
    removes_at: float | None = Field(description="when the station does so by itself; null where all is kept")
