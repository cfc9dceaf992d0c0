"""What does the index hold? A row a result, a row an artifact, a row a job; the arrays are in files.

The tables are the same on SQLite and PostgreSQL: text, numbers and JSON written as text, so that neither the
order of words nor what counts as a letter depends on the database. A change here needs a migration beside it
(`migrations/versions`), which a test demands.
Limits: text that a database cannot hold (NUL, half of a surrogate pair) is replaced in titles and notes; JSON
columns keep it as escapes.
"""

from __future__ import annotations

import json
import re
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

VERSION_TABLE = "cutaway_version"
REVISIONS = ("0001", "0002")  # from the oldest to the one that this code reads and writes
_UNKEPT = re.compile("[\x00\ud800-\udfff]")


def held(text: str) -> str:
    """The text with what a database cannot hold replaced."""
    return _UNKEPT.sub("\ufffd", text)


class Words(TypeDecorator[str]):
    """Text that every database holds: what it cannot is replaced by the replacement character."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        """What is written."""
        return None if value is None else held(value)


class Record(TypeDecorator[Any]):
    """A JSON value as text: NaN and infinities are kept, which a database's own JSON refuses."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> str:
        """What is written: ASCII, whatever is in the value."""
        return json.dumps(value, ensure_ascii=True)

    def process_result_value(self, value: str | None, dialect: Any) -> Any:
        """What is read."""
        return None if value is None else json.loads(value)


metadata = MetaData()


def _kept(name: str, *further: Column[Any]) -> Table:
    """What a result and an artifact have alike; `leaving` marks a row whose deletion has begun."""
    return Table(
        name,
        metadata,
        Column("id", String(64), primary_key=True),
        Column("title", Words, nullable=False, default=""),
        Column("note", Words, nullable=False, default=""),
        Column("created", String(32), nullable=False, index=True),
        Column("bytes", BigInteger, nullable=False),
        Column("sha256", String(64), nullable=False),
        Column("search", Words, nullable=False),
        Column("leaving", Boolean, nullable=False, default=False),
        *further,
    )


results = _kept(
    "results",
    Column("method", Words, nullable=False, index=True),
    Column("task", Words, nullable=False, index=True),
    Column("model", Words, nullable=False, index=True),
    Column("seconds", Double, nullable=False),
    Column("command", Words, nullable=False),
    Column("metrics", Record, nullable=False),
    Column("views", Record, nullable=False),
    Column("checks", Integer, nullable=False),
    Column("checks_passed", Integer, nullable=False),
    Column("job", String(32), nullable=True, index=True),
)

artifacts = _kept(
    "artifacts",
    Column("kind", Words, nullable=False, index=True),
    Column("about", Record, nullable=False),
    Column("provenance", Record, nullable=False),
    Column("job", String(32), nullable=True, index=True),
)

tags = Table(
    "tags",
    metadata,
    Column("item", String(64), primary_key=True),
    Column("tag", Words, primary_key=True),
    Column("place", Integer, nullable=False),
    Index("ix_tags_tag", "tag"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", Words, nullable=False),
    Column("spec", Record, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("what", Words, nullable=False, default=""),
    Column("done", BigInteger, nullable=False, default=0),
    Column("total", BigInteger, nullable=True),
    Column("fraction", Double, nullable=True),
    Column("created", String(32), nullable=False, index=True),
    Column("started", String(32), nullable=True),
    Column("finished", String(32), nullable=True),
    Column("error", Words, nullable=False, default=""),
    Column("results", Record, nullable=False),
    Column("report", Record, nullable=False),
    Column("host", Words, nullable=False, default=""),
    Column("process", BigInteger, nullable=True),
    Column("process_started", Double, nullable=True),
)
