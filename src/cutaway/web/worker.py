"""What does the model worker do? It holds the opened models, answers quick requests, and runs jobs.

Started by the server as `python -m cutaway.web.worker`, spoken to over its pipes (see `cutaway.runtime.worker`).
The store is the one that CUTAWAY_STORE names.
Finished results go into the store from here, before the server hears of them: a server that dies loses none.
Tokenising, schemas and the check of parameters are light: they are answered while a job runs.
Limits: few models are held at once; the one that was not asked for longest is closed for another.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutaway.core import parameters, registry
from cutaway.core.errors import CutawayError, ModelError
from cutaway.core.progress import tracking
from cutaway.runtime.frames import Frame
from cutaway.runtime.worker import Handler, Line, serve

if TYPE_CHECKING:
    from cutaway.core.result import Result
    from cutaway.core.task import Task
    from cutaway.models.model import Model
    from cutaway.store.index import Store

MOST_MODELS = 3
NICE = 5  # the server answers first


class Models:
    """The opened models, the one asked for last at the end."""

    def __init__(self, most: int = MOST_MODELS) -> None:
        self._most = most
        self._open: OrderedDict[str, Model] = OrderedDict()
        self._readers: dict[str, Model] = {}

    def get(self, name: str, line: Line) -> Model:
        """The model, opened now if it is not yet."""
        if name not in self._open:
            from cutaway.models.open import open

            while len(self._open) >= self._most:
                self.close(next(iter(self._open)), line)
            with tracking(f"opening {name}"):
                model = open(name)
            self._open[name] = model
            self._readers[name] = _reader(model)
            count = sum(parameter.numel() for parameter in model.hf.parameters())
            facts = {"source": model.source, "parameters": count, "layers": model.anatomy.n_layers}
            line.event("opened", model=name, **facts)
        self._open.move_to_end(name)
        return self._open[name]

    def close(self, name: str, line: Line) -> None:
        """Let go of a model; one that is not open stays so."""
        self._readers.pop(name, None)
        if self._open.pop(name, None) is not None:
            line.event("closed", model=name)

    def reader(self, name: str) -> Model:
        """What tokenises for an opened model, beside whatever the model does.

        Raises:
            ModelError: it is not open.
        """
        if name not in self._readers:
            raise ModelError(f"{name!r} is not open.", "", "Open it first.")
        return self._readers[name]


class Work:
    """The requests that the worker knows."""

    def __init__(self) -> None:
        self._kept: Store | None = None
        self.models = Models()

    def heavy(self) -> dict[str, Handler]:
        """What is done one at a time."""
        return {"inspect": self.inspect, "open": self.open, "close": self.close, "job": self.job}

    def light(self) -> dict[str, Handler]:
        """What is answered at once."""
        return {"tokenize": self.tokenize, "schemas": schemas, "validate": validate}

    def inspect(self, message: Mapping[str, Any], line: Line) -> Frame:
        """A quick request about an opened model: see `cutaway.apps.inspection`."""
        from cutaway.apps.inspection.requests import REQUESTS

        return _inspected(REQUESTS[message["request"]], self.models.get(message["model"], line), message)

    def tokenize(self, message: Mapping[str, Any], line: Line) -> Frame:
        """The tokens of a text."""
        from cutaway.apps.inspection.requests import REQUESTS

        return _inspected(REQUESTS["tokenize"], self.models.reader(message["model"]), message)

    def open(self, message: Mapping[str, Any], line: Line) -> Frame:
        """Open a model, and say what it is made of."""
        from cutaway.apps.inspection.requests import REQUESTS

        return Frame({"answer": {"anatomy": REQUESTS["anatomy"](self.models.get(message["model"], line), {})}})

    def close(self, message: Mapping[str, Any], line: Line) -> Frame:
        """Let go of a model."""
        self.models.close(message["model"], line)
        return Frame({"answer": {}})

    def job(self, message: Mapping[str, Any], line: Line) -> Frame:
        """Run a method or an explanation, and keep what it gives."""
        spec, job = message["spec"], message["job"]
        if spec["kind"] == "explain":
            return self._explain(spec, job, line)
        method = registry.get("method", spec["method"])
        values = parameters.validate(method.function, spec.get("parameters") or {})
        task = task_of(spec)
        result = method(self.models.get(spec["model"], line), task, **values)
        result = with_command(result, spec, task, parameters.chosen(method.function, values))
        for name, artifact in result.artifacts.items():
            self._store.add_artifact(artifact, title=f"{name} of {title_of(spec, task)}", job=job)
        return Frame({"answer": {"results": [self._store.add_result(result, title=title_of(spec, task), job=job)]}})

    def _explain(self, spec: Mapping[str, Any], job: str, line: Line) -> Frame:
        from cutaway.apps.explanation import explain

        model = self.models.get(spec["model"], line)
        given = {name: spec[name] for name in ("instead", "answer") if spec.get(name)}
        found = explain(model, spec["prompt"], **given)
        kept = [self._store.add_result(s.result, title=s.title, job=job) for s in found.sections]
        return Frame({"answer": {"results": kept, "report": found.record()}})

    @property
    def _store(self) -> Store:
        from cutaway.store.index import Store

        if self._kept is None:
            self._kept = Store.open()
        return self._kept


def schemas(message: Mapping[str, Any], line: Line) -> Frame:
    """JSON Schemas of the parameters of methods and tasks; of a broken one, the sentence that says why."""
    found: dict[str, dict[str, Any]] = {}
    for kind, names in message["wanted"].items():
        found[kind] = {}
        for name in names:
            try:
                found[kind][name] = {"schema": registry.get(kind, name).schema()}
            except CutawayError as error:
                found[kind][name] = {"schema": None, "problem": str(error)}
    return Frame({"answer": found})


def validate(message: Mapping[str, Any], line: Line) -> Frame:
    """Check names and values of a job's parameters; nothing is built or run."""
    spec = message["spec"]
    for kind, key in (("method", "parameters"), ("task", "task_parameters")):
        if spec.get(kind):
            parameters.validate(registry.get(kind, spec[kind]).function, spec.get(key) or {})
    return Frame({"answer": {}})


def task_of(spec: Mapping[str, Any]) -> Task:
    """The task that a job names, or the one that its prompts make."""
    from cutaway.core.task import Task

    if spec.get("task"):
        made: Task = registry.get("task", spec["task"])(**(spec.get("task_parameters") or {}))
        return made
    given = spec["prompts"]
    return Task.from_prompts(
        given["prompts"],
        contrasts=given.get("contrasts") or None,
        answers=given.get("answers") or None,
        wrong=given.get("wrong") or None,
        metric=given.get("metric") or None,
    )


def with_command(result: Result, spec: Mapping[str, Any], task: Task, chosen: Mapping[str, Any]) -> Result:
    """The result with the command that repeats it: model and method as they were named."""
    from cutaway.core.provenance import command_line

    command = command_line(spec["method"], spec["model"], task, chosen, plugins=registry.loose_files())
    return replace(result, provenance={**result.provenance, "command": command})


def title_of(spec: Mapping[str, Any], task: Task) -> str:
    """What a result is called in a list until somebody names it."""
    asked = str(spec["method"]).replace("_", " ")
    if spec.get("task"):
        return f"{asked} on {spec['task']}"
    prompt = task.prompts[0]
    shown = prompt if len(prompt) <= 60 else prompt[:59] + "…"
    more = f" and {len(task.prompts) - 1} more" if len(task.prompts) > 1 else ""
    return f"{asked} on “{shown}”{more}"


def main() -> None:
    """Be the worker until the server is gone."""
    options = argparse.ArgumentParser()
    options.add_argument("--plugin", action="append", default=[], type=Path)
    chosen = options.parse_args()
    with contextlib.suppress(OSError, AttributeError):
        os.nice(NICE)
    with contextlib.suppress(OSError):  # Linux: where memory runs out, the worker is ended and the server stays
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    work = Work()
    serve(work.heavy(), work.light(), lambda line: _prepare(chosen.plugin))


def _prepare(plugins: list[Path]) -> None:
    """Import what every request needs, before the first one comes."""
    import cutaway.apps.inspection.requests
    import cutaway.models.open  # noqa: F401

    for plugin in plugins:
        registry.load_file(plugin)


def _inspected(request: Any, model: Model, message: Mapping[str, Any]) -> Frame:
    found = request(model, dict(message["arguments"]))
    return Frame({"answer": found}) if isinstance(found, dict) else Frame({"type": "bundle"}, found.encode())


def _reader(model: Model) -> Model:
    """The same model with a tokenizer of its own, since one must not be used by two threads."""
    reader = copy.copy(model)
    reader.tokenizer = copy.deepcopy(model.tokenizer)
    reader._texts = {}
    return reader


if __name__ == "__main__":
    main()
