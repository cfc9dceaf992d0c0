"""Attributions of a whole file of prompts, one result a line, that go on where they stopped; and token maps in files.

Each line's result is kept as soon as it is there, under a name that says what was asked of which prompt: a second run
over the same file finds it and passes on. Another model, method or parameter has other names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutaway.core.errors import StoreError
from cutaway.core.progress import track
from cutaway.core.task import Task

if TYPE_CHECKING:
    from cutaway.core.result import Result
    from cutaway.models.model import Model


@dataclass(frozen=True)
class Kept:
    """One line of a file: its number, where its result is, and whether it was there before."""

    line: int
    path: Path
    found: bool


def attribute_dataset(
    model: Model,
    file: str | Path,
    folder: str | Path,
    *,
    method: str = "integrated_gradients",
    **parameters: Any,
) -> list[Kept]:
    """Attribute every prompt of a file; stopped and started again, it goes on.

    Args:
        model: the network.
        file: prompts as CSV, TSV or JSON lines (`cutaway.core.task_file`).
        folder: where the results go, one `.nc` file for each prompt.
        method: the attribution.
        parameters: of the method.

    Raises:
        StoreError: the folder cannot be made.
    """
    from cutaway.core import registry

    asked: Callable[..., Result] = registry.get("method", method)
    task, place = Task.from_file(file), Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"The folder {folder} cannot be made ({error.strerror}).") from error
    return list(_each(model, asked, method, task, place, parameters))


def _each(
    model: Model,
    asked: Callable[..., Result],
    method: str,
    task: Task,
    folder: Path,
    parameters: Mapping[str, Any],
) -> Iterator[Kept]:
    for line in track(range(len(task)), "prompts"):
        one = task.subset([line])
        path = folder / f"{line:06d}-{_name(model, method, one, parameters)}.nc"
        found = path.exists()
        if not found:
            asked(model, one, **parameters).save(path)
        yield Kept(line, path, found)


def _name(model: Model, method: str, task: Task, parameters: Mapping[str, Any]) -> str:
    """What is asked, in twelve letters."""
    asked = [model.source or model.name, str(model.dtype), method, task.fingerprint, dict(parameters)]
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:12]


def write_latex(result: Result, path: Path) -> None:
    """A token map as LaTeX."""
    from cutaway.core import registry
    from cutaway.store.atomic import write_bytes

    write_bytes(path, registry.get("renderer", "latex")(result).encode("utf-8"))
