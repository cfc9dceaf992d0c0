"""The price-tagging study: its prompts, and what its causal models say of exchanges."""

from __future__ import annotations

import numpy as np
import pytest

from cutaway.studies.wu2023_boundless_das import HYPOTHESES, WORDS, YES, drawn, pairs_from, tokens_of


def price(ids: tuple[int, ...]) -> int:
    return int("".join(WORDS[i] for i in ids))


def test_prices_are_drawn_and_written_as_the_paper_has_them() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        one = drawn(random)
        assert one["lower"] >= 5 and one["upper"] <= 995 and 250 <= one["upper"] - one["lower"] <= 750
        assert 1 <= one["amount"] <= 999
        ids = tokens_of(one)
        assert (price(ids[1:4]), price(ids[5:8]), price(ids[9:12])) == (one["lower"], one["upper"], one["amount"])


@pytest.mark.parametrize("name", HYPOTHESES)
def test_every_causal_model_computes_the_task(name: str) -> None:
    model, _ = HYPOTHESES[name]
    random = np.random.default_rng(1)
    for _ in range(200):
        one = drawn(random)
        assert model.values(one)[model.output] == (one["lower"] <= one["amount"] <= one["upper"])


def test_labels_of_the_left_boundary_are_what_the_exchange_gives() -> None:
    model, variable = HYPOTHESES["left boundary"]
    found = model.counterfactuals(drawn, [variable], 60, seed=0)
    pairs = pairs_from(found)
    for number, one in enumerate(found):
        above = one.source["lower"] <= one.source["amount"]
        answer = above and one.base["amount"] <= one.base["upper"]
        assert (pairs.label[number] == (YES,)) == answer
        assert pairs.ids[pairs.base[number]] == tokens_of(one.base)
    assert 0.4 < np.mean([label == (YES,) for label in pairs.label]) < 0.75
