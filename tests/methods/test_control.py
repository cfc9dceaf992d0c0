from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cutaway.methods.control import compared, interval, sets_like


def test_the_interval_holds_95_percent() -> None:
    low, middle, high = interval(np.arange(1001.0).tolist())
    assert (low, middle, high) == (25.0, 500.0, 975.0)


def test_a_check_passes_only_above_the_interval() -> None:
    said = {"claim": "c", "how": "h", "unit": "u"}
    assert compared(2.0, [0.0, 1.0], **said).passed
    assert not compared(0.9, [0.0, 1.0], **said).passed
    assert compared(2.0, [0.0, 1.0, 0.5], **said).n == 3


@given(st.integers(1, 4), st.integers(0, 4), st.integers(0, 9))
def test_sets_have_the_sorts_of_the_chosen_and_none_of_its_members(first: int, second: int, seed: int) -> None:
    pool = [(sort, number) for sort in "ab" for number in range(9)]
    chosen = [("a", i) for i in range(first)] + [("b", i) for i in range(second)]
    sets = sets_like(chosen, pool, 6, seed, sort=lambda member: member[0])
    assert len(sets) == 6
    for one in sets:
        assert Counter(sort for sort, _ in one) == Counter(sort for sort, _ in chosen)
        assert len(set(one)) == len(one)
        assert not set(one) & set(chosen)
    assert sets == sets_like(chosen, pool, 6, seed, sort=lambda member: member[0])


def test_where_others_are_too_few_members_of_the_chosen_are_drawn_too() -> None:
    sets = sets_like([1, 2, 3], [1, 2, 3, 4], 5, 0, sort=lambda _: 0)
    assert all(len(set(one)) == 3 and set(one) <= {1, 2, 3, 4} for one in sets)
    assert sets_like([1], [], 2, 0, sort=lambda _: 0) == [[1], [1]]
