"""What is a method? A typed function `(model, task, *, parameters) -> Result` that can say what it answers.

`@method` keeps the function a plain callable and adds what every face needs: the schema of its parameters,
the check of names and values, the check that model and task have what it needs, and the provenance of what
it returns (down to the command line that repeats it). `@task`, `@renderer` and `@format` do as much for the
other named functions. The registry finds the decorators in source files without importing them, so their
arguments are literals.
Limits: a method takes its choices as plain values (see `parameters`); whatever else it needs comes with the
task.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeAlias, TypeVar

from cutaway.core import parameters
from cutaway.core.errors import MethodError, ParameterError, TaskError
from cutaway.core.provenance import (
    OpenModel,
    Origin,
    command_line,
    record_of_model,
    record_of_task,
    remember_origin,
    versions,
)
from cutaway.core.task import EncodedTask, Task

if TYPE_CHECKING:
    from cutaway.core.result import Result

P = ParamSpec("P")
M = TypeVar("M", bound=OpenModel)
F = TypeVar("F", bound=Callable[..., Any])
TaskLike: TypeAlias = Task | EncodedTask | str | Sequence[str]


def method(
    *, asks: str, cites: str = "", needs: Sequence[str] = (), describes_only: bool = False
) -> Callable[[Callable[Concatenate[M, Task, P], Result]], Method[M, P]]:
    """Make a function `(model, task, *, parameters) -> Result` a method.

    Args:
        asks: the question that it answers, in one line.
        cites: citation keys of `docs/references.bib`, separated by commas.
        needs: what must be there: features of the model's anatomy (`unembedding`, `causal`, `attention`, …),
            and `contrast` or `answers` in the task.
        describes_only: the Result makes no claim that a part matters, so it carries no check.
    """

    def decorate(function: Callable[Concatenate[M, Task, P], Result]) -> Method[M, P]:
        return Method(function, asks, cites, tuple(needs), describes_only)

    return decorate


def task(*, asks: str, cites: str = "") -> Callable[[Callable[P, Task]], TaskBuilder[P]]:
    """Make a function `(*, parameters) -> Task` a task builder.

    Args:
        asks: what the task tries, in one line.
        cites: citation keys of `docs/references.bib`, separated by commas.
    """

    def decorate(function: Callable[P, Task]) -> TaskBuilder[P]:
        return TaskBuilder(function, asks, cites)

    return decorate


def renderer(name: str, *, asks: str = "") -> Callable[[F], F]:
    """Make a function the renderer `name`: it draws a Result somewhere. The function stays as it is."""
    return _named(name, asks)


def format(name: str, *, asks: str = "", suffixes: Sequence[str] = ()) -> Callable[[F], F]:
    """Make a function the file format `name`: it writes or reads a Result. The function stays as it is."""
    return _named(name, asks)


@dataclasses.dataclass(frozen=True)
class Method(Generic[M, P]):
    """A method: call it as the function that it was made from, or ask it what it takes."""

    function: Callable[Concatenate[M, Task, P], Result]
    asks: str
    cites: str = ""
    needs: tuple[str, ...] = ()
    describes_only: bool = False

    def __post_init__(self) -> None:
        vars(self).update(_looks_of(self.function))

    def __call__(self, model: M, task: TaskLike, *args: P.args, **kwargs: P.kwargs) -> Result:
        """Run on `model` and `task` with the parameters given by name.

        Raises:
            ParameterError: a parameter with a wrong name or value.
            MethodError: the model or the task lacks what the method needs.
        """
        if args:
            raise _by_name(self.name, args, parameters.names_of(self.function))
        values = parameters.validate(self.function, kwargs)
        prepared = as_task(task)
        _refuse_unmet(self, model, prepared)
        started, clock = datetime.now(UTC), time.perf_counter()
        function: Callable[..., Result] = self.function
        result = function(model, prepared, **values)
        seconds = time.perf_counter() - clock
        return _with_provenance(self, result, model, prepared, values, started, seconds)

    def __reduce__(self) -> str:
        return self.name  # pickled and copied as a function is: by its name in its module

    @property
    def name(self) -> str:
        """The name in the registry: that of the function."""
        return self.function.__name__

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the parameters."""
        return parameters.schema_of(self.function)

    def parse(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """Parameters from strings, as `key=value` on a command line gives them."""
        return parameters.parse(self.function, texts)


@dataclasses.dataclass(frozen=True)
class TaskBuilder(Generic[P]):
    """A named maker of tasks: call it as the function that it was made from, or ask it what it takes."""

    function: Callable[P, Task]
    asks: str
    cites: str = ""

    def __post_init__(self) -> None:
        vars(self).update(_looks_of(self.function))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Task:
        """Make the task.

        Raises:
            ParameterError: a parameter with a wrong name or value.
        """
        if args:
            raise _by_name(self.name, args, parameters.names_of(self.function))
        values = parameters.validate(self.function, kwargs)
        function: Callable[..., Task] = self.function
        return remember_origin(function(**values), Origin(self.name, parameters.chosen(self.function, values)))

    def __reduce__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """The name in the registry: that of the function."""
        return self.function.__name__

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the parameters."""
        return parameters.schema_of(self.function)

    def parse(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """Parameters from strings, as `task.key=value` on a command line gives them."""
        return parameters.parse(self.function, texts)


def as_task(given: TaskLike) -> Task:
    """A Task from what people have in hand: a Task, an encoded one, a prompt, or several prompts.

    Raises:
        TaskError: anything else.
    """
    match given:
        case Task():
            return given
        case EncodedTask():
            return given.task
        case str():
            return Task.from_prompts([given])
        case Sequence() if given and all(isinstance(prompt, str) for prompt in given):
            return Task.from_prompts(list(given))
    raise TaskError(
        f"a task cannot be made from {_briefly(given)};",
        "it is a Task, a prompt, or a list of prompts.",
        "Write cutaway.Task.from_prompts([...]) or cutaway.tasks.ioi(n=50).",
    )


def _named(name: str, asks: str) -> Callable[[F], F]:
    if not name or not name.replace("_", "").replace("-", "").isalnum():
        raise MethodError(
            f"{name!r} cannot be a name;",
            "letters, digits, '-' and '_' can.",
            'Write for example "terminal".',
        )
    return lambda function: function


def _looks_of(function: Callable[..., Any]) -> dict[str, Any]:
    """What makes an object look like the function in `help()`, signatures and pickles."""
    kept = ("__module__", "__name__", "__qualname__", "__doc__")
    return {**{key: getattr(function, key) for key in kept}, "__wrapped__": function}


def _by_name(name: str, args: Sequence[Any], known: Sequence[str]) -> ParameterError:
    return ParameterError(
        f"{name!r} was given {_briefly(args[0])} by position;",
        f"parameters are given by name ({', '.join(known) or 'it takes none'}).",
        f"Write {name}(…, {known[0]}={args[0]!r})." if known else "",
    )


def _briefly(value: Any) -> str:
    shown = repr(value)
    return f"{shown if len(shown) <= 40 else shown[:39] + '…'} ({type(value).__name__})"


_IN_WORDS = {"causal": "a causal mask", "unembedding": "an unembedding", "contrast": "contrasts"}


def _refuse_unmet(method: Method[Any, Any], model: OpenModel, task: Task) -> None:
    for need in method.needs:
        match need:
            case "contrast":
                met, advice = bool(task.contrasts), "Give contrasts= to Task.from_prompts, or --contrast."
            case "answers":
                met, advice = bool(task.answers), "Give answers= to Task.from_prompts, or --answer."
            case _:
                met, advice = need in model.anatomy.features, "`cutaway check MODEL` lists what a model has."
        if not met:
            where = f"task {task.name!r}" if need in ("contrast", "answers") else f"model {model.name!r}"
            missing = _IN_WORDS.get(need, need).removeprefix("a ").removeprefix("an ")
            needs = f"it needs {' and '.join(_IN_WORDS.get(each, each) for each in method.needs)}."
            raise MethodError(f"{method.name!r} cannot run: {where} has no {missing};", needs, advice)


def _with_provenance(
    method: Method[Any, Any],
    result: Result,
    model: OpenModel,
    task: Task,
    values: Mapping[str, Any],
    started: datetime,
    seconds: float,
) -> Result:
    from cutaway.core.result import Result

    if not isinstance(result, Result):
        raise MethodError(
            f"{method.name!r} returned {_briefly(result)};",
            "a method returns a Result.",
            "Write return Result(data=…).",
        )
    chosen = parameters.chosen(method.function, values)
    record = {
        "method": method.name,
        "module": method.function.__module__,
        "cites": method.cites,
        "parameters": {name: _json(value) for name, value in values.items()},
        "model": record_of_model(model),
        "task": record_of_task(task),
        "versions": dict(versions()),
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "command": command_line(method.name, model.name, task, chosen),
    }
    return dataclasses.replace(result, provenance={**result.provenance, **record})


def _json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
