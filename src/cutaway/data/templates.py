"""Which characters of the sentence are the word? Templates with blanks that remember where each word landed.

>>> filled = fill("The capital of {country} is", {"country": "France"})
>>> filled.text, filled.spans["country"]
('The capital of France is', (15, 21))

A blank that comes twice is remembered where it comes first.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cutaway.core.task import Task

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Filled:
    """A text, and the characters of its words by name."""

    text: str
    spans: Mapping[str, tuple[int, int]]

    def named_after(self, name: str, word: str) -> Filled:
        """The same with one more name: the word that follows `word`."""
        found = _WORD.search(self.text, self.spans[word][1])
        if found is None:
            raise ValueError(f"no word follows {word!r} in {self.text!r}")
        return Filled(self.text, {**self.spans, name: found.span()})


@dataclass(frozen=True)
class Example:
    """One prompt of a task with all that belongs to it."""

    prompt: Filled
    contrast: Filled
    answers: tuple[str, ...]
    wrong: tuple[str, ...]
    template: str


def fill(template: str, words: Mapping[str, str]) -> Filled:
    """The template with its `{blanks}` filled in."""
    text, spans = "", dict[str, tuple[int, int]]()
    for literal, blank, _, _ in string.Formatter().parse(template):
        text += literal
        if blank is not None:
            spans.setdefault(blank, (len(text), len(text) + len(words[blank])))
            text += words[blank]
    return Filled(text, spans)


def spaced(words: Sequence[str]) -> tuple[str, ...]:
    """Answers as new words of a text: each with its leading space."""
    return tuple(f" {word}" for word in words)


def task_of(
    name: str,
    examples: Sequence[Example],
    *,
    positions: Sequence[str],
    seed: int,
    source: str,
    metric: str = "logit_difference",
) -> Task:
    """A task from examples, with those of their words that are named in `positions`."""
    return Task(
        name=name,
        prompts=tuple(example.prompt.text for example in examples),
        answers=tuple(example.answers for example in examples),
        wrong=tuple(example.wrong for example in examples),
        contrasts=tuple(example.contrast.text for example in examples),
        positions={key: tuple(example.prompt.spans[key] for example in examples) for key in positions},
        contrast_positions={key: tuple(example.contrast.spans[key] for example in examples) for key in positions},
        metric=metric,
        template=tuple(example.template for example in examples),
        seed=seed,
        source=source,
    )
