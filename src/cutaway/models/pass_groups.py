"""Which runs share a pass? Runs that need different lengths of one text, put into groups so that the fewest tokens run.

A pass over several runs is as long as the longest of them. Many short passes compute no token too much, but each has a
cost before it has done anything: that of so many tokens (`PASS_TOKENS`). The least sum is found exactly, over all ways to
cut the runs, ordered by length, into groups.

Limits: the cost is counted in tokens; what attention adds with the square of the length is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch

# A pass takes as long as that of so many tokens before it has done anything.
PASS_TOKENS = {"cpu": 32, "cuda": 4096}


def pass_tokens(device: torch.device) -> int:
    """What a pass costs on a device before it has done anything, in tokens."""
    return PASS_TOKENS["cuda" if device.type == "cuda" else "cpu"]


@lru_cache(maxsize=64)
def groups_of_targets(places: tuple[int, ...], length: int, rows: int, extra: int) -> tuple[tuple[int, ...], ...]:
    """Put targets that are differentiated one by one into groups that share a forward pass.

    The first group goes back through the whole text, which is run anyway. Each other one costs a forward pass up to its
    last target, and as long a backward pass for each of its targets.

    Args:
        places: the position of each target.
        length: tokens of the text.
        rows: that share each pass.
        extra: what a further forward pass costs before it has done anything, in tokens.

    Returns:
        Indices of targets group by group, the last target of a group first; the first group may be empty.
    """
    order = sorted(range(len(places)), key=lambda target: -places[target])
    least = _least([rows * (places[target] + 1) for target in order], extra, beside=1, most=len(order))
    end = min(range(len(order) + 1), key=lambda count: (rows * length * count + least[count][0], -count))
    return (tuple(order[:end]), *_cut(order, least, end))


@lru_cache(maxsize=64)
def groups_of_rows(lengths: tuple[int, ...], extra: int, most: int) -> tuple[tuple[int, ...], ...]:
    """Put rows that need so many tokens each into groups that share a pass as long as the longest.

    Args:
        lengths: tokens of each row; rows without any are left out.
        extra: what a pass costs before it has done anything, in tokens.
        most: rows of a pass.

    Returns:
        Indices of rows group by group, the longest row of a group first.
    """
    order = sorted((row for row, length in enumerate(lengths) if length), key=lambda row: -lengths[row])
    least = _least([lengths[row] for row in order], extra, beside=0, most=most)
    return tuple(_cut(order, least, 0))


def tokens_of_rows(lengths: tuple[int, ...], groups: Sequence[Sequence[int]], extra: int) -> int:
    """What the passes of groups of rows cost, in tokens."""
    return sum(extra + len(group) * lengths[group[0]] for group in groups)


def _least(reach: Sequence[int], extra: int, *, beside: int, most: int) -> list[tuple[int, int]]:
    """For each start: what the runs from there on cost at least, and where their first group ends.

    Args:
        reach: tokens that each run needs, falling.
        extra: what a pass costs before it has done anything.
        beside: how many times a group computes its longest run besides once for each of its runs.
        most: runs of a group.
    """
    count = len(reach)
    least: list[tuple[int, int]] = [(0, count)] * (count + 1)
    for start in reversed(range(count)):
        ends = range(start + 1, min(start + most, count) + 1)
        least[start] = min((extra + reach[start] * (beside + end - start) + least[end][0], end) for end in ends)
    return least


def _cut(order: Sequence[int], least: Sequence[tuple[int, int]], start: int) -> list[tuple[int, ...]]:
    groups = []
    while start < len(order):
        groups.append(tuple(order[start : least[start][1]]))
        start = least[start][1]
    return groups
