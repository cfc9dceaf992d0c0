"""Programs to compile: each small enough to be checked on every short input, and each with its own shape of circuit.

reverse     says a list again from its end: one head finds the end, one counts back   (depth 2)
fraction    how much of the text so far is x: an average over a map                   (depth 2)
count       how often the last word has occurred                                      (depth 3)
induction   what followed this word before: a previous-token head and a match         (depth 2)
gates       (first and second) or third: three heads, two gates                       (depth 3)
balanced    are these brackets balanced?                                              (depth 6)

Every program has its plain function beside it (`answer`), which knows nothing of steps or networks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cutaway.core.errors import ModelError, nearest
from cutaway.core.task import Task
from cutaway.models.toy_compiler import Compiled, compiled
from cutaway.models.toy_program import Indices, Stepped, Tokens, Variable, gathered, number, paired, stepped

POSITIONS = 12
SCALE = 6.0  # logits of what is said: sure, and not so sure that nothing else counts
LETTERS = tuple("abcdef")
TRIES = 50  # pairs that are drawn for each that is wanted


@dataclass(frozen=True, eq=False)
class Program:
    """A program with its plain function and its inputs.

    Attributes:
        name: of the program.
        asks: what it answers.
        output: what it gives.
        words: its vocabulary.
        logits: value of the output -> the word whose logit it raises, and by how much.
        answer: text -> logits of words, without steps or networks.
        inputs: every short text on which it is defined.
        begin: a word before every text.
        compared: the answer and the wrong answer of every prompt; None: what is right for the prompt and the contrast.
    """

    name: str
    asks: str
    output: Variable
    words: tuple[str, ...]
    logits: dict[object, tuple[str, float]]
    answer: Callable[[Sequence[str]], dict[str, float]]
    inputs: Callable[[], Iterator[tuple[str, ...]]]
    begin: str = ""
    compared: tuple[str, str] | None = None

    def compiled(self, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Compiled:
        """The program as a network."""
        return compiled(
            self.output,
            words=self.words,
            positions=POSITIONS,
            logits=self.logits,
            begin=self.begin,
            name=f"compiled-{self.name}",
            seed=seed,
            dtype=dtype,
        )

    def task(self, n: int = 24, seed: int = 0) -> Task:
        """Random inputs, each with another one of the same length that has another answer as contrast."""
        random = np.random.default_rng(seed)
        by_length: dict[int, list[tuple[str, ...]]] = {}
        for words in self.inputs():
            by_length.setdefault(len(words), []).append(words)
        pairs: dict[tuple[tuple[str, ...], tuple[str, ...]], None] = {}
        for _ in range(TRIES * n):
            texts = by_length[sorted(by_length)[int(random.integers(len(by_length)))]]
            a, b = (texts[int(i)] for i in random.integers(len(texts), size=2))
            if len(pairs) < n and self.answer(a) != self.answer(b):
                pairs[a, b] = None
        named = [self.compared or (self._said(a), self._said(b)) for a, b in pairs]
        return Task(
            name=self.name,
            prompts=tuple(" ".join(a) for a, _ in pairs),
            contrasts=tuple(" ".join(b) for _, b in pairs),
            answers=tuple((right,) for right, _ in named),
            wrong=tuple((wrong,) for _, wrong in named),
            seed=seed,
            source="a compiled program",
        )

    def _said(self, words: Sequence[str]) -> str:
        said = self.answer(words)
        return max(said, key=said.__getitem__)


def _sure(word: str) -> dict[str, float]:
    return {word: SCALE}


def _words_of(labels: Sequence[object]) -> dict[object, tuple[str, float]]:
    return {label: (str(label), SCALE) for label in labels}


def _texts(letters: Sequence[str], lengths: Sequence[int]) -> Iterator[tuple[str, ...]]:
    for length in lengths:
        yield from itertools.product(letters, repeat=length)


def reverse() -> Program:
    """`a b c | c` -> `b`: says a list again from its end."""
    words = (*LETTERS, "|")
    tokens, indices = Tokens(words), Indices(tuple(range(POSITIONS)))
    bar = gathered(indices, tokens, None, lambda key: key == "|")
    back = paired(
        indices,
        bar,
        lambda here, at: 2 * at - 1 - here if here >= at and 2 * at - 1 - here >= 0 else None,  # type: ignore[operator]
        indices.labels,
    )
    output = gathered(tokens, indices, back, lambda key, query: key == query)

    def answer(text: Sequence[str]) -> dict[str, float]:
        bar_at = list(text).index("|")
        return _sure(text[bar_at - 1 - (len(text) - 1 - bar_at)])

    def inputs() -> Iterator[tuple[str, ...]]:
        for length in (1, 2, 3, 4):
            for items in itertools.permutations(LETTERS, length):
                for said in range(length):
                    yield (*items, "|", *items[::-1][:said])

    return Program("reverse", "What comes next, from the end?", output, words, _words_of(LETTERS), answer, inputs)


def fraction() -> Program:
    """The share of x among the words so far, as a logit of `many`."""
    words = ("x", "y", "z")
    tokens = Tokens(words)
    output = gathered(number(tokens, lambda word: float(word == "x")))

    return Program(
        "fraction",
        "How much of the text is x?",
        output,
        (*words, "many", "few"),
        {"number": ("many", SCALE)},
        lambda text: {"many": SCALE * list(text).count("x") / len(text)},
        lambda: _texts(words, (1, 2, 3, 4, 5)),
        compared=("many", "few"),
    )


def count() -> Program:
    """How often the last word has occurred, itself included: `a b a` -> `2`."""
    letters, numbers = tuple("abc"), ("1", "2", "3", "4")
    words = ("<s>", *letters, *numbers)
    tokens = Tokens(words[:4])
    start = number(tokens, lambda word: float(word == "<s>"))
    share = gathered(start, tokens, tokens, lambda key, query: key in (query, "<s>"))
    between = sorted((1 / (n + 1) + 1 / (n + 2)) / 2 for n in (1, 2, 3))
    output = stepped(share, between, numbers[::-1], numbers)

    def answer(text: Sequence[str]) -> dict[str, float]:
        return _sure(str(list(text).count(text[-1])))

    def inputs() -> Iterator[tuple[str, ...]]:
        return (text for text in _texts(letters, (1, 2, 3, 4, 5)) if text.count(text[-1]) <= 4)

    return Program(
        "count", "How often was the last word said?", output, words, _words_of(numbers), answer, inputs, begin="<s>"
    )


def induction() -> Program:
    """What followed the last word before: `a b c a` -> `b`."""
    words = ("<s>", *LETTERS)
    tokens, indices = Tokens(words), Indices(tuple(range(POSITIONS)))
    previous = gathered(tokens, indices, indices, lambda key, query: key == query - 1)
    output = gathered(tokens, previous, tokens, lambda key, query: key == query)

    def answer(text: Sequence[str]) -> dict[str, float]:
        return _sure(text[list(text).index(text[-1]) + 1])

    def inputs() -> Iterator[tuple[str, ...]]:
        for length in (1, 2, 3, 4):
            for items in itertools.permutations(LETTERS, length):
                for again in items:
                    yield (*items, again)

    return Program(
        "induction", "What followed this word?", output, words, _words_of(LETTERS), answer, inputs, begin="<s>"
    )


def gates() -> Program:
    """(first and second) or third: `1 1 0 =` -> `1`."""
    words = ("0", "1", "=")
    tokens, indices = Tokens(words), Indices(tuple(range(POSITIONS)))
    first, second, third = (gathered(tokens, indices, None, lambda key, i=i: key == i) for i in range(3))
    both = paired(first, second, lambda a, b: str(int(a == b == "1")), ("0", "1"))
    output = paired(both, third, lambda a, b: str(int("1" in (a, b))), ("0", "1"))

    def answer(text: Sequence[str]) -> dict[str, float]:
        a, b, c = (word == "1" for word in text[:3])
        return _sure(str(int((a and b) or c)))

    def inputs() -> Iterator[tuple[str, ...]]:
        for extra in (0, 1):
            for bits in itertools.product("01", repeat=3):
                yield (*bits, *("=",) * (extra + 1))

    return Program("gates", "(first and second) or third?", output, words, _words_of("01"), answer, inputs)


def balanced() -> Program:
    """Are the brackets so far balanced? `( ( ) )` -> `yes`, `) (` -> `no`."""
    words = ("(", ")", "yes", "no")
    tokens = Tokens(words[:2])
    depth = gathered(number(tokens, lambda word: 1.0 if word == "(" else -1.0))
    below = Stepped(depth, (-0.06,), np.array([[1.0], [0.0]]), ("number",))
    closed = stepped(depth, (-0.06, 0.06), ("open", "closed", "open"), ("open", "closed"))
    never = stepped(gathered(below), (0.06,), ("never", "once"), ("never", "once"))
    output = paired(closed, never, lambda a, b: "yes" if (a, b) == ("closed", "never") else "no", ("yes", "no"))

    def answer(text: Sequence[str]) -> dict[str, float]:
        heights = list(itertools.accumulate(1 if word == "(" else -1 for word in text))
        return _sure("yes" if heights[-1] == 0 and min(heights) >= 0 else "no")

    return Program(
        "balanced",
        "Are the brackets balanced?",
        output,
        words,
        _words_of(("yes", "no")),
        answer,
        lambda: _texts(words[:2], (1, 2, 3, 4, 5, 6)),
    )


PROGRAMS: dict[str, Callable[[], Program]] = {
    made.__name__: made for made in (reverse, fraction, count, induction, gates, balanced)
}


def program(name: str) -> Program:
    """A program by its name.

    Raises:
        ModelError: there is no such program.
    """
    if name not in PROGRAMS:
        raise ModelError(f"There is no program {name!r}:", nearest(name, PROGRAMS))
    return PROGRAMS[name]()
