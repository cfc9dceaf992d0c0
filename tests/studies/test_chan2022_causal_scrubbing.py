"""The bracket study: its texts, its tests of them, and the heads that it names."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cutaway.studies.chan2022_causal_scrubbing import (
    _others,
    balanced,
    equal,
    failing,
    hypothesis,
    is_balanced,
    never_early,
    roles,
    texts,
)


@given(st.lists(st.sampled_from([1, -1]), min_size=1, max_size=12))
def test_the_two_tests_together_are_balance(signs: list[int]) -> None:
    depth, early = 0, False
    for sign in signs:
        depth += sign
        early |= depth < 0
    text = np.array([signs])
    assert bool(is_balanced(text)[0]) == (depth == 0 and not early)
    assert bool(equal(text)[0]) == (depth == 0)
    if depth == 0:
        assert bool(never_early(text)[0]) == (not early)


def test_balanced_texts_are_balanced_and_equally_likely() -> None:
    random = np.random.default_rng(0)
    drawn = Counter(tuple(balanced(random, 6).tolist()) for _ in range(2000))
    assert len(drawn) == 5  # the third Catalan number
    assert all(is_balanced(np.array([text]))[0] for text in drawn)
    assert max(drawn.values()) < 2000 / 5 * 1.25


def test_texts_fail_one_test_only() -> None:
    kinds = failing(np.random.default_rng(0), 20)
    assert not equal(kinds["count"]).any() and never_early(kinds["count"]).all()
    assert equal(kinds["horizon"]).all() and not never_early(kinds["horizon"]).any()
    share = is_balanced(texts(np.random.default_rng(1), 600)).mean()
    assert 0.25 < share < 0.45


def test_heads_get_their_roles_by_what_their_absence_costs() -> None:
    named = roles({"count": [0.1, 0.9, 0.2, 0.8, 0.0, 0.7], "horizon": [0.0, 0.1, 0.0, 2.0, 0.0, 0.1]})
    assert named == {"count": [(0, 1), (2, 1)], "horizon": [(1, 1)]}
    for other in _others(named):
        assert not set(other["count"]) & set(named["count"]) and other["horizon"] != named["horizon"]
    tree = hypothesis(named, ["equal"], ["never_early"])
    assert [str(site) for node in tree for site in node.sites] == ["z[0].head[1]", "z[2].head[1]", "z[1].head[1]"]
