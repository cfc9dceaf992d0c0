"""What is a model asked? A `Task`: prompts, contrasts, answers, named positions, and the metric that scores.

A contrast is the prompt with the one thing changed that is under study, token for token as long, so that a
value inside the model can be carried from one to the other. Answers are written as the text goes on, with the
leading space where the model needs it (" Mary"). All is plain text; `encode` turns it into a tokenizer's ids.

>>> task = Task.from_prompts("The capital of France is", answers=" Paris", wrong=" Rome")
>>> len(task), task.metric
(1, 'logit_difference')

Limits: an answer is scored by its first token; a task fits in memory.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from cutaway.core.encoding import Dropped, EncodedTask, encode
from cutaway.core.errors import TaskError, nearest
from cutaway.core.provenance import Origin, remember_origin
from cutaway.core.task_file import read_rows, span_of
from cutaway.core.tokens import Tokenizer

__all__ = ["METRICS", "Dropped", "EncodedTask", "Spans", "Task"]

# name -> what it says about the answers, at each prompt's last token
METRICS: dict[str, str] = {
    "logit_difference": "logit of the answer minus logit of the wrong answer (means where there are several)",
    "probability_difference": "probability of all answers together minus that of all wrong answers",
    "log_probability": "log of the probability of all answers together",
    "kl": "Kullback-Leibler divergence from the unchanged model's distribution",
    "rank": "how many tokens are likelier than the answer",
    "accuracy": "1 where the answer beats every wrong answer (every token, if there are none), else 0",
}

Span: TypeAlias = tuple[int, int]
Spans: TypeAlias = Mapping[str, tuple[Span, ...]]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Task:
    """Prompts and how they are scored. All tuples but `prompts` are empty or as long as `prompts`.

    Attributes:
        name: what the task is called.
        prompts: the texts.
        answers: per prompt its right answers, one or more.
        wrong: per prompt its wrong answers, one or more.
        contrasts: per prompt its contrast.
        positions: named words: per prompt the (start, end) characters. The word's position is its last token.
        contrast_positions: where the same names stand in the contrasts; checked by `encode` where given.
        metric: one of `METRICS`.
        template: per prompt the label of its group, for means over prompts of one form.
        seed: with which the prompts were drawn.
        source: where they come from: a citation key, a table, a file.
    """

    name: str
    prompts: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...] = ()
    wrong: tuple[tuple[str, ...], ...] = ()
    contrasts: tuple[str, ...] = ()
    positions: Spans = field(default_factory=dict, hash=False)
    contrast_positions: Spans = field(default_factory=dict, hash=False)
    metric: str = "logit_difference"
    template: tuple[str, ...] = ()
    seed: int | None = None
    source: str = ""

    def __post_init__(self) -> None:
        _settle(self)
        _require_texts(self)
        for column in ("answers", "wrong", "contrasts", "template"):
            _require_length(self, column, len(getattr(self, column)))
        _require_spans(self, self.positions, self.prompts, "positions")
        _require_spans(self, self.contrast_positions, self.contrasts, "contrast_positions")
        if self.metric not in METRICS:
            raise TaskError(f"there is no metric {self.metric!r};", nearest(self.metric, METRICS))

    @classmethod
    def from_prompts(
        cls,
        prompts: str | Iterable[str],
        contrasts: str | Iterable[str] | None = None,
        answers: str | Iterable[str | Sequence[str]] | None = None,
        wrong: str | Iterable[str | Sequence[str]] | None = None,
        *,
        metric: str | None = None,
        name: str = "prompts",
        positions: Mapping[str, str | Sequence[str | Span]] | None = None,
    ) -> Task:
        """A task from texts at hand.

        Args:
            prompts: one text, or several.
            contrasts: one per prompt.
            answers: one per prompt, or a list of them per prompt. With a single text as `prompts`, a list is
                the answers to that text. A single answer for several prompts is the answer to each of them.
            wrong: as `answers`.
            metric: by default `logit_difference` with answers and wrong answers, `log_probability` with
                answers alone, `kl` without.
            name: what to call the task.
            positions: name to character spans, one per prompt, or to the word itself where it occurs once.

        Raises:
            TaskError: lists of different lengths, empty texts, spans outside the text.
        """
        texts = _texts(prompts)
        single = isinstance(prompts, str)
        right, false = (_answer_lists(given, len(texts), single) for given in (answers, wrong))
        return cls(
            name=name,
            prompts=texts,
            answers=right,
            wrong=false,
            contrasts=_texts(contrasts) if contrasts is not None else (),
            positions={key: _spans(places, texts) for key, places in (positions or {}).items()},
            metric=metric or _usual_metric(bool(right), bool(false)),
        )

    @classmethod
    def from_file(cls, path: str | Path) -> Task:
        """A task from a CSV, TSV or JSON-lines file; `cutaway.core.task_file` has the columns.

        Raises:
            TaskError: with the number of the line that does not fit.
        """
        path = Path(path)
        rows = read_rows(path)
        filled = {c: tuple(getattr(r, c) for r in rows) for c in ("contrast", "answer", "wrong", "template")}
        full = {column: values if any(values) else () for column, values in filled.items()}
        task = cls(
            name=path.stem,
            prompts=tuple(row.prompt for row in rows),
            answers=full["answer"],
            wrong=full["wrong"],
            contrasts=full["contrast"],
            positions={name: tuple(r.positions[name] for r in rows) for name in rows[0].positions},
            contrast_positions={
                name: tuple(r.contrast_positions[name] for r in rows) for name in rows[0].contrast_positions
            },
            metric=_usual_metric(bool(full["answer"]), bool(full["wrong"])),
            template=full["template"],
            source=path.name,
        )
        return remember_origin(task, Origin(path.stem, {}, file=str(path)))

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what a model is asked: texts, answers, positions, metric; not name, seed and source."""
        content = {name: getattr(self, name) for name in self.__dataclass_fields__}
        asked = {name: value for name, value in content.items() if name not in ("name", "seed", "source")}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def subset(self, indices: Iterable[int]) -> Task:
        """The task with only these prompts, in this order.

        Raises:
            TaskError: an index that the task does not have, or none at all.
        """
        chosen = [int(index) for index in indices]
        outside = [index for index in chosen if not 0 <= index < len(self)]
        if outside or not chosen:
            raise TaskError(
                f"task {self.name!r} has no prompt {outside[0]};" if outside else "no prompt was chosen;",
                f"it has {len(self)} prompts, 0 to {len(self) - 1}.",
            )

        def take(column: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(column[index] for index in chosen) if column else ()

        changes: dict[str, Any] = {name: take(getattr(self, name)) for name in _COLUMNS}
        for name in ("positions", "contrast_positions"):
            changes[name] = {key: take(spans) for key, spans in getattr(self, name).items()}
        return replace(self, **changes)

    def encode(self, tokenizer: Tokenizer) -> EncodedTask:
        """The task in the ids of a tokenizer. What does not fit it is dropped and counted, with the reason.

        A prompt is dropped when its contrast has another number of tokens or a named position elsewhere, when
        an answer has no token, or when answers and wrong answers cannot be told apart by their first tokens.

        Raises:
            TaskError: no prompt is left.
        """
        return encode(self, tokenizer)


_COLUMNS = ("prompts", "answers", "wrong", "contrasts", "template")


def _usual_metric(answers: bool, wrong: bool) -> str:
    if not answers:
        return "kl"
    return "logit_difference" if wrong else "log_probability"


def _texts(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _answer_lists(
    given: str | Iterable[str | Sequence[str]] | None, n: int, single: bool
) -> tuple[tuple[str, ...], ...]:
    if given is None:
        return ()
    if isinstance(given, str):
        return ((given,),) * n
    listed = list(given)
    if single and all(isinstance(item, str) for item in listed):
        return (tuple(str(item) for item in listed),)
    return tuple(_texts(item) for item in listed)


def _spans(places: str | Sequence[str | Span], texts: Sequence[str]) -> tuple[Span, ...]:
    listed = [places] * len(texts) if isinstance(places, str) else list(places)
    spans = [span_of(t, p) if isinstance(p, str) else p for p, t in zip(listed, texts)]
    return (*spans, *((0, 0) for _ in listed[len(texts) :]))  # the surplus is reported with the lengths


def _settle(task: Task) -> None:
    """Lists become tuples, and columns that are empty throughout none, so that equal tasks compare equal."""
    settled: dict[str, Any] = {c: tuple(getattr(task, c)) for c in ("prompts", "contrasts", "template")}
    settled |= {c: tuple(_texts(each) for each in getattr(task, c)) for c in ("answers", "wrong")}
    for name in ("answers", "wrong", "contrasts", "template"):
        settled[name] = settled[name] if any(settled[name]) else ()
    for name in ("positions", "contrast_positions"):
        spans = getattr(task, name)
        settled[name] = {key: tuple((int(a), int(b)) for a, b in spans[key]) for key in spans}
    for name, value in settled.items():
        object.__setattr__(task, name, value)


def _require_texts(task: Task) -> None:
    if not task.prompts:
        raise TaskError(f"task {task.name!r} has no prompts;", "it needs one at least.", "Write prompts=['…'].")
    for column in ("prompts", "contrasts"):
        for index, text in enumerate(getattr(task, column)):
            if not isinstance(text, str) or not text:
                raise TaskError(
                    f"{column}[{index}] of task {task.name!r} is {text!r};",
                    f"each of the {column} is a text that is not empty.",
                )
    for column in ("answers", "wrong"):
        for index, texts in enumerate(getattr(task, column)):
            if not texts or not all(isinstance(text, str) and text for text in texts):
                raise TaskError(
                    f"{column}[{index}] of task {task.name!r} is {list(texts)!r};",
                    f"where {column} are given, every prompt has one or more, and none is empty.",
                    "Write them as the text goes on, for example ' Mary'.",
                )


def _require_length(task: Task, column: str, found: int) -> None:
    if found not in (0, len(task)):
        raise TaskError(
            f"task {task.name!r} has {len(task)} prompts and {found} {column};",
            "there is one for each prompt, or none.",
            f"Give {len(task)} {column}, or leave them out.",
        )


def _require_spans(task: Task, spans: Spans, texts: Sequence[str], column: str) -> None:
    for name, places in spans.items():
        if not _NAME.fullmatch(name):
            raise TaskError(
                f"a position is called {name!r};",
                "its name is letters, digits and underscores, so that a site can say `resid_pre[4]@name`.",
                f"Call it {re.sub(r'[^A-Za-z0-9_]+', '_', name).strip('_') or 'subject'!r}.",
            )
        if len(places) != len(texts):
            noun = "prompts" if column == "positions" else "contrasts"
            raise TaskError(
                f"task {task.name!r} has {len(texts)} {noun} and {len(places)} spans {name!r} in {column};",
                "there is one for each.",
            )
        for index, (start, end) in enumerate(places):
            if not 0 <= start < end <= len(texts[index]):
                raise TaskError(
                    f"{column}[{name!r}][{index}] is ({start}, {end});",
                    f"it is (start, end) characters with 0 <= start < end <= {len(texts[index])}.",
                )
