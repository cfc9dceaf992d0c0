"""Is the store whole, what can be mended, and what may go?

Each row is compared with its file, and each file with its row. Mending loses nothing: a file without a row is
taken in, a row whose file holds the same result in other bytes is corrected. Clearing away takes what cannot be
used: files that were never finished, rows whose file is gone, and, when asked for, damaged files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import RowMapping, func, select, update

from cutaway.core.errors import StoreError
from cutaway.core.progress import track
from cutaway.store import database, keeping
from cutaway.store.files import sha256_of
from cutaway.store.ground import Ground
from cutaway.store.shelves import SHELVES, Shelf, shelf_of
from cutaway.store.tables import jobs

AT_OPENING = 100  # files without rows that opening takes in: a killed writer leaves one
_AN_HOUR = 3600.0
_MOST_LOST = 10  # files that may all be gone before it is taken for a disk that is not there


@dataclass(frozen=True)
class Fault:
    """Something that is not as it should be.

    Attributes:
        kind: `missing` (a row without a file), `unlisted` (a file without a row), `damaged` (a file that does not
            hold what was written), `leftover` (a file that was never finished) or `strange` (not of this store).
        id: of the result or artifact, where it is one.
        path: the file.
        how: what is wrong, in a sentence.
    """

    kind: str
    id: str
    path: str
    how: str


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        results: how many there are.
        artifacts: how many there are.
        jobs: how many there are.
        bytes: size of all files.
        faults: what is wrong still.
        repaired: what was wrong, and is mended.
    """

    results: int
    artifacts: int
    jobs: int
    bytes: int
    faults: tuple[Fault, ...]
    repaired: tuple[Fault, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether everything that the index names is there, and everything that is there is in the index."""
        return not any(fault.kind in ("missing", "unlisted", "damaged") for fault in self.faults)


@dataclass(frozen=True)
class Freed:
    """What was cleared away.

    Attributes:
        files: how many were deleted.
        rows: how many were dropped from the index.
        bytes: size of the files.
    """

    files: int
    rows: int
    bytes: int


def check(ground: Ground, *, repair: bool = False) -> Report:
    """Compare index and files, reading every file.

    Args:
        ground: the store.
        repair: mend what can be mended.
    """
    found = [*_of_files_alone(ground), *(fault for shelf in SHELVES for fault in _of_rows(ground, shelf))]
    mended = [fault for fault in found if repair and _mend(ground, fault)]
    counts = {shelf.table.name: _counted(ground, shelf) for shelf in SHELVES}
    with ground.reading() as connection:
        n_jobs = connection.scalar(select(func.count()).select_from(jobs)) or 0
    size = sum(bytes_ for _, bytes_ in counts.values())
    left = tuple(fault for fault in found if fault not in mended)
    return Report(counts["results"][0], counts["artifacts"][0], n_jobs, size, left, tuple(mended))


def clear(ground: Ground, *, older_than: float = _AN_HOUR, damaged: bool = False) -> Freed:
    """Delete what cannot be used any more.

    Args:
        ground: the store.
        older_than: seconds since an unfinished file was last written to; a younger one may still be written.
        damaged: delete damaged files too, which are read through to find them.

    Raises:
        StoreError: the folder has none of the files, which is more likely a disk that is not there.
    """
    useless = _useless(ground, damaged)
    _refuse_empty_folder(ground, useless)
    files, rows, freed = 0, sum(keeping.finish_leaving(ground, shelf) for shelf in SHELVES), 0
    for path in ground.objects.leftovers(older_than):
        freed += ground.objects.remove(path)
        files += 1
    for fault in useless:
        shelf = shelf_of(Path(fault.path))
        rows += fault.kind == "missing" or _has_row(ground, shelf, fault.id)
        freed += keeping.remove(ground, shelf, fault.id)
        files += fault.kind != "missing"
    database.compact(ground.engine)
    return Freed(files, rows, freed)


def take_in_unlisted(ground: Ground) -> int:
    """Write the rows of finished files that have none, as a killed process leaves them.

    Returns:
        How many such files there were; no more than `AT_OPENING` of them were taken in.
    """
    unlisted = _unlisted(ground)
    for item, path in unlisted[:AT_OPENING]:
        with suppress(StoreError):  # damaged: `check` tells of it
            keeping.take_in(ground, shelf_of(path), item, path)
    return len(unlisted)


def _of_files_alone(ground: Ground) -> Iterator[Fault]:
    for path in ground.objects.leftovers():
        yield Fault("leftover", "", str(path), "It was never finished.")
    for path in ground.objects.strange():
        yield Fault("strange", "", str(path), "It is no file of a store.")
    for item, path in track(_unlisted(ground), "reading files that the index does not know"):
        with ground.alone():  # a file that was just finished gets its row within the lock
            shelf = shelf_of(path)
            if _has_row(ground, shelf, item) or not path.exists():
                continue
        yield _judged(shelf, item, path)


def _judged(shelf: Shelf[Any], item: str, path: Path) -> Fault:
    try:
        found = shelf.read(path)[0]
    except StoreError as error:
        return Fault("damaged", item, str(path), f"The index does not know it, and it cannot be read: {error}")
    if found != item:
        return Fault("damaged", item, str(path), f"It holds another {shelf.word} than its name says.")
    return Fault("unlisted", item, str(path), "It is whole, but the index does not know it.")


def _of_rows(ground: Ground, shelf: Shelf[Any]) -> Iterator[Fault]:
    with ground.reading() as connection:
        columns = (shelf.table.c.id, shelf.table.c.bytes, shelf.table.c.sha256)
        rows = connection.execute(select(*columns).where(~shelf.table.c.leaving)).mappings().all()
    for row in track(rows, f"reading {shelf.word}s"):
        path = ground.objects.path(row["id"], shelf.suffix)
        how = _wrong(row, path)
        if how and _has_row(ground, shelf, row["id"]):
            yield Fault("missing" if not path.exists() else "damaged", row["id"], str(path), how)


def _wrong(row: RowMapping, path: Path) -> str:
    """What is wrong with the file of a row; nothing when it is as it was written."""
    try:
        if path.stat().st_size != row["bytes"]:
            return f"It has {path.stat().st_size:,} bytes, and was written with {row['bytes']:,}."
        return "" if sha256_of(path) == row["sha256"] else "Its contents are not those that were written."
    except FileNotFoundError:
        return "The index knows of it, but the file is gone."
    except OSError as error:
        return f"It cannot be read: {error.strerror or error}."


def _mend(ground: Ground, fault: Fault) -> bool:
    if fault.kind not in ("unlisted", "damaged"):
        return False
    path = Path(fault.path)
    shelf = shelf_of(path)
    try:
        if fault.kind == "unlisted":
            return keeping.take_in(ground, shelf, fault.id, path)
        return _correct(ground, shelf, fault.id, path)
    except StoreError:
        return False


def _correct(ground: Ground, shelf: Shelf[Any], item: str, path: Path) -> bool:
    """Where a file holds what its name says in other bytes, the row is what is wrong."""
    if shelf.read(path)[0] != item:
        return False
    measured = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    with ground.alone(), ground.writing() as connection:
        changed = connection.execute(update(shelf.table).where(shelf.table.c.id == item).values(measured))
    return bool(changed.rowcount)


def _useless(ground: Ground, damaged: bool) -> list[Fault]:
    if not damaged:
        found = (fault for shelf in SHELVES for fault in _gone(ground, shelf))
        return list(found)
    every = [*_of_files_alone(ground), *(fault for shelf in SHELVES for fault in _of_rows(ground, shelf))]
    return [fault for fault in every if fault.kind in ("missing", "damaged")]


def _refuse_empty_folder(ground: Ground, useless: list[Fault]) -> None:
    missing = sum(fault.kind == "missing" for fault in useless)
    if missing > _MOST_LOST and next(ground.objects.listing(), None) is None:
        raise StoreError(
            f"the index knows {missing} files, and {ground.objects.folder} has none of them;",
            "nothing was dropped from the index.",
            "See that the disk of that folder is there. If the files are gone for good, begin a new store.",
        )


def _gone(ground: Ground, shelf: Shelf[Any]) -> Iterator[Fault]:
    """The rows without files, found without reading the files."""
    with ground.reading() as connection:
        items = connection.scalars(select(shelf.table.c.id)).all()
    for item in items:
        path = ground.objects.path(item, shelf.suffix)
        if not path.exists():
            yield Fault("missing", item, str(path), "")


def _unlisted(ground: Ground) -> list[tuple[str, Path]]:
    """Files without rows. The files are listed first, since a row comes after its file."""
    files = list(ground.objects.listing())
    known = set()
    with ground.reading() as connection:
        for shelf in SHELVES:
            known |= {item + shelf.suffix for item in connection.scalars(select(shelf.table.c.id))}
    return [(item, path) for item, path in files if item + path.suffix not in known]


def _has_row(ground: Ground, shelf: Shelf[Any], item: str) -> bool:
    with ground.reading() as connection:
        return connection.scalar(select(shelf.table.c.id).where(shelf.table.c.id == item)) is not None


def _counted(ground: Ground, shelf: Shelf[Any]) -> tuple[int, int]:
    columns = shelf.table.c
    query = select(func.count(), func.coalesce(func.sum(columns.bytes), 0)).where(~columns.leaving)
    with ground.reading() as connection:
        count, size = connection.execute(query).one()
    return int(count), int(size)
