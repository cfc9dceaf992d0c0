"""Runs are grouped so that no other way to cut them, ordered by length, computes fewer tokens."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from hypothesis import given
from hypothesis import strategies as st

from cutaway.models.pass_groups import groups_of_rows, groups_of_targets, pass_tokens, tokens_of_rows


def cuts(order: list[int]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Every way to cut an order into groups; the first may be empty."""
    for chosen in range(2 ** len(order)):
        ends = [i for i in range(len(order)) if chosen >> i & 1]
        yield tuple(tuple(order[a:b]) for a, b in itertools.pairwise([0, *ends, len(order)]))


def cost(groups: tuple[tuple[int, ...], ...], places: list[int], length: int, rows: int, extra: int) -> int:
    """Tokens of all passes, one group after the other."""
    first, *others = groups
    further = [extra + rows * (max(places[i] for i in group) + 1) * (1 + len(group)) for group in others]
    return rows * length * len(first) + sum(further)


@given(places=st.lists(st.integers(0, 60), min_size=1, max_size=7), rows=st.integers(1, 3), extra=st.integers(0, 100))
def test_targets_are_grouped_so_that_the_fewest_tokens_are_computed(places: list[int], rows: int, extra: int) -> None:
    length = max(places) + 1
    groups = groups_of_targets(tuple(places), length, rows, extra)
    assert sorted(i for group in groups for i in group) == list(range(len(places)))
    assert all(group[0] == max(group, key=lambda i: places[i]) or not group for group in groups[1:])
    for other in cuts(sorted(range(len(places)), key=lambda i: -places[i])):
        assert cost(groups, places, length, rows, extra) <= cost(other, places, length, rows, extra)


@given(lengths=st.lists(st.integers(0, 60), min_size=1, max_size=7), most=st.integers(1, 7), extra=st.integers(0, 100))
def test_rows_are_grouped_so_that_the_fewest_tokens_are_computed(lengths: list[int], most: int, extra: int) -> None:
    groups = groups_of_rows(tuple(lengths), extra, most)
    order = sorted((i for i, length in enumerate(lengths) if length), key=lambda i: -lengths[i])
    assert [i for group in groups for i in group] == order
    assert all(0 < len(group) <= most for group in groups)
    found = tokens_of_rows(tuple(lengths), groups, extra)
    for first, *others in cuts(order):
        other = [group for group in (first, *others) if group]
        if all(len(group) <= most for group in other):
            assert found <= sum(extra + len(group) * max(lengths[i] for i in group) for group in other)


def test_a_pass_costs_more_where_starting_one_does() -> None:
    assert pass_tokens(torch.device("cpu")) < pass_tokens(torch.device("cuda"))
    assert groups_of_rows((9, 8, 2, 1), 0, 4) == ((0,), (1,), (2,), (3,))
    assert groups_of_rows((9, 8, 2, 1), 3, 4) == ((0, 1), (2, 3))
    assert groups_of_rows((9, 8, 2, 1), 100, 4) == ((0, 1, 2, 3),)
