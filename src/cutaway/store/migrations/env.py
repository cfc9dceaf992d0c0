"""Run by alembic: take the steps on the connection that `cutaway.store.database` opened."""

from __future__ import annotations

from alembic import context

from cutaway.store.tables import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
context.run_migrations()
