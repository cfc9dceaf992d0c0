"""What is kept, and what does a list of it show? Results and artifacts: each a table, a kind of file, a summary.

A row holds what a list needs, taken from the file it stands for: so a lost index is made again from the files.
Title, tags and notes are the person's own, and are in the index alone.
Limits: names longer than a list can show are cut in the row; the file has them whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy import RowMapping, Table

from cutaway.core.errors import StoreError
from cutaway.store import tables

if TYPE_CHECKING:
    from cutaway.core.artifact import Artifact
    from cutaway.core.result import Result

T = TypeVar("T")
_LONGEST_NAME = 400  # characters; what is indexed must be short


@dataclass(frozen=True)
class Page(Generic[T]):
    """A part of a list.

    Attributes:
        items: the part that was asked for.
        total: how many there are in all.
    """

    items: tuple[T, ...]
    total: int


@dataclass(frozen=True)
class ResultSummary:
    """What a list shows of a result.

    Attributes:
        id: hash of its contents.
        method: which method made it.
        task: what was shown to the model.
        model: which model.
        title: what a person called it.
        created: when it was put into the store; ISO 8601, UTC.
        seconds: how long the method took.
        bytes: size of its file.
        tags: words that a person put on it.
        note: what a person wrote about it.
        metrics: its figures.
        views: its pictures, as records.
        checks_passed: how many of its checks hold.
        checks: how many it has.
        command: the command line that makes it again, where there is one.
        job: the job that made it, where one did.
    """

    id: str
    method: str
    task: str
    model: str
    title: str
    created: str
    seconds: float
    bytes: int
    tags: tuple[str, ...]
    note: str
    metrics: Mapping[str, Any]
    views: tuple[Mapping[str, Any], ...]
    checks_passed: int
    checks: int
    command: str
    job: str | None

    def record(self) -> dict[str, Any]:
        """The summary as JSON values."""
        views = [dict(view) for view in self.views]
        return {**vars(self), "tags": list(self.tags), "metrics": dict(self.metrics), "views": views}


@dataclass(frozen=True)
class ArtifactSummary:
    """What a list shows of an artifact; fields as of `ResultSummary` and `Artifact`."""

    id: str
    kind: str
    title: str
    created: str
    bytes: int
    tags: tuple[str, ...]
    note: str
    about: Mapping[str, Any]
    provenance: Mapping[str, Any]
    job: str | None

    def record(self) -> dict[str, Any]:
        """The summary as JSON values."""
        said = {"about": dict(self.about), "provenance": dict(self.provenance)}
        return {**vars(self), "tags": list(self.tags), **said}


@dataclass(frozen=True)
class Shelf(Generic[T]):
    """One kind of kept things.

    Attributes:
        word: what one of them is called.
        table: its rows.
        suffix: of its files.
        read: id and row of a file, whose contents are found to be what was written.
        summary: what a list shows, from a row and its tags.
        filters: columns by which a list is filtered.
        orders: columns by which a list is ordered.
    """

    word: str
    table: Table
    suffix: str
    read: Callable[[Path], tuple[str, dict[str, Any]]]
    summary: Callable[[RowMapping, tuple[str, ...]], T]
    filters: tuple[str, ...]
    orders: tuple[str, ...]


def row_of_result(result: Result) -> dict[str, Any]:
    """What the index holds of a result, from the result alone."""
    from cutaway.core.view import view_record

    origin = result.provenance
    return {
        "method": _name(origin.get("method")),
        "task": _name(_inside(origin, "task")),
        "model": _name(_inside(origin, "model")),
        "seconds": _seconds(origin.get("seconds")),
        "command": _text(origin.get("command")),
        "metrics": dict(result.metrics),
        "views": [view_record(view) for view in result.views],
        "checks": len(result.checks),
        "checks_passed": sum(check.passed for check in result.checks),
    }


def row_of_artifact(artifact: Artifact) -> dict[str, Any]:
    """What the index holds of an artifact, from the artifact alone."""
    about, provenance = dict(artifact.about), dict(artifact.provenance)
    return {"kind": _name(artifact.kind), "about": about, "provenance": provenance}


def words_of(row: Mapping[str, Any], tags: tuple[str, ...]) -> str:
    """The text in which a list is searched: all that a person sees of the row."""
    said = [*(row.get(key, "") for key in ("title", "note", "method", "task", "model", "kind", "command")), *tags]
    said += [view["title"] for view in row.get("views", ())]
    said += [f"{key} {value}" for key, value in row.get("about", {}).items()]
    said += [_inside(row.get("provenance", {}), "model")]
    return "\n".join(str(text) for text in said if text).casefold()


def _read_result(path: Path) -> tuple[str, dict[str, Any]]:
    from cutaway.store.netcdf import load

    result = load(path)
    return result.id, row_of_result(result)


def _read_artifact(path: Path) -> tuple[str, dict[str, Any]]:
    from cutaway.store.artifacts import verified

    record = verified(path)
    row = {"kind": _name(record["kind"]), **{key: dict(record[key]) for key in ("about", "provenance")}}
    return record["id"], row


def _result_summary(row: RowMapping, tags: tuple[str, ...]) -> ResultSummary:
    plain = {name: row[name] for name in _PLAIN_OF_RESULT}
    views = tuple(MappingProxyType(view) for view in row["views"])
    return ResultSummary(**plain, tags=tags, metrics=MappingProxyType(row["metrics"]), views=views)


def _artifact_summary(row: RowMapping, tags: tuple[str, ...]) -> ArtifactSummary:
    plain = {name: row[name] for name in ("id", "kind", "title", "created", "bytes", "note", "job")}
    about, provenance = (MappingProxyType(row[name]) for name in ("about", "provenance"))
    return ArtifactSummary(**plain, about=about, provenance=provenance, tags=tags)


def _inside(record: Mapping[str, Any], key: str) -> str:
    """The name of a model or a task: provenance has it in a record, or as a text where others wrote it."""
    found = record.get(key)
    return _text(found.get("name") if isinstance(found, Mapping) else found)


def _name(value: Any) -> str:
    return _text(value)[:_LONGEST_NAME]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e12 else 0.0


_PLAIN_OF_RESULT = (
    "id",
    "method",
    "task",
    "model",
    "title",
    "created",
    "seconds",
    "bytes",
    "note",
    "checks_passed",
    "checks",
    "command",
    "job",
)

RESULTS: Shelf[ResultSummary] = Shelf(
    word="result",
    table=tables.results,
    suffix=".nc",
    read=_read_result,
    summary=_result_summary,
    filters=("method", "model", "task"),
    orders=("created", "title", "method", "model", "task", "seconds", "bytes"),
)
ARTIFACTS: Shelf[ArtifactSummary] = Shelf(
    word="artifact",
    table=tables.artifacts,
    suffix=".safetensors",
    read=_read_artifact,
    summary=_artifact_summary,
    filters=("kind",),
    orders=("created", "title", "kind", "bytes"),
)
SHELVES: tuple[Shelf[Any], ...] = (RESULTS, ARTIFACTS)


def shelf_of(path: Path) -> Shelf[Any]:
    """The kind of thing that a file with this suffix holds.

    Raises:
        StoreError: none.
    """
    for shelf in SHELVES:
        if path.suffix == shelf.suffix:
            return shelf
    raise StoreError(f"{path.name!r} is neither a result (.nc) nor an artifact (.safetensors).")
