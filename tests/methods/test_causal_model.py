"""Causal models as data: their values, interchanges and counterfactuals."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.core.errors import MethodError
from cutaway.methods.causal_model import CausalModel, Variable

EQUALITY = CausalModel(
    (
        *(Variable(name) for name in "abcd"),
        Variable("first", ("a", "b"), lambda a, b: a == b),
        Variable("second", ("c", "d"), lambda c, d: c == d),
        Variable("same", ("first", "second"), lambda first, second: first == second),
    )
)


def drawn(random: np.random.Generator) -> dict[str, Any]:
    return {name: int(random.integers(3)) for name in "abcd"}


@given(
    base=st.lists(st.integers(0, 3), min_size=4, max_size=4), source=st.lists(st.integers(0, 3), min_size=4, max_size=4)
)
def test_an_interchange_is_the_function_with_one_part_of_the_source(base: list[int], source: list[int]) -> None:
    b, s = (dict(zip("abcd", side, strict=True)) for side in (base, source))
    assert EQUALITY.values(b)["same"] == ((base[0] == base[1]) == (base[2] == base[3]))
    assert EQUALITY.interchange(b, s, ["first"]) == ((source[0] == source[1]) == (base[2] == base[3]))
    assert EQUALITY.interchange(b, s, ["first", "second"]) == EQUALITY.values(s)["same"]
    assert EQUALITY.interchange(b, s, []) == EQUALITY.values(b)["same"]
    assert EQUALITY.interchange(b, s, ["same"]) == EQUALITY.values(s)["same"]


def test_counterfactuals_are_true_and_balanced() -> None:
    found = EQUALITY.counterfactuals(drawn, ["first"], 40, seed=0)
    assert len(found) == 40
    assert Counter((one.answer, one.answer == one.plain) for one in found) == dict.fromkeys(
        [(a, same) for a in (True, False) for same in (True, False)], 10
    )
    for one in found:
        assert one.plain == EQUALITY.values(one.base)["same"]
        assert one.answer == EQUALITY.interchange(one.base, one.source, ["first"])
    assert found == EQUALITY.counterfactuals(drawn, ["first"], 40, seed=0)
    assert found != EQUALITY.counterfactuals(drawn, ["first"], 40, seed=1)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(MethodError, match="the variable 'b' depends on 'a'; before it stand: none"):
        CausalModel((Variable("b", ("a",), lambda a: a),))
    with pytest.raises(MethodError, match="the variable 'a' is listed twice"):
        CausalModel((Variable("a"), Variable("a")))
    with pytest.raises(MethodError, match="there is no variable 'frist'; did you mean 'first'"):
        EQUALITY.interchange({}, {}, ["frist"])
    constant = CausalModel((Variable("a"), Variable("always", ("a",), lambda a: True)))
    with pytest.raises(MethodError, match="exchanging a gives one answer only; pairs with both answers are needed"):
        constant.counterfactuals(lambda random: {"a": int(random.integers(2))}, ["a"], 2, seed=0)
