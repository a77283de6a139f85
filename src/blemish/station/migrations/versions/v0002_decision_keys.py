"""The idempotency key of a decision."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the key, which is unique for a model."""
    op.add_column("decisions", sa.Column("key", sa.Text(), nullable=True))
    op.create_index(op.f("ix_decisions_model_id_key"), "decisions", ["model_id", "key"], unique=True)
