"""How are prompts drawn? From lists, with a seed, each prompt once.

The same seed gives the same prompts. A task that is asked for more prompts than it has says how many it has,
rather than repeating itself: a repeated prompt counts twice in every mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

import numpy as np
from pydantic import Field

from cutaway.core.errors import TaskError
from cutaway.data.templates import Example

Count = Annotated[int, Field(ge=1, description="how many prompts")]
Seed = Annotated[int, Field(ge=0, description="seed with which the prompts are drawn")]

T = TypeVar("T")
_DRAWS_PER_PROMPT = 40  # in vain, before the lists count as used up


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of `options`."""
    return options[int(rng.integers(len(options)))]


def pick_several(rng: np.random.Generator, options: Sequence[T], k: int) -> list[T]:
    """`k` different places of `options`, in random order."""
    return [options[int(index)] for index in rng.permutation(len(options))[:k]]


def draw(name: str, n: int, rng: np.random.Generator, make: Callable[[np.random.Generator], Example]) -> list[Example]:
    """`n` examples with different prompts.

    Raises:
        TaskError: the lists do not give that many.
    """
    found: dict[str, Example] = {}
    in_vain = 0
    while len(found) < n:
        example = make(rng)
        in_vain = in_vain + 1 if example.prompt.text in found else 0
        if in_vain > _DRAWS_PER_PROMPT + len(found):
            raise _too_many(name, n, len(found))
        found.setdefault(example.prompt.text, example)
    return list(found.values())


def choose(name: str, n: int, rng: np.random.Generator, options: Sequence[T]) -> list[T]:
    """`n` different ones of all that there are, in random order.

    Raises:
        TaskError: there are not so many.
    """
    if n > len(options):
        raise _too_many(name, n, len(options))
    return pick_several(rng, options, n)


def _too_many(name: str, n: int, available: int) -> TaskError:
    return TaskError(
        f"task {name!r} has {available} different prompts with these parameters, and {n} were asked for;",
        "every prompt comes once.",
        f"Write n={available}, or less.",
    )
