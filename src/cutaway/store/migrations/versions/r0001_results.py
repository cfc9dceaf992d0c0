"""Results, artifacts and their tags."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "results",
        *_kept(),
        *_texts("method", "task", "model"),
        sa.Column("seconds", sa.Double, nullable=False),
        *_texts("command", "metrics", "views"),
        sa.Column("checks", sa.Integer, nullable=False),
        sa.Column("checks_passed", sa.Integer, nullable=False),
    )
    op.create_table("artifacts", *_kept(), *_texts("kind", "about", "provenance"))
    op.create_table(
        "tags",
        sa.Column("item", sa.String(64), primary_key=True),
        sa.Column("tag", sa.Text, primary_key=True),
        sa.Column("place", sa.Integer, nullable=False),
    )
    for table, columns in {
        "results": ("created", "method", "task", "model"),
        "artifacts": ("created", "kind"),
        "tags": ("tag",),
    }.items():
        for column in columns:
            op.create_index(f"ix_{table}_{column}", table, [column])


def _kept() -> list[sa.Column[Any]]:
    return [
        sa.Column("id", sa.String(64), primary_key=True),
        *_texts("title", "note"),
        sa.Column("created", sa.String(32), nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        *_texts("search"),
        sa.Column("leaving", sa.Boolean, nullable=False),
    ]


def _texts(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]
