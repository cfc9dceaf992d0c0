"""How is a whole file of prompts attributed? One result a row, on several processes, going on where it stopped.

Each row's result is kept as soon as it is there, under a name that says what was asked of which prompt: a second run
over the same file finds it and passes on. Another model, method or parameter has other names. A row that fails says so
in `rows.jsonl`, which lists the rows of the last run in their order, and the others are not lost; it is tried again by
the next run.
Limits: every process opens the model, so memory limits how many there are. The number of threads that a process has may
change the last digits of a sum: with the same number (OMP_NUM_THREADS) the arrays of one process and of many are equal
bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutaway.core import parameters as checking
from cutaway.core import registry
from cutaway.core.errors import Cancelled, CutawayError, ParameterError, StoreError
from cutaway.core.progress import track
from cutaway.core.task import Task

if TYPE_CHECKING:
    from cutaway.core.method import Method
    from cutaway.models.model import Model
    from cutaway.runtime.spread import Answer

ROWS = "rows.jsonl"
JOBS = 1  # each process opens the model


@dataclass(frozen=True)
class Row:
    """One prompt of a file.

    Attributes:
        row: its number, counted from 0.
        path: where its result is; None where it failed.
        found: whether the result was there before.
        error: the sentence that says why there is none.
    """

    row: int
    path: Path | None = None
    found: bool = False
    error: str = ""


@dataclass(frozen=True)
class Asked:
    """What is asked of every row of a file, and where its results go."""

    task: Task
    folder: Path
    name: str
    method: Method[Any, ...]
    parameters: Mapping[str, Any]


def attribute_dataset(
    model: str | Model,
    file: str | Path,
    folder: str | Path,
    *,
    method: str = "integrated_gradients",
    jobs: int = JOBS,
    options: Mapping[str, Any] | None = None,
    **parameters: Any,
) -> list[Row]:
    """Attribute every prompt of a file; stopped and started again, it goes on.

    Args:
        model: the network by name, or opened where `jobs` is 1.
        file: prompts as CSV, TSV or JSON lines (`cutaway.core.task_file`).
        folder: where the results go: one `.nc` file for each prompt, and `rows.jsonl`.
        method: the attribution.
        jobs: processes at once. Each opens the model.
        options: how a model given by name is opened, such as its device.
        parameters: of the method.

    Returns:
        The rows in the order of the file.

    Raises:
        ParameterError: `jobs` that is not positive or that asks several processes for one opened model, or a parameter
            that the method does not have.
        StoreError: the folder cannot be made.
        ModelError, WorkerError: the model cannot be opened.
        Cancelled: somebody stopped it; the rows that were finished are kept.
    """
    _refuse(model, jobs)
    asked = prepared(str(file), str(folder), method, parameters)
    rows: dict[int, Row] = {}
    try:
        if jobs > 1 and isinstance(model, str):
            _spread(rows, asked, model, str(file), jobs, options or {})
        else:
            opened = _opened(model, options or {}) if isinstance(model, str) else model
            for row in track(range(len(asked.task)), "prompts"):
                rows[row] = attributed(opened, asked, row)
    finally:
        if rows:
            _write(asked, rows)
    return [rows[row] for row in sorted(rows)]


def prepared(file: str, folder: str, method: str, parameters: Mapping[str, Any]) -> Asked:
    """What is asked, checked without a model; the folder is there afterwards."""
    found: Method[Any, ...] = registry.get("method", method)
    values = checking.validate(found.function, dict(parameters))
    task, place = Task.from_file(file), Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"The folder {folder} cannot be made ({error.strerror}).") from error
    return Asked(task, place, method, found, {name: values[name] for name in parameters})


def attributed(model: Model, asked: Asked, row: int) -> Row:
    """One row, kept in its file; what went wrong with it is in the answer."""
    one = asked.task.subset([row])
    path = asked.folder / f"{row:06d}-{_name(model, asked, one)}.nc"
    if path.exists():
        return Row(row, path, found=True)
    try:
        asked.method(model, one, **asked.parameters).save(path)
    except Cancelled:
        raise
    except Exception as error:  # noqa: BLE001 - one bad row must not lose the others
        kind = "" if isinstance(error, CutawayError) else f"{type(error).__name__}: "
        return Row(row, error=f"{kind}{error}")
    return Row(row, path)


def _refuse(model: str | Model, jobs: int) -> None:
    if jobs < 1:
        raise ParameterError(f"jobs={jobs} was given;", "it is a number of processes.", "Write jobs=1 or more.")
    if jobs > 1 and not isinstance(model, str):
        raise ParameterError(
            f"jobs={jobs} was asked for with a model that is open in this process;",
            "each process opens the model itself.",
            f"Give its name: attribute_dataset({model.name!r}, …, jobs={jobs}).",
        )


def _spread(rows: dict[int, Row], asked: Asked, model: str, file: str, jobs: int, options: Mapping[str, Any]) -> None:
    """Have the rows done by worker processes: `cutaway.runtime.row_worker`."""
    from cutaway.runtime.spread import spread

    plugins = [word for plugin in registry.loose_files() for word in ("--plugin", str(plugin))]
    opening = {
        "do": "open",
        "model": model,
        "options": dict(options),
        "file": file,
        "folder": str(asked.folder),
        "method": asked.name,
        "parameters": dict(asked.parameters),
    }

    def answered(row: int, answer: Answer) -> None:
        rows[row] = Row(row, error=str(answer)) if isinstance(answer, Exception) else row_of(row, answer)

    spread(
        [sys.executable, "-m", "cutaway.runtime.row_worker", *plugins],
        opening,
        [{"do": "row"}] * len(asked.task),
        answered,
        jobs=jobs,
        what="prompts",
    )


def row_of(row: int, answer: Mapping[str, Any]) -> Row:
    """A row as a worker told of it."""
    return Row(row, Path(answer["path"]) if answer["path"] else None, answer["found"], answer["error"])


def record_of(row: Row) -> dict[str, Any]:
    """A row as a worker tells of it."""
    return {"path": str(row.path) if row.path else "", "found": row.found, "error": row.error}


def _opened(model: str, options: Mapping[str, Any]) -> Model:
    from cutaway.models.open import open

    return open(model, **options)


def _name(model: Model, asked: Asked, task: Task) -> str:
    """What is asked, in twelve letters."""
    said = [model.source or model.name, str(model.dtype), asked.name, task.fingerprint, dict(asked.parameters)]
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _write(asked: Asked, rows: Mapping[int, Row]) -> None:
    from cutaway.store.atomic import write_bytes

    lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in _lines(asked, rows)]
    write_bytes(asked.folder / ROWS, "".join(lines).encode("utf-8"))


def _lines(asked: Asked, rows: Mapping[int, Row]) -> Iterator[dict[str, Any]]:
    for number in sorted(rows):
        row = rows[number]
        told = {"file": row.path.name} if row.path else {"error": row.error}
        yield {"row": number, "prompt": asked.task.prompts[number], **told}
