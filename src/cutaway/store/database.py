"""Which database holds the index, and how is it opened so that many processes can use it at once?

SQLite in the folder of the store, in WAL mode: readers never wait, writers wait for each other, up to a
minute. Or PostgreSQL, by URL. A write begins as a write (`BEGIN IMMEDIATE`), because a transaction that begins
as a reader and turns into a writer is refused by SQLite, not made to wait. An index of an earlier cutaway is
brought up to date when it is opened; one of a later cutaway is refused.
Limits: SQLite's WAL needs a disk of this machine; on a network disk take PostgreSQL.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from cutaway.core.errors import StoreError
from cutaway.store.tables import REVISIONS, VERSION_TABLE

INDEX = "index.sqlite"
_WAIT = 60  # seconds that a writer waits for the others
_CONNECTIONS = 16  # kept open; threads of a server that ask at once may have four times as many
_POSTGRES = ("postgresql+psycopg", "postgresql", "postgres")
_MIGRATING = 0x637574617761  # the advisory lock that those who migrate one PostgreSQL database take


def located(place: str | Path | None, files: str | Path | None = None) -> tuple[URL, Path]:
    """Where the index and the files of a store are.

    Args:
        place: a folder, or the URL of a PostgreSQL database; by default what CUTAWAY_STORE says, or else
            `store` in the user's data folder.
        files: the folder of the files, where `place` is a URL; `?files=FOLDER` at its end says it too.

    Raises:
        StoreError: neither a folder nor a URL that is understood, or a URL without a folder.
    """
    said = str(place or os.environ.get("CUTAWAY_STORE") or Path(platformdirs.user_data_dir("cutaway")) / "store")
    if "://" not in said:
        folder = Path(files or said).expanduser().absolute()
        return URL.create("sqlite", database=str(Path(said).expanduser().absolute() / INDEX)), folder
    try:
        url = make_url(said)
    except (ArgumentError, ValueError) as error:
        raise StoreError("the place of the store is a URL that cannot be read.", *_PLACES) from error.with_traceback(
            None
        )
    if url.drivername not in _POSTGRES:
        raise StoreError(f"a store cannot be kept at a {url.drivername}:// address;", *_PLACES)
    folder_said = files or url.query.get("files")
    if not folder_said or not isinstance(folder_said, str | Path):
        raise StoreError(
            f"no folder is named for the files of the store at {shown(url)};",
            "the database holds the index, a folder that all its users share holds the arrays.",
            f"Write {shown(url)}{'&' if url.query else '?'}files=/shared/folder",
        )
    plain = url.set(drivername=_POSTGRES[0]).difference_update_query(["files"])
    return plain, Path(folder_said).expanduser().absolute()


_PLACES = (
    "a store is a folder, or a PostgreSQL database.",
    "Write a folder, or postgresql://user@host/database?files=/shared/folder",
)


def shown(url: URL) -> str:
    """The place as it can be printed: without its password."""
    return url.database or "" if url.drivername == "sqlite" else url.render_as_string(hide_password=True)


def connected(url: URL) -> Engine:
    """The database, not yet used.

    Raises:
        StoreError: what speaks to PostgreSQL is not installed.
    """
    sqlite = url.drivername == "sqlite"
    arguments: dict[str, Any] = {"timeout": _WAIT} if sqlite else {"connect_timeout": 10}
    try:
        engine = create_engine(
            url, connect_args=arguments, pool_pre_ping=not sqlite, pool_size=_CONNECTIONS, max_overflow=3 * _CONNECTIONS
        )
    except (ImportError, NoSuchModuleError) as error:
        raise StoreError(
            "a store in PostgreSQL needs the package psycopg, which is not installed.",
            "A store in a folder needs nothing further.",
            "Install it: pip install 'cutaway[postgres]'",
        ) from error
    if sqlite:
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection that sees the index as it is at its first question.

    Raises:
        StoreError: the database cannot be reached or read.
    """
    with _in_words(engine), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A connection on which all is written, or nothing.

    Raises:
        StoreError: the database cannot be reached or written to.
    """
    with _in_words(engine), engine.connect().execution_options(immediate=True) as connection, connection.begin():
        yield connection


def bring_up_to_date(engine: Engine) -> None:
    """Make the tables, or change those of an earlier cutaway. The caller sees to it that nobody else does.

    Raises:
        StoreError: a later cutaway made them, or another program.
    """
    revision = _revision(engine)
    if revision == REVISIONS[-1]:
        return
    from alembic import command
    from alembic.config import Config

    if engine.dialect.name == "sqlite":
        with _in_words(engine), _raw(engine) as raw:
            raw.execute("PRAGMA journal_mode=WAL")
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    with writing(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATING})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def compact(engine: Engine) -> None:
    """Give the room of deleted rows back to the disk. PostgreSQL does so by itself."""
    if engine.dialect.name == "sqlite":
        with _in_words(engine), _raw(engine) as raw:
            raw.execute("VACUUM")
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _revision(engine: Engine) -> str | None:
    """The step at which the tables are; None where there are none."""
    with reading(engine) as connection:
        names = set(inspect(connection).get_table_names())
        if VERSION_TABLE in names:
            revision = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
        elif {"results", "artifacts", "jobs", "tags"} & names:
            raise StoreError(
                f"{shown(engine.url)} holds tables of another program;",
                "a store has a folder or a database of its own.",
                "Name another place.",
            )
        else:
            return None
    if revision is not None and revision not in REVISIONS:
        raise StoreError(
            f"the store at {shown(engine.url)} was made by a newer cutaway (its index is of version {revision}).",
            f"This one knows the versions up to {REVISIONS[-1]}.",
            "Install a newer cutaway: pip install -U cutaway",
        )
    return str(revision) if revision else None


@contextmanager
def _raw(engine: Engine) -> Iterator[Any]:
    """The driver's own connection, outside any transaction."""
    connection = engine.raw_connection()
    try:
        yield connection.driver_connection
    finally:
        connection.close()


def _prepare(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions begin where `_begin` says
    connection.execute("PRAGMA synchronous=FULL")  # a row that was written is there after a power cut
    connection.execute(f"PRAGMA busy_timeout={_WAIT * 1000}")


def _begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


@contextmanager
def _in_words(engine: Engine) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        said = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
        where = shown(engine.url)
        raise StoreError(f"the index of the store at {where} cannot be used: {said[0]}.", *_advice(said[0])) from error
    except SQLAlchemyError as error:
        raise StoreError(f"the index of the store at {shown(engine.url)} cannot be used: {error}.") from error


def _advice(said: str) -> tuple[str, str]:
    if "malformed" in said or "not a database" in said:
        return (
            "The files beside it are not touched.",
            f"Move {INDEX} away: the next opening makes a new index from the files.",
        )
    if "locked" in said:
        return "Another process has been writing for a minute.", "Try again, or end that process."
    return "", "Check that it is there, and that you may write to it."
