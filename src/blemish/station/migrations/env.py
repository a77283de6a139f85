"""Runs migrations on the connection that the store gives."""

from __future__ import annotations

from alembic import context

from blemish.station.tables import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
