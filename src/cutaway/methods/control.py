"""Is it more than chance? What random sets of the same size do, and the check that says so.

A part matters when changing it does more than changing as many others. The sets that a method compares with are
drawn with a seed that is passed; the interval holds the middle 95 % of what they did.
Limits: with few sets the ends of the interval are rough; with few parts to draw from, sets overlap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np

from cutaway.core.result import Check

T = TypeVar("T", bound=Hashable)
FEWEST = 5  # random sets: fewer have no interval worth the name


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Low end, middle and high end of the 95 % of `values` that lie in the middle."""
    low, middle, high = np.quantile(np.asarray(values, dtype=float), [0.025, 0.5, 0.975])
    return float(low), float(middle), float(high)


def enough(controls: int) -> int:
    """The number of random sets, unless it is too few for an interval.

    Raises:
        ValueError: 1 to 4.
    """
    if 0 < controls < FEWEST:
        raise ValueError(f"an interval needs {FEWEST} random sets or more; 0 leaves the check out")
    return controls


def unchecked(controls: int) -> tuple[str, ...]:
    """What a reader must know where the check was left out."""
    return () if controls else ("Not checked: controls is 0, so nothing here is more than a picture.",)


def compared(measured: float, controls: Sequence[float], *, claim: str, how: str, unit: str) -> Check:
    """A check that passes when the measured value lies above the interval of the controls.

    Args:
        measured: what the intervention gave.
        controls: what each random set gave.
        claim: as in `Check`.
        how: as in `Check`.
        unit: as in `Check`.
    """
    low, middle, high = interval(controls)
    return Check(claim, how, measured, middle, (low, high), len(controls), measured > high, unit)


def sets_like(
    chosen: Sequence[T], pool: Sequence[T], count: int, seed: int, sort: Callable[[T], Hashable]
) -> list[list[T]]:
    """Random sets with as many members of each sort as `chosen` has.

    Args:
        chosen: the set to be imitated.
        pool: what is drawn from; members of `chosen` in it are drawn only where the others are too few.
        count: how many sets.
        seed: what they are drawn with.
        sort: the sort of a member: each is replaced by one of its own sort.
    """
    random = np.random.default_rng(seed)
    wanted = Counter(sort(member) for member in chosen)
    others: dict[Hashable, list[T]] = {name: [] for name in wanted}
    inside = set(chosen)
    for member in dict.fromkeys(pool):
        if member not in inside and sort(member) in others:
            others[sort(member)].append(member)
    for name, number in wanted.items():
        if len(others[name]) < number:
            others[name] += [member for member in chosen if sort(member) == name]
    return [_drawn(others, wanted, random) for _ in range(count)]


def _drawn(pools: dict[Hashable, list[T]], wanted: Counter[Hashable], random: np.random.Generator) -> list[T]:
    return [
        pools[name][place]
        for name, number in wanted.items()
        for place in sorted(random.choice(len(pools[name]), size=number, replace=False))
    ]
