"""Does a task keep the laws of tasks? Every task in the registry is held to these, ours and others'.

A law is a function of a `TaskSubject` (the builder, and what it makes) that yields a sentence for each thing
that is broken; `check_task` raises one AssertionError with every sentence. Limits: the tokenizer is one that
knows every word of the task. How many prompts survive a real tokenizer is for the task's own tests.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from cutaway.core import parameters, registry
from cutaway.core.errors import ParameterError
from cutaway.core.method import TaskBuilder
from cutaway.core.provenance import origin_of
from cutaway.core.task import EncodedTask, Task
from cutaway.models.metric import metric_of
from cutaway.testing.check_method import expects
from cutaway.testing.citations import missing_citations
from cutaway.testing.tiny import texts_of, tiny_tokenizer

Law = Callable[["TaskSubject"], Iterator[str]]


@dataclass(frozen=True)
class TaskSubject:
    """A task builder and what it makes."""

    builder: TaskBuilder[...]
    references: Path | None = None

    @cached_property
    def names(self) -> list[str]:
        """Its parameters."""
        return parameters.names_of(self.builder.function)

    @cached_property
    def task(self) -> Task:
        """A dozen prompts, or what it makes where the size is not a choice."""
        return self.builder(n=12) if "n" in self.names else self.builder()

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """One that has a token for every word of the task."""
        return tiny_tokenizer(texts_of(self.task), start=True)

    @cached_property
    def encoded(self) -> EncodedTask:
        """The task in its ids."""
        return self.task.encode(self.tokenizer)


def check_task(
    task: str | TaskBuilder[...], *, laws: Sequence[str] | None = None, references: Path | None = None
) -> None:
    """Hold a task builder to the laws of tasks.

    Args:
        task: the builder or its name.
        laws: names from `TASK_LAWS`; all of them by default.
        references: a BibTeX file that must have the keys that the task cites.

    Raises:
        AssertionError: with a sentence for each law that is broken.
    """
    found: TaskBuilder[...] = registry.get("task", task) if isinstance(task, str) else task
    subject = _shared(found, references)
    broken = [f"{law}: {said}" for law in laws or TASK_LAWS for said in TASK_LAWS[law](subject)]
    if broken:
        raise AssertionError(f"the task {found.name!r} breaks these laws:\n" + "\n".join(f"- {b}" for b in broken))


@lru_cache(maxsize=64)
def _shared(builder: TaskBuilder[...], references: Path | None) -> TaskSubject:
    return TaskSubject(builder, references)


def _says_what_it_is(subject: TaskSubject) -> Iterator[str]:
    function = subject.builder.function
    module = inspect.getmodule(function)
    text = (module.__doc__ if module else "") or ""
    if not subject.builder.asks:
        yield "it does not say what it asks"
    if not (function.__doc__ or "").strip() or not text.strip():
        yield "the function or its module has no docstring"
    if not subject.task.source:
        yield "it does not say where its texts come from (source)"
    yield from missing_citations(subject.builder.cites, text, subject.references)


def _has_a_schema(subject: TaskSubject) -> Iterator[str]:
    schema = json.loads(json.dumps(subject.builder.schema()))
    if sorted(schema.get("properties", {})) != sorted(subject.names):
        yield f"the schema has {sorted(schema.get('properties', {}))}, the signature {sorted(subject.names)}"
    missing = sorted(set(subject.names) - set(parameters.defaults_of(subject.builder.function)))
    if missing:
        yield f"{', '.join(missing)}: no default, so it is not made by its name alone"


def _refuses_wrong_parameters(subject: TaskSubject) -> Iterator[str]:
    yield from expects(ParameterError, "no_such_parameter", partial(subject.builder, no_such_parameter=1))
    for name in subject.names:
        yield from expects(ParameterError, name, partial(subject.builder, **{name: object()}))
    if "n" in subject.names:
        yield from expects(ParameterError, "n", partial(subject.builder, n=0))


def _has_the_size_asked_for(subject: TaskSubject) -> Iterator[str]:
    for n in (1, 5) if "n" in subject.names else ():
        made = subject.builder(n=n)
        if len(made) != n:
            yield f"n={n} gives {len(made)} prompts"


def _follows_its_seed(subject: TaskSubject) -> Iterator[str]:
    torch_state = torch.get_rng_state()
    again = subject.builder(**dict(origin_parameters(subject.task)))
    if again != subject.task:
        yield "made again in the same way it is another task"
    if not torch.equal(torch_state, torch.get_rng_state()):
        yield "it draws from torch's global random state"
    if "seed" in subject.names:
        if subject.task.seed is None:
            yield "the task does not carry its seed"
        size = {"n": 12} if "n" in subject.names else {}
        if all(subject.builder(seed=seed, **size).prompts == subject.task.prompts for seed in (1, 2, 3)):
            yield "its prompts are the same with every seed"


def _fits_together(subject: TaskSubject) -> Iterator[str]:
    task, encoded = subject.task, subject.encoded
    if len(encoded) < len(task):
        yield f"with a token for every word, prompts are lost: {encoded.summary}"
    if any(prompt == contrast for prompt, contrast in zip(task.prompts, task.contrasts)):
        yield "a contrast is the same as its prompt"
    if not task.answers:
        yield "it has no answers, so nothing can be scored"
    if encoded.contrast_ids and [*map(len, encoded.ids)] != [*map(len, encoded.contrast_ids)]:
        yield "prompts and contrasts have different numbers of tokens"
    for name, places in encoded.positions.items():
        if not all(0 <= place < len(ids) for place, ids in zip(places, encoded.ids)):
            yield f"the position {name!r} lies outside a prompt"


def _can_be_scored(subject: TaskSubject) -> Iterator[str]:
    metric = metric_of(subject.encoded)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(len(subject.encoded), len(subject.tokenizer), generator=generator)
    values = metric.against(logits)(logits) if metric.name == "kl" else metric(logits)
    if values.shape != (len(subject.encoded),) or not torch.isfinite(values).all():
        yield f"{metric.name} of {len(subject.encoded)} prompts is {values.tolist()[:5]}"


def _can_be_repeated(subject: TaskSubject) -> Iterator[str]:
    texts = {name: parameters.to_text(value) for name, value in origin_parameters(subject.task).items()}
    if subject.builder(**subject.builder.parse(texts)) != subject.task:
        yield f"written on a command line as {texts} it is another task"


TASK_LAWS: Mapping[str, Law] = {
    "says_what_it_is": _says_what_it_is,
    "has_a_schema": _has_a_schema,
    "refuses_wrong_parameters": _refuses_wrong_parameters,
    "has_the_size_asked_for": _has_the_size_asked_for,
    "follows_its_seed": _follows_its_seed,
    "fits_together": _fits_together,
    "can_be_scored": _can_be_scored,
    "can_be_repeated": _can_be_repeated,
}


def origin_parameters(task: Task) -> Mapping[str, Any]:
    """The parameters with which a task was made."""
    origin = origin_of(task)
    return origin.parameters if origin else {}
