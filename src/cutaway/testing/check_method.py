"""Does a method keep the laws of methods? Every method in the registry is held to these, ours and others'.

A law is a function of a `Subject` (the method, a task, tiny models) that yields a sentence for each thing
that is broken. `check_method` runs them all and raises one AssertionError with every sentence, or takes the
names of the laws to run, so that a test suite can show them one by one. Limits: laws are about form, honesty
and tidiness. That the numbers are right is for the method's own tests.
"""

from __future__ import annotations

import inspect
import io
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import xarray as xr
from rich.console import Console

from cutaway.core import parameters, registry
from cutaway.core.errors import Cancelled, CutawayError, MethodError, ParameterError, SiteError
from cutaway.core.method import Method
from cutaway.core.progress import reporting
from cutaway.core.result import Result
from cutaway.core.roles import resolve
from cutaway.core.task import Task
from cutaway.models.model import Model
from cutaway.testing.citations import missing_citations
from cutaway.testing.tiny import tiny, tiny_task
from cutaway.testing.traces import differences, trace

Law = Callable[["Subject"], Iterator[str]]
RECORDED = ("method", "parameters", "model", "task", "versions", "started", "seconds", "command")


@dataclass(frozen=True)
class Subject:
    """A method with what it is tried on."""

    method: Method[Any, ...]
    task: Task = field(default_factory=tiny_task)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    references: Path | None = None

    @cached_property
    def model(self) -> Model:
        """The model that most laws use."""
        return tiny("llama")

    @cached_property
    def result(self) -> Result:
        """What the method returns on it."""
        return self.run()

    def run(self, changed: Mapping[str, Any] | None = None, model: Model | None = None) -> Result:
        """The method once more."""
        return self.method(model or self.model, self.task, **{**self.parameters, **(changed or {})})


def check_method(
    method: str | Method[Any, ...],
    *,
    task: Task | None = None,
    parameters: Mapping[str, Any] | None = None,
    laws: Sequence[str] | None = None,
    references: Path | None = None,
) -> None:
    """Hold a method to the laws of methods, on tiny models.

    Args:
        method: the method or its name.
        task: what it is run on; four prompts with contrasts, answers and wrong answers by default.
        parameters: with which it is run; its defaults by default.
        laws: names from `METHOD_LAWS`; all of them by default.
        references: a BibTeX file that must have the keys that the method cites.

    Raises:
        AssertionError: with a sentence for each law that is broken.
    """
    found: Method[Any, ...] = registry.get("method", method) if isinstance(method, str) else method
    if task is None and not parameters:
        subject = _shared(found, references)
    else:
        subject = Subject(found, task or tiny_task(), dict(parameters or {}), references)
    broken = [f"{law}: {said}" for law in laws or METHOD_LAWS for said in METHOD_LAWS[law](subject)]
    if broken:
        raise AssertionError(f"the method {found.name!r} breaks these laws:\n" + "\n".join(f"- {b}" for b in broken))


@lru_cache(maxsize=64)
def _shared(method: Method[Any, ...], references: Path | None) -> Subject:
    """Laws tried one by one share the model and the first result."""
    return Subject(method, references=references)


def _says_what_it_is(subject: Subject) -> Iterator[str]:
    function, method = subject.method.function, subject.method
    module = inspect.getmodule(function)
    text = (module.__doc__ if module else "") or ""
    if not method.asks.strip().endswith("?"):
        yield f"asks is {method.asks!r}; it is a question"
    if not (function.__doc__ or "").strip():
        yield "the function has no docstring"
    if len(text.split()) < 15:
        yield "the module docstring does not say the idea and its limits"
    yield from missing_citations(method.cites, text, subject.references)


def _has_a_schema(subject: Subject) -> Iterator[str]:
    method = subject.method
    schema = json.loads(json.dumps(method.schema()))
    names = parameters.names_of(method.function)
    if sorted(schema.get("properties", {})) != sorted(names):
        yield f"the schema has {sorted(schema.get('properties', {}))}, the signature {sorted(names)}"
    for name, default in parameters.defaults_of(method.function).items():
        back = method.parse({name: parameters.to_text(default)} | _needed(method, name))[name]
        if _plain(back) != _plain(default):
            yield f"{name}={parameters.to_text(default)} on a command line gives {back!r}, not {default!r}"
    missing = sorted(set(names) - set(parameters.defaults_of(method.function)) - set(subject.parameters))
    if missing:
        yield f"{', '.join(missing)}: no default, so it does not run by its name alone"


def _returns_a_result(subject: Subject) -> Iterator[str]:
    result = subject.result
    if not result.views:
        yield "it has no view: nothing would be seen of it"
    for view in result.views:
        resolve(view, result.data)
        if not view.title:
            yield f"a {view.kind} view has no title"
    for name, value in result.metrics.items():
        if isinstance(value, float) and math.isnan(value):
            yield f"the metric {name!r} is not a number"
    screen = io.StringIO()
    result.show("terminal", console=Console(file=screen, width=80))
    if not screen.getvalue().strip():
        yield "nothing of it is seen in the terminal"


def _checks_what_it_claims(subject: Subject) -> Iterator[str]:
    checks = subject.result.checks
    if not checks and not subject.method.describes_only:
        yield "no check: test the claim by an intervention with a control, or say describes_only=True"
    for check in checks:
        if not check.claim or not check.how:
            yield "a check does not say its claim and how it was tested"
        if check.n < 1:
            yield f"the check of {check.claim!r} has no control"
        values = (check.measured, check.control, *check.interval)
        if not all(math.isfinite(value) for value in values):
            yield f"the check of {check.claim!r} has figures that are not numbers: {values}"


def _says_where_it_comes_from(subject: Subject) -> Iterator[str]:
    record = json.loads(json.dumps(dict(subject.result.provenance)))
    missing = [key for key in RECORDED if key not in record]
    if missing:
        yield f"the provenance lacks {', '.join(missing)}"
    if record.get("method") != subject.method.name:
        yield f"the provenance names the method {record.get('method')!r}"
    if sorted(record.get("parameters", {})) != sorted(parameters.names_of(subject.method.function)):
        yield f"the provenance has the parameters {sorted(record.get('parameters', {}))}"
    wordless = subject.method(subject.model, replace(subject.task, positions={}), **subject.parameters)
    if not wordless.provenance["command"].startswith(f"cutaway run {subject.method.name} "):
        yield f"the command that repeats it is {wordless.provenance['command']!r}"


def _survives_a_file(subject: Subject) -> Iterator[str]:
    result = subject.result
    with tempfile.TemporaryDirectory() as folder:
        path = result.save(Path(folder) / "result.nc")
        loaded = Result.load(path)
        with xr.open_dataset(path) as plain:
            absent = set(result.data.data_vars) - set(plain.data_vars)
    if loaded.id != result.id:
        yield f"saved and loaded it is another result ({result.id[:8]} became {loaded.id[:8]})"
    if dict(loaded.provenance) != dict(result.provenance):
        yield "its provenance is not the same after saving and loading"
    if absent:
        yield f"plain xarray does not find {', '.join(map(str, absent))} in the file"


def _repeats(subject: Subject) -> Iterator[str]:
    if subject.run().id != subject.result.id:
        yield "run again with the same seed it gives another result"
    every = {**parameters.defaults_of(subject.method.function), **subject.parameters}
    backwards = dict(reversed(every.items()))
    again = subject.method(subject.model, subject.task, **backwards)
    if again.id != subject.result.id:
        yield "with its parameters written out in another order it gives another result"


def _leaves_no_trace(subject: Subject) -> Iterator[str]:
    before = trace(subject.model)
    subject.run()
    yield from differences(before, trace(subject.model))


def _stops_when_asked(subject: Subject) -> Iterator[str]:
    before = trace(subject.model)
    impatient = _Impatient()
    stopped = False
    with reporting(impatient):
        try:
            subject.run()
        except Cancelled:
            stopped = True
    if impatient.steps and not stopped:
        yield "it was cancelled at its first step and went on"
    if impatient.open:
        yield f"{impatient.open} pieces of work were not reported as over"
    yield from (f"after being cancelled, {said}" for said in differences(before, trace(subject.model)))


def _refuses_wrong_parameters(subject: Subject) -> Iterator[str]:
    names = parameters.names_of(subject.method.function)
    unknown = f"{names[0]}_" if names else "no_such_parameter"
    yield from expects(ParameterError, unknown, partial(subject.run, {unknown: 1}))
    for name in names:
        yield from expects(ParameterError, name, partial(subject.run, {name: object()}))
    for name in {"sites", "site"} & set(names):
        yield from expects(SiteError, "resid_post", partial(subject.run, {name: "resid_pst[*]"}))


def _runs_on_another_family(subject: Subject) -> Iterator[str]:
    model = tiny("gpt2")
    before = trace(model)
    result = subject.run(model=model)
    if result.provenance["model"]["name"] != model.name:
        yield f"the provenance names the model {result.provenance['model']['name']!r}"
    yield from differences(before, trace(model))


def _refuses_what_it_cannot_do(subject: Subject) -> Iterator[str]:
    bare = replace(subject.task, contrasts=(), answers=(), wrong=(), contrast_positions={}, metric="kl")
    for need in subject.method.needs:
        if need == "contrast" or need == "answers":
            call = partial(subject.method, subject.model, bare, **subject.parameters)
            yield from expects(MethodError, need, call)
        elif need in tiny("llama").anatomy.features - tiny("bert").anatomy.features:
            yield from expects(MethodError, need, partial(subject.run, model=tiny("bert")))


METHOD_LAWS: Mapping[str, Law] = {
    "says_what_it_is": _says_what_it_is,
    "has_a_schema": _has_a_schema,
    "returns_a_result": _returns_a_result,
    "checks_what_it_claims": _checks_what_it_claims,
    "says_where_it_comes_from": _says_where_it_comes_from,
    "survives_a_file": _survives_a_file,
    "repeats": _repeats,
    "leaves_no_trace": _leaves_no_trace,
    "stops_when_asked": _stops_when_asked,
    "refuses_wrong_parameters": _refuses_wrong_parameters,
    "runs_on_another_family": _runs_on_another_family,
    "refuses_what_it_cannot_do": _refuses_what_it_cannot_do,
}


class _Impatient:
    """Watches, and asks to stop after the first step."""

    def __init__(self) -> None:
        self.steps = self.open = 0

    def start(self, what: str, total: int | None) -> None:
        self.open += 1

    def advance(self, n: int) -> None:
        self.steps += n

    def done(self) -> None:
        self.open -= 1

    def cancelled(self) -> bool:
        return self.steps > 0


def expects(error: type[CutawayError], said: str, call: Callable[[], Any]) -> Iterator[str]:
    """A sentence unless `call` raises that error with a message that has `said` in it."""
    try:
        call()
    except error as raised:
        if said not in str(raised):
            yield f"the {error.__name__} does not say {said!r}: {raised}"
    except Exception as raised:  # noqa: BLE001 - whatever else it raises is the finding
        yield f"{type(raised).__name__} instead of {error.__name__}: {raised}"
    else:
        yield f"no {error.__name__} that says {said!r}"


def _needed(method: Method[Any, ...], but: str) -> dict[str, str]:
    """Something for the parameters that have no default, so that another one can be read."""
    wanted = set(parameters.names_of(method.function)) - set(parameters.defaults_of(method.function)) - {but}
    return dict.fromkeys(wanted, "1")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
