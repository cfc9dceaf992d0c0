"""Texts with holes score the same whether they share what comes before the hole or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cutaway.core.edit import add
from cutaway.models import pass_groups, shared_prefix, taps
from cutaway.models.model import Model
from cutaway.models.multigrad import Score, scores_of_targets, values_at
from cutaway.models.shared_prefix import is_shorter, scores_with_holes
from cutaway.models.sweep import tier_of
from cutaway.testing.architectures import tiny_model
from cutaway.testing.tiny import tiny

Open = Callable[..., Model]
IDS = [5, 9, 14, 20, 7, 11, 33, 21, 40, 3, 8]
PLACES = [4, 7, 10]
TOKENS = [7, 11, 30]
HOLES: list[tuple[int, ...]] = [(), (0,), (1, 4), (4,), (5,), (7, 9), (9,), (10,), (8, 2)]


def score_of(rows: int, targets: Sequence[int]) -> Score:
    """Log-probabilities of `TOKENS`."""
    index = torch.tensor([TOKENS[target] for target in targets]).expand(rows, -1)[..., None]
    return lambda logits: logits.log_softmax(-1).gather(-1, index)[..., 0]


def slowly(model: Model, own: Tensor, filler: Tensor, holes: Sequence[Sequence[int]]) -> Tensor:
    """Each text whole and alone."""
    found = []
    for hole in holes:
        text = own.clone()
        text[list(hole)] = filler
        found.append(scores_of_targets(model, [IDS], PLACES, score_of(1, range(3)), embeddings=text[None])[0])
    return torch.stack(found)


def both(model: Model, holes: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    own = values_at(model, [IDS])[0]
    filler = torch.randn(own.shape[1], generator=torch.Generator().manual_seed(0)).to(own)
    fast = scores_with_holes(model, IDS, PLACES, score_of, holes, embeddings=own, filler=filler)
    return fast, slowly(model, own, filler, holes)


@pytest.mark.parametrize("extra", [0, 6, 1000])
@pytest.mark.parametrize(
    ("family", "attention"), [("llama", "sdpa"), ("gpt2", "eager"), ("mistral", "sdpa"), ("gemma2", "eager")]
)
def test_sharing_equals_whole_texts(
    opened: Open, double_throughout: None, monkeypatch: Any, family: str, attention: str, extra: int
) -> None:
    """Mistral and Gemma 2 look through windows of four tokens."""
    model = opened(family, attention)
    assert tier_of(model) == "suffix"
    monkeypatch.setitem(pass_groups.PASS_TOKENS, "cpu", extra)
    fast, slow = both(model, HOLES)
    assert torch.allclose(fast, slow, rtol=0, atol=1e-10)
    assert (slow[1:-1] - slow[0]).abs().max() > 1e-4


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sets(st.integers(0, 10), max_size=3).map(tuple), min_size=1, max_size=6))
def test_any_holes(holes: list[tuple[int, ...]]) -> None:
    fast, slow = both(LLAMA, holes)
    assert torch.allclose(fast, slow, rtol=0, atol=1e-6)


LLAMA = Model(tiny_model("llama", dtype=torch.float64), name="tiny llama")


def test_what_is_predicted_before_a_hole_keeps_its_score() -> None:
    fast, _ = both(LLAMA, [(), (8,)])
    assert torch.equal(fast[0, :2], fast[1, :2]) and fast[0, 2] != fast[1, 2]


def test_it_is_used_where_it_saves_much(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    each = [(place,) for place in range(120)]
    assert is_shorter(model, 120, each)
    assert not is_shorter(model, 120, [(0,)] * 120), "every text differs from its first token on"
    assert not is_shorter(model, 12, [(place,) for place in range(12)]), "too little is saved"
    with model.editing(add("resid_post[1]", torch.zeros(32))):
        assert not is_shorter(model, 120, each), "edits count positions"
    monkeypatch.setattr(shared_prefix, "tier_of", lambda model: "grow")
    assert not is_shorter(model, 120, each), "this network does not hand on keys and values"
    assert taps.idle()


def test_encoders_do_not_share() -> None:
    assert not is_shorter(tiny("bert"), 120, [(place,) for place in range(120)])
