"""Choosing on one half and counting on the other, and which word a head leads to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.methods.bootstrap import mean_interval, share_interval
from cutaway.methods.head_choice import chosen_on_other_half, halves, most_attended, share_on_other_half


def test_a_lucky_candidate_is_found_out() -> None:
    random = np.random.default_rng(0)
    right = random.integers(
        0, 2, size=(40, 1, 500)
    )  # coins: the best of 500 is right far more often than every second time
    total = np.ones((40, 1))
    assert right.sum(axis=0).max() / 40 > 0.7
    found = chosen_on_other_half(right, total, seed=1)
    assert abs(found.share[0] - 0.5) < 0.25
    assert found.share[0] < right.sum(axis=0).max() / 40


@given(st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_shares_are_the_slow_ones(seed: int) -> None:
    random = np.random.default_rng(seed)
    total = random.integers(0, 4, size=(9, 2))
    right = random.integers(0, total[..., None] + 1, size=(9, 2, 3))
    second = halves(9, seed)
    found = chosen_on_other_half(right, total, seed)
    for item in range(2):
        picks = {half: int(right[second == (not half), item].sum(axis=0).argmax()) for half in (False, True)}
        slow = sum(right[s, item, picks[bool(second[s])]] for s in range(9)) / max(total[:, item].sum(), 1)
        if total[:, item].sum():
            assert found.share[item] == pytest.approx(slow)
            assert found.low[item] <= found.share[item] <= found.high[item]
        assert found.agreed[item] == (picks[False] == picks[True])
        assert found.best[item] == right[:, item].sum(axis=0).argmax()
    np.testing.assert_allclose(share_on_other_half(right, total, seed), found.share)


def test_a_word_leads_to_another_one_that_it_can_see() -> None:
    attention = torch.tensor([[[0.9, 0.1, 0.0], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1]]])
    both = most_attended(attention, causal=False)[:, 0].tolist()
    assert both == [[1, 0, 1], [1, 2, 1]]
    # Under a causal mask the first word attends to no other, and no other word is after the last.
    causal = most_attended(attention.tril(), causal=True)[:, 0].tolist()
    assert causal == [[-1, 0, 1], [1, 2, -1]]


def test_intervals_narrow_with_sentences_and_hold_the_share() -> None:
    random = np.random.default_rng(0)
    widths = []
    for size in (20, 2000):
        right = random.binomial(5, 0.3, size=size)
        share, low, high = share_interval(right, np.full(size, 5), 0)
        assert low < share < high and share == pytest.approx(right.mean() / 5)
        widths.append(high - low)
    assert widths[1] < widths[0] / 5
    assert mean_interval([2.0, 2.0, 2.0]) == (2.0, 2.0, 2.0)
    assert all(np.isnan(share_interval([0, 0], [0, 0])))
    assert share_interval([1, 0], [1, 0])[0] == 1.0
