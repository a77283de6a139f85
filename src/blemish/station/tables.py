"""The tables of a station's database. Images and models are files; here are their names, and what was done.

Times are seconds since 1970 in UTC. A column that ends with `_by` holds the name of a user.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, Integer, MetaData, Text, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Number = BigInteger().with_variant(Integer, "sqlite")
"""The type of identifiers; SQLite counts up only plain integers."""
Json = dict[str, Any]


class Base(DeclarativeBase):
    """The base of all tables."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {
        dict[str, Any]: JSON,
        list[Any]: JSON,
        float: Double,
        str: Text,
        int: Number,
    }
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class User(Base):
    """A person who may log in."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    role: Mapped[str]
    is_active: Mapped[bool] = mapped_column(default=True)
    failures: Mapped[int] = mapped_column(default=0)
    """Wrong passwords since the last right one."""
    locked_until: Mapped[float] = mapped_column(default=0.0)
    created_at: Mapped[float] = mapped_column(default=time.time)


class LoginSession(Base):
    """A browser that is logged in; the cookie's token is stored as its SHA-256."""

    __tablename__ = "sessions"
    token_sha256: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    csrf: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=time.time)
    expires_at: Mapped[float]


class Token(Base):
    """The key of a program; stored as its SHA-256."""

    __tablename__ = "tokens"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    token_sha256: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=time.time)
    revoked_at: Mapped[float | None]


class Product(Base):
    """A kind of part that is inspected."""

    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_by: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=time.time)
    active_model_id: Mapped[int | None]
    roi: Mapped[Json | None]
    """{"size": [height, width], "polygons": [[[x, y], ...], ...]} in pixels; None: the whole image."""


class Image(Base):
    """An image to teach or to check with; its file is named by the SHA-256 of its content."""

    __tablename__ = "images"
    __table_args__ = (UniqueConstraint("product_id", "sha256"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    sha256: Mapped[str]
    pixel_sha256: Mapped[str]
    name: Mapped[str]
    is_defect: Mapped[bool]
    width: Mapped[int]
    height: Mapped[int]
    brightness: Mapped[float]
    """Mean of the pixels, from 0 to 1."""
    sharpness: Mapped[float]
    """Variance of the Laplacian of the image at a common size; lower is more blurred."""
    taken_at: Mapped[float | None]
    """When it was taken, where the file or its name says so."""
    thumbnail: Mapped[str]
    """SHA-256 of the file with its thumbnail, a JPEG."""
    added_by: Mapped[str]
    added_at: Mapped[float] = mapped_column(default=time.time)


class Job(Base):
    """A piece of work in a process of its own: teaching, or learning from reviews."""

    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"), index=True)
    station: Mapped[str]
    """The host that runs it."""
    kind: Mapped[str]
    """teach, learn or export."""
    state: Mapped[str] = mapped_column(default="running")
    """running, done, failed or cancelled."""
    settings: Mapped[Json]
    stage: Mapped[str] = mapped_column(default="")
    done: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(default=0)
    stage_since: Mapped[float] = mapped_column(default=time.time)
    log: Mapped[list[Any]] = mapped_column(default=list)
    error: Mapped[str | None]
    model_id: Mapped[int | None]
    created_by: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=time.time)
    ended_at: Mapped[float | None]


class Model(Base):
    """A version of a product's fitted detector; its folder is models/<folder> in the workspace."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("product_id", "number"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    number: Mapped[int]
    folder: Mapped[str]
    state: Mapped[str] = mapped_column(default="ready")
    """ready, candidate (learned, not yet accepted) or discarded."""
    parent_id: Mapped[int | None]
    active_decision_id: Mapped[int | None]
    lineage: Mapped[Json]
    """How it came about: settings, numbers of images, their SHA-256, reviews."""
    created_by: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=time.time)


class Check(Base):
    """The score of an image of a model's frozen check set: held-out good images, and defects if there are any."""

    __tablename__ = "checks"
    __table_args__ = (UniqueConstraint("model_id", "image_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id"))
    is_defect: Mapped[bool]
    score: Mapped[float]
    areas: Mapped[list[Any]]
    """The areas in pixels of its regions above the pixel threshold, the largest first, at most 12."""
    preview: Mapped[str]
    """SHA-256 of the file with its thumbnail and map."""


class Decision(Base):
    """A version of a model's thresholds. A higher score than `defect_threshold` is a defect; between both: review."""

    __tablename__ = "decisions"
    __table_args__ = (UniqueConstraint("model_id", "number"), Index(None, "model_id", "key", unique=True))
    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    number: Mapped[int]
    review_threshold: Mapped[float]
    defect_threshold: Mapped[float]
    pixel_threshold: Mapped[float]
    min_area: Mapped[int]
    key: Mapped[str | None]
    """The idempotency key of the request."""
    note: Mapped[str] = mapped_column(default="")
    created_by: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=time.time)


_IS_KEPT = text("image IS NOT NULL")


class Inspection(Base):
    """The result for one image."""

    __tablename__ = "inspections"
    __table_args__ = (
        UniqueConstraint("product_id", "key"),
        Index(None, "product_id", "id"),
        Index(None, "product_id", "verdict", "id"),
        Index(None, "product_id", "awaits_review", "verdict", "id"),
        Index("ix_inspections_report", "product_id", "created_at", "verdict", "reviewed", "latency", "drawn"),
        Index("ix_inspections_kept", "created_at", sqlite_where=_IS_KEPT, postgresql_where=_IS_KEPT),
        Index(None, "model_id", "id"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    decision_id: Mapped[int] = mapped_column(ForeignKey("decisions.id"))
    key: Mapped[str | None]
    """The idempotency key of the request."""
    name: Mapped[str]
    sha256: Mapped[str]
    width: Mapped[int]
    height: Mapped[int]
    score: Mapped[float]
    p_value: Mapped[float]
    verdict: Mapped[str]
    """good, review or defect."""
    regions: Mapped[list[Any]]
    image: Mapped[str | None]
    preview: Mapped[str | None]
    """SHA-256 of the image's file and of its preview; None where it is not kept (any more)."""
    source: Mapped[str]
    latency: Mapped[float]
    """Seconds from the arrival of the image to its result."""
    drawn: Mapped[float]
    """A random number in [0, 1), by which good images are sampled for review."""
    created_by: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=time.time)
    awaits_review: Mapped[bool]
    """Whether it is in the queue: doubtful, rejected or sampled, and not reviewed."""
    reviewed: Mapped[str | None]
    """good, defect or unsure: the review that counts."""


class Review(Base):
    """What a person said of an inspection."""

    __tablename__ = "reviews"
    id: Mapped[int] = mapped_column(primary_key=True)
    inspection_id: Mapped[int] = mapped_column(ForeignKey("inspections.id"), index=True)
    verdict: Mapped[str]
    reason: Mapped[str] = mapped_column(default="")
    created_by: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=time.time)
    undone_at: Mapped[float | None]
    learned_by: Mapped[int | None]
    """The model that learned the image."""


class Claim(Base):
    """Who looks at an inspection now, so that two reviewers are not shown the same."""

    __tablename__ = "claims"
    inspection_id: Mapped[int] = mapped_column(ForeignKey("inspections.id"), primary_key=True, autoincrement=False)
    who: Mapped[str]
    until: Mapped[float]


class AuditEntry(Base):
    """One line of the audit log; its hash covers the line before."""

    __tablename__ = "audit"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[float]
    who: Mapped[str]
    what: Mapped[str]
    subject: Mapped[str]
    old: Mapped[str]
    new: Mapped[str]
    """The values before and after, as JSON."""
    hash: Mapped[str]


class Setting(Base):
    """A setting of the station."""

    __tablename__ = "settings"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[Json]
