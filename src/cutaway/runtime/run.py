"""How is a method run by name, from strings? The way from a command line or a form to a Result.

The words are `key=value`: `top=3` is a parameter of the method, `task.n=20` one of the task. Names and
values are checked before a model is opened, so that a slip costs a second and not a minute.
Limits: one method on one model and one task, in this process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cutaway.core import registry
from cutaway.core.errors import ParameterError, TaskError
from cutaway.core.method import Method, TaskBuilder
from cutaway.core.provenance import OpenModel, Origin, origin_of, remember_origin
from cutaway.core.result import Result
from cutaway.core.task import Task

_TASK = "task."


@dataclass(frozen=True)
class Prompts:
    """Texts given one by one instead of a named task; several answers to one prompt are joined by `|`."""

    prompts: tuple[str, ...] = ()
    contrasts: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    file: Path | None = None
    metric: str | None = None

    def __bool__(self) -> bool:
        return bool(self.prompts or self.file or self.contrasts or self.answers or self.wrong or self.metric)


@dataclass(frozen=True)
class Prepared:
    """A method with its parameters and a task, all checked: only the model is missing."""

    method: Method[Any, ...]
    task: Task
    parameters: Mapping[str, Any] = field(default_factory=dict)


def run(name: str, model: OpenModel, task: Task | str | Sequence[str], texts: Mapping[str, str]) -> Result:
    """Run the method `name` with parameters as strings.

    Raises:
        MethodError: there is no such method, or model or task lack what it needs.
        ParameterError: a parameter with a wrong name or value.
    """
    method = method_named(name)
    return method(model, task, **method.parse(texts))


def prepare(name: str, words: Sequence[str], task: str | None, prompts: Prompts) -> Prepared:
    """Check everything that can be checked without a model.

    Args:
        name: of the method.
        words: `key=value`, with `task.key=value` for the task.
        task: name of a task, or None when `prompts` says what is asked.
        prompts: texts given one by one.

    Raises:
        MethodError, TaskError, ParameterError: with what to write instead.
    """
    registry.find("method", name)
    for_method, for_task = split(words)
    made = task_from(task, prompts, for_task)
    method = method_named(name)
    return Prepared(method, made, method.parse(for_method))


def method_named(name: str) -> Method[Any, ...]:
    """The method `name`, imported."""
    found: Method[Any, ...] = registry.get("method", name)
    return found


def task_from(name: str | None, prompts: Prompts, texts: Mapping[str, str]) -> Task:
    """The task that a command line describes: by name, by a file, or by the prompts themselves."""
    if name and prompts:
        raise TaskError(
            f"both the task {name!r} and prompts were given;",
            "a run has one task.",
            "Leave out --task, or leave out --prompt, --contrast, --answer, --wrong, --metric and --file.",
        )
    if name:
        builder: TaskBuilder[...] = registry.get("task", name)
        return builder(**builder.parse(texts))
    if texts:
        raise ParameterError(
            f"{_TASK}{next(iter(texts))} was given without a task;",
            "it belongs to --task.",
            "Write --task ioi.",
        )
    return _ad_hoc(prompts)


def split(words: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Parameters of the method and of the task, from `key=value` words.

    Raises:
        ParameterError: a word that is not `key=value`, or a key given twice.
    """
    method: dict[str, str] = {}
    task: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.strip():
            raise ParameterError(
                f"{word!r} is not a parameter;",
                "parameters are written key=value, those of the task task.key=value.",
                "Write for example top=3 or task.n=20.",
            )
        target, key = (task, key.removeprefix(_TASK)) if key.startswith(_TASK) else (method, key)
        if key in target:
            raise ParameterError(f"{word.partition('=')[0]!r} was given twice;", "each parameter has one value.")
        target[key] = value
    return method, task


def _ad_hoc(prompts: Prompts) -> Task:
    if prompts.file is not None:
        if prompts.prompts or prompts.contrasts or prompts.answers or prompts.wrong:
            expected = "a file holds contrasts and answers in its own columns."
            raise TaskError(f"both {prompts.file.name} and prompts were given;", expected, "Leave one out.")
        return _scored(Task.from_file(prompts.file), prompts.metric)
    if not prompts.prompts:
        raise TaskError(
            "there is nothing to run on;",
            "a task is given by name, by prompts, or by a file of prompts.",
            'Write --task ioi, or --prompt "The capital of France is", or --file prompts.csv.',
        )
    return Task.from_prompts(
        list(prompts.prompts),
        contrasts=list(prompts.contrasts) or None,
        answers=[text.split("|") for text in prompts.answers] or None,
        wrong=[text.split("|") for text in prompts.wrong] or None,
        metric=prompts.metric,
    )


def _scored(task: Task, metric: str | None) -> Task:
    """The task of a file, scored by another metric than its usual one."""
    if metric is None:
        return task
    origin = origin_of(task) or Origin(task.name, {}, file=task.source)
    return remember_origin(replace(task, metric=metric), replace(origin, parameters={"metric": metric}))
