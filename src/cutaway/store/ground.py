"""What does all keeping stand on? One database and one folder of files, opened together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, Engine

from cutaway.core.errors import StoreError
from cutaway.store import database
from cutaway.store.files import Objects


class NotKept(StoreError):  # noqa: N818 - said of a thing, as FileNotFound is
    """A result, an artifact or a job that this store does not have."""


@dataclass(frozen=True)
class Ground:
    """An opened index and its files.

    Attributes:
        engine: the database of the index.
        objects: the files.
        place: where the store is, as it can be printed.
    """

    engine: Engine
    objects: Objects
    place: str

    def reading(self) -> AbstractContextManager[Connection]:
        """A connection to ask on."""
        return database.reading(self.engine)

    def writing(self) -> AbstractContextManager[Connection]:
        """A connection on which all is written, or nothing."""
        return database.writing(self.engine)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else gives files their names, or takes them away."""
        with self.objects.alone():
            yield


def open_ground(place: str | Path | None, files: str | Path | None) -> Ground:
    """Open or make the index and the folders.

    Raises:
        StoreError: the place cannot be used, or was made by a newer cutaway.
    """
    url, folder = database.located(place, files)
    objects = Objects(folder)
    if url.drivername == "sqlite":
        Objects(Path(url.database or "").parent).prepare()
    objects.prepare()
    engine = database.connected(url)
    try:
        with objects.alone():
            database.bring_up_to_date(engine)
    except BaseException:
        engine.dispose()
        raise
    return Ground(engine, objects, str(folder) if url.drivername == "sqlite" else database.shown(url))


def now() -> str:
    """The time, in UTC, such that later times sort after earlier ones."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
