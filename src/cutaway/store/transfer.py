"""How does a store, or a part of it, get to another machine? As one zip file, which is checked when it is taken in.

The zip holds `store.json` (what the index says: titles, tags, notes, jobs) and the files under their ids.
Nothing in it is trusted: ids are hexadecimal digits, paths are made from ids, no more bytes are unpacked than
were announced, and a file is taken in only when its contents give its id.
Limits: the numbers are copied, not the models.
"""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from cutaway.core.errors import CutawayError, StoreError
from cutaway.core.progress import track
from cutaway.store import jobs, keeping
from cutaway.store.atomic import replacing
from cutaway.store.files import sha256_of
from cutaway.store.ground import Ground, NotKept, now
from cutaway.store.shelves import ARTIFACTS, RESULTS, SHELVES, Shelf

VERSION = 1
_LIST = "store.json"
_LONGEST_LIST = 1 << 28  # bytes
_PIECE = 1 << 20
_MINE = ("id", "title", "note", "created", "job", "bytes", "sha256")


@dataclass(frozen=True)
class Transferred:
    """What was written to a zip, or taken in from one.

    Attributes:
        results: how many.
        artifacts: how many.
        jobs: how many.
        known: how many of them the store had already.
    """

    results: int = 0
    artifacts: int = 0
    jobs: int = 0
    known: int = 0


def export(ground: Ground, path: Path, ids: Sequence[str] | None = None) -> Transferred:
    """Write one zip, whole or not at all.

    Args:
        ground: the store.
        path: the zip file.
        ids: results and artifacts, by id or the beginning of one; everything, jobs too, when None.

    Raises:
        NotKept: an id that the store does not have.
        StoreError: a file of the store is gone or damaged, or the zip cannot be written.
    """
    chosen = {shelf.table.name: _records(ground, shelf, ids) for shelf in SHELVES}
    if ids is not None:
        _refuse_unknown(ids, [record["id"] for records in chosen.values() for record in records])
    told = [] if ids is not None else [job.record() for job in jobs.latest(ground, limit=1 << 30)]
    manifest = {"cutaway_store": VERSION, **chosen, "jobs": told}
    pairs = [(shelf, record) for shelf in SHELVES for record in chosen[shelf.table.name]]
    with replacing(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as zipped:
        zipped.writestr(_LIST, json.dumps(manifest, indent=1))
        for shelf, record in track(pairs, "writing the zip"):
            source = ground.objects.path(record["id"], shelf.suffix)
            if not source.is_file() or sha256_of(source) != record["sha256"]:
                raise StoreError(
                    f"the file of the {shelf.word} {record['id'][:12]} is gone or damaged.",
                    "Only what is whole is exported.",
                    "See `cutaway store check`.",
                )
            zipped.write(source, _member(shelf, record["id"]))
    return Transferred(len(chosen["results"]), len(chosen["artifacts"]), len(told))


def import_(ground: Ground, path: Path) -> Transferred:
    """Take in what `export` wrote, or one saved result (.nc) or artifact (.safetensors). What is known stays as it is.

    Raises:
        StoreError: the file is no such zip, or something in it is damaged; what came before it is taken in.
    """
    if not path.is_file():
        raise StoreError(f"{path} does not exist.", "A store is imported from a zip that `cutaway store export` wrote.")
    for shelf in SHELVES:
        if path.suffix == shelf.suffix:
            return _one(ground, shelf, path)
    with _opened(path) as zipped:
        manifest = _manifest(zipped, path)
        _refuse_without_room(ground, path, manifest)
        counts = {shelf.table.name: _take_in(ground, shelf, zipped, path, manifest) for shelf in SHELVES}
    n_jobs = _take_in_jobs(ground, path, manifest)
    known = sum(len(manifest[name]) for name in (*counts, "jobs")) - sum(counts.values()) - n_jobs
    return Transferred(counts["results"], counts["artifacts"], n_jobs, known)


def _records(ground: Ground, shelf: Shelf[Any], ids: Sequence[str] | None) -> list[dict[str, Any]]:
    columns = [shelf.table.c[name] for name in _MINE]
    with ground.reading() as connection:
        found = connection.execute(select(*columns).where(~shelf.table.c.leaving)).mappings().all()
        if ids is not None:
            found = [row for row in found if any(_begins(row["id"], wanted) for wanted in ids)]
        tags = keeping.tags_of(connection, [row["id"] for row in found])
    return [{**row, "tags": list(tags.get(row["id"], ()))} for row in sorted(found, key=lambda row: row["created"])]


def _begins(item: str, wanted: str) -> bool:
    return len(wanted) >= 4 and item.startswith(wanted)


def _refuse_unknown(ids: Sequence[str], found: Sequence[str]) -> None:
    for wanted in ids:
        n = sum(_begins(item, wanted) for item in found)
        if n == 0:
            raise NotKept(
                f"the store has nothing with the id {wanted[:80]!r}.", "`cutaway store list` shows what it has."
            )
        if n > 1:
            raise StoreError(f"{n} ids begin with {wanted!r}.", "An id names one thing.", "Write more of its digits.")


def _member(shelf: Shelf[Any], item: str) -> str:
    return f"objects/{item[:2]}/{item[2:]}{shelf.suffix}"


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as zipped:
            yield zipped
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, RuntimeError, NotImplementedError) as error:
        raise _foreign(path, f"it cannot be unpacked ({error})") from error


def _manifest(zipped: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    try:
        if zipped.getinfo(_LIST).file_size > _LONGEST_LIST:
            raise ValueError("its list is too long")
        with zipped.open(_LIST) as file:
            found = json.loads(file.read(_LONGEST_LIST))
        version = found["cutaway_store"]
        if not isinstance(version, int) or not all(isinstance(found[name], list) for name in _PARTS):
            raise TypeError("its list is not one of a store")
    except (KeyError, ValueError, TypeError) as error:
        raise _foreign(path, str(error).strip("'\"")) from error
    if version > VERSION:
        raise StoreError(
            f"{path} was exported by a newer cutaway (version {version}).",
            f"This one knows version {VERSION}.",
            "Install a newer cutaway: pip install -U cutaway",
        )
    return dict(found)


_PARTS = (*(shelf.table.name for shelf in SHELVES), "jobs")


def _refuse_without_room(ground: Ground, path: Path, manifest: Mapping[str, Any]) -> None:
    records = [record for shelf in SHELVES for record in manifest[shelf.table.name]]
    sizes = [record.get("bytes") for record in records if isinstance(record, dict)]
    announced = sum(size for size in sizes if isinstance(size, int))
    free = shutil.disk_usage(ground.objects.folder).free
    if announced > free:
        raise StoreError(f"{path} holds {announced:,} bytes, and the disk of the store has {free:,} left.")


def _take_in(
    ground: Ground, shelf: Shelf[Any], zipped: zipfile.ZipFile, path: Path, manifest: Mapping[str, Any]
) -> int:
    taken = 0
    for record in track(manifest[shelf.table.name], f"taking in {shelf.word}s"):
        try:
            mine, tags = _plain(record)
        except (KeyError, TypeError, ValueError, CutawayError) as error:
            raise _foreign(path, f"an entry of its list cannot be read ({error})") from error
        beside = ground.objects.beside(shelf.suffix)
        try:
            if not _has(ground, shelf, record["id"]):
                row = _unpack(zipped, path, shelf, record, beside)
                taken += keeping.place(ground, shelf, record["id"], row, beside, mine, tags)
        finally:
            beside.unlink(missing_ok=True)
    return taken


def _plain(record: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What a person said about one thing, as it may enter the index."""
    for name in ("id", "title", "note", "created", "sha256"):
        if not isinstance(record[name], str):
            raise TypeError(f"{name} is no text")
    keeping.refuse_words("title", record["title"])
    keeping.refuse_words("note", record["note"])
    job = record.get("job")
    if job is not None and not jobs.is_id(job):
        raise ValueError(f"{str(job)[:80]!r} is not the id of a job")
    if int(record["bytes"]) < 0:
        raise ValueError("a size is negative")
    mine = {"title": record["title"], "note": record["note"], "created": jobs.plain_time(record["created"]), "job": job}
    return mine, keeping.plain_tags(record["tags"])


def _unpack(
    zipped: zipfile.ZipFile, path: Path, shelf: Shelf[Any], record: Mapping[str, Any], beside: Path
) -> dict[str, Any]:
    """Write one member to `beside`, no larger than announced, and see that it is what its id says; its row."""
    what = f"the {shelf.word} {record['id'][:12]} in {path}"
    left = int(record["bytes"])
    try:
        with (
            zipped.open(_member(shelf, record["id"])) as source,
            replacing(beside) as target,
            target.open("wb") as file,
        ):
            while piece := source.read(_PIECE):
                left -= len(piece)
                if left < 0:
                    raise StoreError(f"{what} is larger than announced.", "Nothing of it was kept.")
                file.write(piece)
    except KeyError as error:
        raise StoreError(f"{what} is missing.", "The zip names it, but does not hold it.") from error
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise StoreError(f"{what} is damaged ({error}).", "Take another copy of the zip.") from error
    found, row = shelf.read(beside) if sha256_of(beside) == record["sha256"] else ("", {})
    if found != record["id"]:
        raise StoreError(f"{what} is damaged: its contents are not those announced.", "Take another copy of the zip.")
    return row


def _has(ground: Ground, shelf: Shelf[Any], item: str) -> bool:
    ground.objects.path(item, shelf.suffix)  # refuses what is no id
    try:
        return keeping.path_of(ground, shelf, item).is_file()
    except StoreError:
        return False


def _take_in_jobs(ground: Ground, path: Path, manifest: Mapping[str, Any]) -> int:
    try:
        with ground.writing() as connection:
            return sum(jobs.enter(connection, record) for record in manifest["jobs"])
    except StoreError:
        raise
    except (KeyError, TypeError, ValueError, CutawayError) as error:
        raise _foreign(path, f"a job of its list cannot be read ({error})") from error


def _one(ground: Ground, shelf: Shelf[Any], path: Path) -> Transferred:
    item, row = shelf.read(path)
    beside = ground.objects.beside(shelf.suffix)
    try:
        with replacing(beside) as target:
            target.write_bytes(path.read_bytes())
        new = keeping.place(ground, shelf, item, row, beside, {"created": now()})
    finally:
        beside.unlink(missing_ok=True)
    return Transferred(int(new and shelf is RESULTS), int(new and shelf is ARTIFACTS), known=int(not new))


def _foreign(path: Path, why: str) -> StoreError:
    return StoreError(
        f"{path} is no exported store: {why}.",
        "A store is imported from a zip that `cutaway store export` wrote.",
        "Take another copy of it.",
    )
