"""Side effects against plain runs: nothing changed, something changed, and random changes of one size."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cutaway.methods import side_effects
from cutaway.methods.side_effects import Effects
from cutaway.models.trial import down_projection
from cutaway.models.weight_edit import changed
from cutaway.testing import tiny


def test_an_unchanged_model_has_no_side_effects() -> None:
    model = tiny("llama")
    before = side_effects.ground(model, texts=2, tokens=12, other_facts=3, without=["France"], seed=0)
    now = side_effects.effects(model, before)
    assert now.divergence == pytest.approx(0, abs=1e-6)
    assert now.other_facts == 0
    assert now == side_effects.unchanged(before)
    assert not any("France" in "".join(model.token_strings(row)) for row in before.rows)


def test_divergence_loss_and_facts_are_those_of_plain_runs() -> None:
    model = tiny("gpt2")
    model.hf.double()
    beside = ["The capital of Italy is", "The capital of Spain is"]
    before = side_effects.ground(model, texts=2, tokens=12, other_facts=5, without=[], seed=0, neighbours=beside)
    matrix = down_projection(model, 1)
    new = matrix.stored(matrix.weight * 1.5)
    texts, facts = before.rows[:2], before.rows[2:]

    def said(row: tuple[int, ...]) -> torch.Tensor:
        with torch.no_grad():
            return model.hf(torch.tensor([row])).logits[0].log_softmax(-1)

    old_texts, old_facts = [said(row)[:-1] for row in texts], [said(row)[-1] for row in facts]
    with changed(model, {matrix.name: new}):
        found = side_effects.effects(model, before)
        new_texts, new_facts = [said(row)[:-1] for row in texts], [said(row)[-1] for row in facts]
    moved = torch.cat([(a.exp() * (a - b)).sum(-1) for a, b in zip(old_texts, new_texts)])
    loss = torch.cat([-b.gather(-1, torch.tensor(row[1:])[:, None]) for row, b in zip(texts, new_texts)])
    assert found.divergence == pytest.approx(float(moved.mean()), rel=1e-4)
    assert found.loss == pytest.approx(float(loss.mean()), rel=1e-4)
    other = [int(a.argmax()) != int(b.argmax()) for a, b in zip(old_facts, new_facts)]
    assert found.neighbours == pytest.approx(sum(other[:2]) / 2)
    assert found.other_facts == pytest.approx(sum(other[2:]) / 5)
    assert 0 < sum(other) < 7


def test_places_are_spread_where_the_vocabulary_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    monkeypatch.setattr(side_effects, "NUMBERS_KEPT", 8 * model.anatomy.vocab_size)
    before = side_effects.ground(model, texts=2, tokens=30, other_facts=1, without=[], seed=0)
    assert all(len(places) <= 4 for places in before.places)
    assert all(places[-1] < len(row) - 1 for row, places in zip(before.rows[:2], before.places))


def test_random_changes_have_the_size_of_the_change_and_rank_one() -> None:
    old = {"a": torch.randn(5, 7, generator=torch.Generator().manual_seed(0))}
    new = {"a": old["a"] + 0.3}
    first, second = side_effects.random_changes(old, new, 2, 0)
    for made in (first, second):
        change = made["a"] - old["a"]
        assert float(change.norm()) == pytest.approx(float((new["a"] - old["a"]).norm()), rel=1e-4)
        assert int(torch.linalg.matrix_rank(change, tol=1e-4)) == 1
    assert not torch.equal(first["a"], second["a"])
    assert torch.equal(first["a"], side_effects.random_changes(old, new, 1, 0)[0]["a"])


def test_a_collapse_is_warned_of() -> None:
    before = Effects(0.0, 3.0, 0.0, 0.5)
    assert side_effects.collapsed(before, replace(before, loss=3.3)) == ()
    (warning,) = side_effects.collapsed(before, replace(before, loss=4.0))
    assert "rose from 3.00 to 4.00 nats a token" in warning
    assert "collapse" in warning
