"""Where does this Result come from, and which command makes it again?

A record holds the method and its parameters, the model, the task, the versions, and the time taken: what is
needed to trust a number, or to get it once more. Everything in it is JSON.
Limits: the command line can say what was made by name or from a few prompts; for a task of many prompts
written in Python there is no such line, and the record says so by leaving it empty.
"""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cutaway.core.parameters import to_text

if TYPE_CHECKING:
    from cutaway.core.task import Task

_LONGEST_COMMAND = 4000


class OpenModel(Protocol):
    """What the core asks of an opened model: what it is, where it comes from, and how it is built."""

    @property
    def name(self) -> str:
        """What it was opened as."""

    @property
    def source(self) -> str:
        """Where the weights came from, with a fingerprint."""

    @property
    def dtype(self) -> Any:
        """The type of the weights."""

    @property
    def device(self) -> Any:
        """Where token ids go."""

    @property
    def attention_implementation(self) -> str:
        """The attention function in use."""

    @property
    def anatomy(self) -> Any:
        """Its build; `features` names what methods may need."""


@dataclass(frozen=True)
class Origin:
    """How a task was made: by a named builder with these parameters, or from a file."""

    name: str
    parameters: Mapping[str, Any]
    file: str = ""


def remember_origin(task: Task, origin: Origin) -> Task:
    """Write beside `task` how it was made.

    It is not a field on purpose: `dataclasses.replace` must lose it, since a task with other prompts was
    not made that way, and two tasks with the same prompts are equal however they were made.
    """
    vars(task)["_origin"] = origin
    return task


def origin_of(task: Task) -> Origin | None:
    """How `task` was made, where that is known."""
    origin = vars(task).get("_origin")
    return origin if isinstance(origin, Origin) else None


def record_of_model(model: OpenModel) -> dict[str, Any]:
    """What the numbers were measured on, and how it was run."""
    return {
        "name": model.name,
        "source": model.source,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "attention": model.attention_implementation,
    }


def record_of_task(task: Task) -> dict[str, Any]:
    """Name, size, seed, the parameters it was made with, and the fingerprint of what a model is asked."""
    origin = origin_of(task)
    return {
        "name": task.name,
        "n": len(task.prompts),
        "seed": task.seed,
        "sha256": task.fingerprint,
        "parameters": dict(origin.parameters) if origin else {},
    }


@lru_cache(maxsize=1)
def versions() -> Mapping[str, str]:
    """Versions of what computed the numbers, read without importing it."""
    found = {name: metadata.version(name) for name in ("cutaway", "torch", "transformers", "numpy")}
    return {**found, "python": platform.python_version()}


def command_line(
    method: str,
    model: str,
    task: Task,
    chosen: Mapping[str, Any],
    *,
    options: Mapping[str, str | Sequence[str]] | None = None,
    plugins: Iterable[Path] = (),
) -> str:
    """The command that repeats a run; empty where no command can say it.

    Args:
        method: name of the method.
        model: what `cutaway.open` was given.
        task: what was shown.
        chosen: parameters that differ from their defaults.
        options: how the model was opened, such as its dtype; several values are said one by one.
        plugins: loose files that were loaded.
    """
    words = ["cutaway", *(f"--plugin={file}" for file in plugins), "run", method, "--model", model]
    for name, given in (options or {}).items():
        words += [f"--{name}={value}" for value in ([given] if isinstance(given, str) else given)]
    said = _said(task)
    if said is None:
        return ""
    words += [*said, *(f"{name}={to_text(value)}" for name, value in chosen.items())]
    line = shlex.join(words)
    return line if len(line) <= _LONGEST_COMMAND else ""


def _said(task: Task) -> list[str] | None:
    origin = origin_of(task)
    if origin is not None and origin.file:
        metric = [f"--metric={origin.parameters['metric']}"] if "metric" in origin.parameters else []
        return ["--file", origin.file, *metric]
    if origin is not None:
        return ["--task", origin.name, *(f"task.{k}={to_text(v)}" for k, v in origin.parameters.items())]
    several = [*task.answers, *task.wrong]
    if task.positions or any("|" in text for texts in several for text in texts):
        return None
    return list(_words_of_prompts(task))


def _words_of_prompts(task: Task) -> Iterator[str]:
    """Options as `cutaway run` reads them: one of each a prompt, answers to one prompt joined by `|`."""
    groups = {
        "--prompt": task.prompts,
        "--contrast": task.contrasts,
        "--answer": ["|".join(texts) for texts in task.answers],
        "--wrong": ["|".join(texts) for texts in task.wrong],
    }
    for option, texts in groups.items():
        for text in texts:
            yield from [f"{option}={text}"] if text.startswith("-") else [option, text]
    if task.metric != type(task).from_prompts(task.prompts, answers=task.answers, wrong=task.wrong).metric:
        yield from ["--metric", task.metric]
