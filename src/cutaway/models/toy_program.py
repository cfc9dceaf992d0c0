"""What does a network compute that was written down as a program? Variables of positions, and steps between them.

The language is the core of RASP [@weiss2021; @lindner2023]: a variable holds a vector at each position (one-hot for a
category, one number for a count), and a step makes a new variable from others.

    tokens, indices                        what is read; they come from the embeddings
    Mapped(x, table)                       a table of categories: each value of x to a value (an MLP)
    Paired(x, y, table)                    a table of pairs of categories (an MLP)
    Stepped(x, at, table)                  which of the intervals between thresholds a number lies in (an MLP)
    Gathered(values, keys, queries, match) the mean of `values` over the earlier positions whose key matches (a head)

`run` carries the steps out, with the softmax and the ramps that a network has, so that programs are defined on every
input. Where a match is one position and values are one-hot, that is what RASP means; a match of none is a match of all.
An operand of one step can be replaced (`replaced`): that is an intervention on an edge, in the program itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cutaway.core.errors import ModelError

Floats = NDArray[np.float64]
SHARPNESS = 20.0  # the score of a match; those of the others are 0: e^-20 is 2e-9
RAMP = 0.02  # the width in which a threshold goes from 0 to 1


@dataclass(frozen=True, eq=False)
class Tokens:
    """Which word stands at a position, one-hot."""

    labels: tuple[str, ...]

    @property
    def operands(self) -> dict[str, Variable]:
        """It is read from the input."""
        return {}


@dataclass(frozen=True, eq=False)
class Indices:
    """Which position it is, one-hot."""

    labels: tuple[int, ...]

    @property
    def operands(self) -> dict[str, Variable]:
        """It is read from the input."""
        return {}


@dataclass(frozen=True, eq=False)
class Mapped:
    """`table` [value of x, value]: what each value of a category becomes."""

    x: Variable
    table: Floats
    labels: tuple[object, ...]

    @property
    def operands(self) -> dict[str, Variable]:
        """What the step reads, by slot."""
        return {"x": self.x}


@dataclass(frozen=True, eq=False)
class Paired:
    """`table` [value of x, value of y, value]: what each pair of values becomes."""

    x: Variable
    y: Variable
    table: Floats
    labels: tuple[object, ...]

    @property
    def operands(self) -> dict[str, Variable]:
        """What the step reads, by slot."""
        return {"x": self.x, "y": self.y}


@dataclass(frozen=True, eq=False)
class Stepped:
    """`table` [interval, value]: what a number becomes in each of the intervals between the thresholds `at`."""

    x: Variable
    at: tuple[float, ...]
    table: Floats
    labels: tuple[object, ...]

    @property
    def operands(self) -> dict[str, Variable]:
        """What the step reads, by slot."""
        return {"x": self.x}


@dataclass(frozen=True, eq=False)
class Gathered:
    """The mean of `values` over the positions up to here whose key matches.

    Attributes:
        values: what is gathered.
        keys: what is matched; None matches everything.
        queries: what it is matched with; None where the match is the same at every position.
        match: [value of queries, value of keys], or [value of keys]: 1 where they match.
    """

    values: Variable
    keys: Variable | None
    queries: Variable | None
    match: Floats | None

    @property
    def labels(self) -> tuple[object, ...]:
        """Those of what is gathered."""
        return self.values.labels

    @property
    def operands(self) -> dict[str, Variable]:
        """What the step reads, by slot."""
        given = {"q": self.queries, "k": self.keys, "v": self.values}
        return {slot: variable for slot, variable in given.items() if variable is not None}


Step: TypeAlias = Mapped | Paired | Stepped | Gathered
Variable: TypeAlias = Tokens | Indices | Step


# --- writing a program -----------------------------------------------------------------------------------------------


def mapped(x: Variable, to: Callable[[object], object], labels: Sequence[object]) -> Mapped:
    """A step that gives `to(value)`, one of `labels`, for each value of x; None gives nothing (the zero vector)."""
    return Mapped(x, np.stack([_one_hot(to(value), labels) for value in x.labels]), tuple(labels))


def number(x: Variable, to: Callable[[object], float]) -> Mapped:
    """A step that gives a number for each value of x."""
    return Mapped(x, np.array([[float(to(value))] for value in x.labels]), ("number",))


def paired(x: Variable, y: Variable, to: Callable[[object, object], object], labels: Sequence[object]) -> Paired:
    """A step that gives `to(value of x, value of y)`, one of `labels`, or None for nothing."""
    table = np.stack([np.stack([_one_hot(to(a, b), labels) for b in y.labels]) for a in x.labels])
    return Paired(x, y, table, tuple(labels))


def stepped(x: Variable, at: Sequence[float], to: Sequence[object], labels: Sequence[object]) -> Stepped:
    """A step that says in which interval a number lies: `to` has one of `labels` for each, lowest first."""
    if len(to) != len(at) + 1 or list(at) != sorted(at):
        raise ModelError(
            f"{len(at)} thresholds {list(at)} were given with {len(to)} values.",
            "Rising thresholds have one interval more than there are thresholds.",
        )
    return Stepped(x, tuple(map(float, at)), np.stack([_one_hot(value, labels) for value in to]), tuple(labels))


def gathered(
    values: Variable,
    keys: Variable | None = None,
    queries: Variable | None = None,
    match: Callable[..., bool] | None = None,
) -> Gathered:
    """A step that gathers `values` from where `match(key, query)` (`match(key)` without queries) holds."""
    if keys is None or match is None:
        return Gathered(values, None, None, None)
    if queries is None:
        return Gathered(values, keys, None, np.array([float(match(key)) for key in keys.labels]))
    table = [[float(match(key, query)) for key in keys.labels] for query in queries.labels]
    return Gathered(values, keys, queries, np.array(table))


def _one_hot(value: object, labels: Sequence[object]) -> Floats:
    if value is None:
        return np.zeros(len(labels))
    if value not in labels:
        raise ModelError(f"A step gives {value!r},", f"and its values are {', '.join(map(repr, labels))}.")
    return np.eye(len(labels))[list(labels).index(value)]


def steps_of(output: Variable) -> list[Step]:
    """Every step that a variable follows from, operands first."""
    found: dict[Step, None] = {}

    def visit(variable: Variable) -> None:
        if isinstance(variable, Tokens | Indices) or variable in found:
            return
        for operand in variable.operands.values():
            visit(operand)
        found[variable] = None

    visit(output)
    return list(found)


# --- carrying it out -------------------------------------------------------------------------------------------------

Slot: TypeAlias = tuple[Variable | None, str]  # a step (None: the output) and which of its operands


@dataclass
class Trace:
    """The values of every variable of a program [position, value], and what each step read."""

    values: dict[Variable, Floats] = field(default_factory=dict)
    output: Floats = field(default_factory=lambda: np.zeros((0, 0)))


def run(output: Variable, words: Sequence[str], replaced: Mapping[Slot, Floats] | None = None) -> Trace:
    """Carry a program out on a text.

    Args:
        output: what the program gives.
        words: the text.
        replaced: operand of a step -> what the step reads instead [position, value]; the operand `(None, "x")` is
            what is read as the output.
    """
    trace, other = Trace(), replaced or {}

    def read(step: Variable | None, slot: str, operand: Variable) -> Floats:
        return other[step, slot] if (step, slot) in other else value(operand)

    def value(variable: Variable) -> Floats:
        if variable not in trace.values:
            operands = {slot: read(variable, slot, operand) for slot, operand in variable.operands.items()}
            trace.values[variable] = _value(variable, operands, words)
        return trace.values[variable]

    trace.output = read(None, "x", output)
    return trace


def _value(variable: Variable, read: Mapping[str, Floats], words: Sequence[str]) -> Floats:
    match variable:
        case Tokens():
            known = dict(zip(variable.labels, np.eye(len(variable.labels)), strict=True))
            return np.stack([known.get(word, np.zeros(len(known))) for word in words])  # others are nothing
        case Indices():
            return np.eye(len(variable.labels))[: len(words)]
        case Mapped():
            return np.maximum(read["x"], 0) @ variable.table
        case Paired():
            both = np.maximum(read["x"][:, :, None] + read["y"][:, None, :] - 1, 0)
            return np.einsum("pab,abc->pc", both, variable.table)
        case Stepped():
            return _ramps(read["x"][:, 0], variable.at) @ differences(variable.table) + variable.table[0]
        case Gathered():
            return _mean_of_matches(variable, read, len(words))


def differences(table: Floats) -> Floats:
    """What each threshold adds, when it is passed [threshold, value]."""
    return np.diff(table, axis=0)


def _ramps(x: Floats, at: Sequence[float]) -> Floats:
    rise = (x[:, None] - np.array(at)) / RAMP + 0.5
    return np.maximum(rise, 0) - np.maximum(rise - 1, 0)


def _mean_of_matches(step: Gathered, read: Mapping[str, Floats], length: int) -> Floats:
    scores = np.zeros((length, length))
    if step.match is not None:
        asked = np.tile(step.match, (length, 1)) if step.queries is None else read["q"] @ step.match
        scores = SHARPNESS * asked @ read["k"].T
    scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True) @ read["v"]
