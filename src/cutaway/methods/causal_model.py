"""What would the answer be if this variable had another value? Causal models as data, and pairs that tell them apart.

A causal model is a list of named variables: inputs, and variables that are functions of others. An *interchange* runs
it on a base input with one variable set to what it is on a source input; what comes out is the counterfactual answer
that a network would have to give, if a part of it played that variable's role [@wu2023].
Limits: variables are computed in the order in which they are listed, so a variable stands after those it depends on.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cutaway.core.errors import MethodError, nearest

Inputs = Mapping[str, Any]
Draw = Callable[[np.random.Generator], Inputs]
TRIES = 400  # draws for each counterfactual that is wanted, before it is said that there are too few


@dataclass(frozen=True)
class Variable:
    """One variable of a causal model.

    Attributes:
        name: what it is called.
        parents: the variables that it is a function of; none for an input.
        function: of the parents' values, in that order; None for an input.
    """

    name: str
    parents: tuple[str, ...] = ()
    function: Callable[..., Any] | None = None


@dataclass(frozen=True)
class Counterfactual:
    """A base and a source input, and what the model says of them.

    Attributes:
        base, source: values of the input variables.
        plain: the output on the base.
        answer: the output on the base with the variable as it is on the source.
    """

    base: Inputs
    source: Inputs
    plain: Any
    answer: Any


@dataclass(frozen=True)
class CausalModel:
    """Named variables, in an order in which they can be computed; the last one is the output.

    >>> both = CausalModel((Variable("a"), Variable("b"), Variable("and", ("a", "b"), lambda a, b: a and b)))
    >>> both.values({"a": True, "b": False})["and"]
    False

    Raises:
        MethodError: a variable that is listed twice, or before one that it depends on.
    """

    variables: tuple[Variable, ...]

    def __post_init__(self) -> None:
        known: list[str] = []
        for variable in self.variables:
            missing = [name for name in variable.parents if name not in known]
            if missing or variable.name in known:
                said = f"depends on {missing[0]!r}" if missing else "is listed twice"
                raise MethodError(
                    f"the variable {variable.name!r} {said};",
                    f"before it stand: {', '.join(known) or 'none'}.",
                    "List each variable once, after those that it is a function of.",
                )
            known.append(variable.name)

    @property
    def output(self) -> str:
        """The name of the last variable."""
        return self.variables[-1].name

    def values(self, inputs: Inputs, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Every variable's value on an input, with some set by hand."""
        found: dict[str, Any] = {}
        for variable in self.variables:
            if settings and variable.name in settings:
                found[variable.name] = settings[variable.name]
            elif variable.function is None:
                found[variable.name] = inputs[variable.name]
            else:
                found[variable.name] = variable.function(*(found[name] for name in variable.parents))
        return found

    def interchange(self, base: Inputs, source: Inputs, variables: Sequence[str]) -> Any:
        """The output on `base`, with variables as they are on `source`."""
        self._require(variables)
        theirs = self.values(source)
        return self.values(base, {name: theirs[name] for name in variables})[self.output]

    def counterfactuals(self, draw: Draw, variables: Sequence[str], n: int, *, seed: int) -> list[Counterfactual]:
        """Pairs of inputs with the answer that the interchange gives, as many of each answer.

        Args:
            draw: makes an input.
            variables: which are exchanged.
            n: how many pairs.
            seed: draws them.

        Raises:
            MethodError: an unknown variable, or one whose exchange gives one answer only.
        """
        self._require(variables)
        random = np.random.default_rng(seed)
        by_answer: dict[tuple[Hashable, bool], list[Counterfactual]] = {}
        for _ in range(TRIES * max(n, 1)):
            base, source = draw(random), draw(random)
            plain = self.values(base)[self.output]
            answer = self.interchange(base, source, variables)
            group = by_answer.setdefault((answer, plain == answer), [])
            if len(group) < n:
                group.append(Counterfactual(base, source, plain, answer))
            share = -(-n // max(4, len(by_answer)))
            if len(by_answer) >= 4 and all(len(group) >= share for group in by_answer.values()):
                break
        if len({answer for answer, _ in by_answer}) < 2:
            raise MethodError(
                f"exchanging {', '.join(variables)} gives one answer only;",
                "pairs with both answers are needed.",
                "Draw inputs on which the variable matters.",
            )
        return _in_turn(list(by_answer.values()), n)

    def _require(self, variables: Sequence[str]) -> None:
        known = [variable.name for variable in self.variables]
        for name in variables:
            if name not in known:
                raise MethodError(f"there is no variable {name!r};", nearest(name, known))


def _in_turn(groups: Sequence[Sequence[Counterfactual]], n: int) -> list[Counterfactual]:
    """One of each group after another."""
    longest = max(map(len, groups))
    found = [group[i] for i in range(longest) for group in groups if i < len(group)]
    return found[:n]
