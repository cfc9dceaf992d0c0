"""Jobs, and which job a result or an artifact comes from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table, and the column that points to it."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("done", sa.BigInteger, nullable=False),
        sa.Column("total", sa.BigInteger),
        sa.Column("fraction", sa.Double),
        sa.Column("created", sa.String(32), nullable=False),
        sa.Column("started", sa.String(32)),
        sa.Column("finished", sa.String(32)),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("results", sa.Text, nullable=False),
        sa.Column("report", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("process", sa.BigInteger),
        sa.Column("process_started", sa.Double),
    )
    for column in ("state", "created"):
        op.create_index(f"ix_jobs_{column}", "jobs", [column])
    for table in ("results", "artifacts"):
        op.add_column(table, sa.Column("job", sa.String(32)))
        op.create_index(f"ix_{table}_job", table, ["job"])
