"""How does something get into the store, and out again? The file first, then its row; the row's mark first, then the file.

Killed at any moment, a store is whole when it is opened again: a file without a row was finished and is taken
in; a row marked as leaving was being deleted, and goes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from cutaway.core.errors import ParameterError, StoreError, nearest
from cutaway.store.files import sha256_of
from cutaway.store.ground import Ground, NotKept, now
from cutaway.store.jobs import forget_result, link_result, refuse_job_id
from cutaway.store.shelves import RESULTS, Page, Shelf, words_of
from cutaway.store.tables import held
from cutaway.store.tables import tags as tag_table

T = TypeVar("T")
_PREFIX = re.compile(r"[0-9a-f]{4,64}")
_LONGEST = {"title": 500, "note": 100_000, "tag": 100}
_MOST_TAGS, _MOST_AT_ONCE = 50, 10_000


def keep(
    ground: Ground,
    shelf: Shelf[Any],
    item: str,
    row: Mapping[str, Any],
    save: Callable[[Path], Any],
    *,
    title: str = "",
    job: str | None = None,
) -> str:
    """Put something into the store; what is there already stays as it is.

    Args:
        ground: the store.
        shelf: what it is.
        item: its id.
        row: what the index holds of it.
        save: writes it to a path.
        title: what a person calls it; one that it has already is kept.
        job: the job that made it.
    """
    refuse_words("title", title)
    if job is not None:
        refuse_job_id(job)
    known = _known(ground, shelf, item)
    if known is None or not is_whole(ground, shelf, known):
        beside = ground.objects.beside(shelf.suffix)
        try:
            save(beside)
            place(ground, shelf, item, row, beside, mine={"title": title, "job": job})
        finally:
            beside.unlink(missing_ok=True)
    with ground.writing() as connection:
        old = connection.execute(select(shelf.table).where(shelf.table.c.id == item)).mappings().one_or_none()
        if old is not None:
            missing = {"title": old["title"] or title, "job": old["job"] or job}
            _rewrite(connection, shelf, old, missing, tags_of(connection, [item]).get(item, ()))
        if job and shelf is RESULTS:
            link_result(connection, job, item)
    return item


def place(
    ground: Ground,
    shelf: Shelf[Any],
    item: str,
    row: Mapping[str, Any],
    beside: Path,
    mine: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
) -> bool:
    """Give a finished file its name and write its row; False when the store has it already.

    Args:
        ground: the store.
        shelf: what it is.
        item: its id.
        row: what the index holds of it.
        beside: the finished file.
        mine: what a person said about it, and when it was put here.
        tags: words that a person put on it.
    """
    measured = {"bytes": beside.stat().st_size, "sha256": sha256_of(beside)}
    with ground.alone():
        known = _known(ground, shelf, item)
        if known is not None and is_whole(ground, shelf, known):
            return False
        ground.objects.settle(beside, item, shelf.suffix)
        with ground.writing() as connection:
            _enter(connection, shelf, item, {**row, **measured}, mine or {}, tags)
    return True


def take_in(ground: Ground, shelf: Shelf[Any], item: str, path: Path) -> bool:
    """Write the row of a file that has none, once its contents are found to be whole; False when it has one.

    Raises:
        StoreError: the file is damaged, or holds something else than its name says.
    """
    with ground.alone():
        if _known(ground, shelf, item) is not None or not path.exists():
            return False
        found, row = shelf.read(path)
        if found != item:
            raise StoreError(f"{path} holds another {shelf.word} than its name says.")
        measured = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        with ground.writing() as connection:
            _enter(connection, shelf, item, {**row, **measured}, {}, ())
    return True


def remove(ground: Ground, shelf: Shelf[Any], item: str) -> int:
    """Delete something, its file and all that was said about it; how many bytes that gave back."""
    with ground.alone():
        with ground.writing() as connection:
            connection.execute(update(shelf.table).where(shelf.table.c.id == item).values(leaving=True))
        freed = ground.objects.remove(ground.objects.path(item, shelf.suffix))
        with ground.writing() as connection:
            forget(connection, shelf, item)
    return freed


def forget(connection: Connection, shelf: Shelf[Any], item: str) -> None:
    """Delete the row of something, and what points to it."""
    connection.execute(delete(tag_table).where(tag_table.c.item == item))
    connection.execute(delete(shelf.table).where(shelf.table.c.id == item))
    if shelf is RESULTS:
        forget_result(connection, item)


def finish_leaving(ground: Ground, shelf: Shelf[Any]) -> int:
    """Go on with deletions that were broken off; how many."""
    with ground.reading() as connection:
        leaving = connection.scalars(select(shelf.table.c.id).where(shelf.table.c.leaving)).all()
    for item in leaving:
        remove(ground, shelf, item)
    return len(leaving)


def find(connection: Connection, shelf: Shelf[Any], prefix: str) -> RowMapping:
    """The row of the one thing whose id begins like this.

    Raises:
        NotKept: there is none, or what is asked for is not an id.
        StoreError: there are several.
    """
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        raise NotKept(
            f"{str(prefix)[:80]!r} is not the id of a {shelf.word};",
            "an id is 64 hexadecimal digits, of which the first ones are enough (four at least).",
        )
    query = select(shelf.table).where(~shelf.table.c.leaving).limit(3)
    exact = shelf.table.c.id == prefix if len(prefix) == 64 else shelf.table.c.id.startswith(prefix)
    found = connection.execute(query.where(exact)).mappings().all()
    if not found:
        raise NotKept(f"the store has no {shelf.word} {prefix!r}.", "`cutaway store list` shows what it has.")
    if len(found) > 1:
        raise StoreError(
            f"several {shelf.word}s have an id that begins with {prefix!r};",
            f"{', '.join(row['id'][:16] for row in found[:2])} among them.",
            "Write more of its digits.",
        )
    return found[0]


def summary(ground: Ground, shelf: Shelf[T], prefix: str) -> T:
    """What a list shows of one thing.

    Raises:
        NotKept: there is none.
    """
    with ground.reading() as connection:
        row = find(connection, shelf, prefix)
        return shelf.summary(row, tags_of(connection, [row["id"]]).get(row["id"], ()))


def path_of(ground: Ground, shelf: Shelf[Any], prefix: str) -> Path:
    """The file of one thing.

    Raises:
        NotKept: the store does not have it.
        StoreError: its file is gone.
    """
    with ground.reading() as connection:
        item = find(connection, shelf, prefix)["id"]
    path = ground.objects.path(item, shelf.suffix)
    if not path.is_file():
        raise StoreError(
            f"the file of the {shelf.word} {item[:12]} is gone: {path}.",
            "The index knows of it; somebody else deleted it.",
            "Put it back, or let `cutaway store gc` drop it from the index.",
        )
    return path


def listed(
    ground: Ground,
    shelf: Shelf[T],
    filters: Mapping[str, str],
    *,
    text: str = "",
    tag: str = "",
    order: str = "-created",
    limit: int = 50,
    offset: int = 0,
) -> Page[T]:
    """A part of the list.

    Args:
        ground: the store.
        shelf: what to list.
        filters: columns, and what they must be; an empty text lets all through.
        text: words that must all occur, in any order and in small or capital letters.
        tag: a tag that they must have.
        order: a column; with `-` in front the largest or latest come first.
        limit: how many at most.
        offset: how many to leave out before.

    Raises:
        ParameterError: an order that there is not, or numbers that cannot be.
    """
    _refuse_window(limit, offset)
    columns = shelf.table.c
    query = select(shelf.table).where(~columns.leaving)
    for name, wanted in filters.items():
        query = query.where(columns[name] == wanted) if wanted else query
    for word in text[:500].casefold().split()[:20]:
        query = query.where(columns.search.contains(word, autoescape=True))
    if tag:
        query = query.where(columns.id.in_(select(tag_table.c.item).where(tag_table.c.tag == tag)))
    with ground.reading() as connection:
        total = connection.scalar(select(func.count()).select_from(query.subquery())) or 0
        part = query.order_by(*_order(shelf, order)).limit(limit).offset(offset)
        rows = connection.execute(part).mappings().all()
        tags = tags_of(connection, [row["id"] for row in rows])
    return Page(tuple(shelf.summary(row, tags.get(row["id"], ())) for row in rows), total)


def amend(
    ground: Ground,
    shelf: Shelf[T],
    prefix: str,
    title: str | None = None,
    tags: Sequence[str] | None = None,
    note: str | None = None,
) -> T:
    """Write what a person says about something; None leaves as it is.

    Raises:
        ParameterError: a title, tag or note that is too long.
        NotKept: the store does not have it.
    """
    said = {key: value for key, value in {"title": title, "note": note}.items() if value is not None}
    for key, value in said.items():
        refuse_words(key, value)
    wanted = None if tags is None else plain_tags(tags)
    with ground.writing() as connection:
        item = find(connection, shelf, prefix)["id"]
        row = connection.execute(select(shelf.table).where(shelf.table.c.id == item).with_for_update()).mappings().one()
        if wanted is not None:
            _write_tags(connection, item, wanted)
        _rewrite(connection, shelf, row, said, wanted or tags_of(connection, [item]).get(item, ()))
    return summary(ground, shelf, item)


def is_whole(ground: Ground, shelf: Shelf[Any], row: RowMapping) -> bool:
    """Whether the file of a row is there, with all its bytes."""
    try:
        return ground.objects.path(row["id"], shelf.suffix).stat().st_size == row["bytes"] and not row["leaving"]
    except FileNotFoundError:
        return False


def refuse_words(what: str, said: str) -> None:
    """Refuse what is not text, or too long to be shown.

    Raises:
        ParameterError: it is.
    """
    longest = _LONGEST[what]
    if not isinstance(said, str) or len(said) > longest:
        given = f"{len(said):,} characters" if isinstance(said, str) else type(said).__name__
        raise ParameterError(f"the {what} has {given};", f"it is a text of {longest:,} characters at most.")


def plain_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Tags without blanks around them, each once, in the order given.

    Raises:
        ParameterError: too many, or one that is too long.
    """
    if isinstance(tags, str):
        raise ParameterError(f"the tags are {tags[:80]!r};", "they are a list of words.", f'Write ["{tags[:80]}"].')
    for tag in tags:
        refuse_words("tag", tag)
    plain = tuple(dict.fromkeys(stripped for tag in tags if (stripped := " ".join(held(tag).split()))))
    if len(plain) > _MOST_TAGS:
        raise ParameterError(f"{len(plain)} tags were given;", f"{_MOST_TAGS} is the most.")
    return plain


def _known(ground: Ground, shelf: Shelf[Any], item: str) -> RowMapping | None:
    columns = shelf.table.c
    query = select(columns.id, columns.bytes, columns.sha256, columns.leaving).where(columns.id == item)
    with ground.reading() as connection:
        return connection.execute(query).mappings().one_or_none()


def _enter(
    connection: Connection,
    shelf: Shelf[Any],
    item: str,
    row: Mapping[str, Any],
    mine: Mapping[str, Any],
    tags: Sequence[str],
) -> None:
    """Write the row of a file that has its name. What was said of an earlier file with this id stays."""
    old = connection.execute(select(shelf.table).where(shelf.table.c.id == item)).mappings().one_or_none()
    if old is not None and not old["leaving"]:
        measured = {key: row[key] for key in ("bytes", "sha256")}
        connection.execute(update(shelf.table).where(shelf.table.c.id == item).values(measured))
        return
    if old is not None:
        forget(connection, shelf, item)
    whole = {"title": "", "note": "", "created": now(), "job": None, **row, **mine}
    whole |= {"id": item, "leaving": False, "search": words_of(whole, tuple(tags))}
    connection.execute(insert(shelf.table).values(whole))
    _write_tags(connection, item, tags)


def _rewrite(
    connection: Connection, shelf: Shelf[Any], row: RowMapping, said: Mapping[str, Any], tags: tuple[str, ...]
) -> None:
    changed = {**said, "search": words_of({**row, **said}, tags)}
    if any(row[key] != value for key, value in changed.items()):
        connection.execute(update(shelf.table).where(shelf.table.c.id == row["id"]).values(changed))


def _write_tags(connection: Connection, item: str, tags: Sequence[str]) -> None:
    connection.execute(delete(tag_table).where(tag_table.c.item == item))
    if tags:
        rows = [{"item": item, "tag": tag, "place": place} for place, tag in enumerate(tags)]
        connection.execute(insert(tag_table), rows)


def tags_of(connection: Connection, items: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The tags of these things, in the order in which they were put on."""
    found: dict[str, tuple[str, ...]] = {}
    for first in range(0, len(items), 500):
        query = select(tag_table).where(tag_table.c.item.in_(items[first : first + 500])).order_by(tag_table.c.place)
        for row in connection.execute(query).mappings():
            found[row["item"]] = (*found.get(row["item"], ()), row["tag"])
    return found


def _order(shelf: Shelf[Any], order: str) -> tuple[Any, ...]:
    name, columns = order.removeprefix("-"), shelf.table.c
    if name not in shelf.orders:
        raise ParameterError(
            f"{shelf.word}s cannot be ordered by {name[:80]!r};",
            nearest(name, shelf.orders),
            "Write -created for the latest first.",
        )
    column = columns[name].desc() if order.startswith("-") else columns[name].asc()
    return column, columns.created.desc(), columns.id


def _refuse_window(limit: int, offset: int) -> None:
    if not 1 <= limit <= _MOST_AT_ONCE or not 0 <= offset < 2**31:
        raise ParameterError(
            f"limit={limit}, offset={offset} were asked for;",
            f"a limit is 1 to {_MOST_AT_ONCE:,}, an offset 0 or more.",
        )
