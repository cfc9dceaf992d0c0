"""Scores against slow loops, on patterns made by hand and on the model's own."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.edit import ablate
from cutaway.core.errors import SiteError
from cutaway.core.task import Task
from cutaway.methods.observe import attention as module
from cutaway.methods.observe.attention import HABITS, attention
from cutaway.models.model import Model
from cutaway.testing import tiny, tiny_task

FEW = {"controls": 5, "sequences": 1, "length": 8, "top": 1}


@functools.cache
def double(family: Any) -> Model:
    model = tiny(family)
    if family != "bert":
        model.hf.double()
    return model


def slow_scores(pattern: np.ndarray, ids: list[int]) -> dict[str, float]:
    """The definitions, one query and one key after another, for one head's pattern [query, key]."""
    keys = {
        "previous_token": lambda i: [i - 1] if i else [],
        "first_token": lambda i: [0] if i else [],
        "duplicate_token": lambda i: [j for j in range(i) if ids[j] == ids[i]],
        "induction": lambda i: [j for j in range(1, i) if ids[j - 1] == ids[i]],
    }
    found = {}
    for habit, of in keys.items():
        each = [sum(float(pattern[i, j]) for j in of(i)) for i in range(len(ids)) if of(i)]
        found[habit] = sum(each) / len(each) if each else math.nan
    return found


@given(st.lists(st.integers(0, 4), min_size=2, max_size=9), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_scores_are_their_definitions(ids: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pattern = torch.rand(2, len(ids), len(ids), generator=generator).tril()
    found = module.habit_scores(pattern, module.habit_masks(ids)).numpy()
    for head in range(2):
        slow = slow_scores(pattern[head].numpy(), ids)
        np.testing.assert_allclose(found[:, head], [slow[habit] for habit in HABITS], rtol=1e-5)


@pytest.mark.parametrize("habit", HABITS)
def test_a_head_that_does_nothing_else_scores_one(habit: str) -> None:
    ids = [3, 1, 4, 7, 5, 3, 1, 4, 7, 5]
    half = len(ids) // 2
    key = {
        "previous_token": lambda i: max(i - 1, 0),
        "first_token": lambda i: 0,
        "duplicate_token": lambda i: i - half if i >= half else i,
        "induction": lambda i: i - half + 1 if i >= half else i,
    }[habit]
    pattern = torch.zeros(1, len(ids), len(ids))
    for query in range(len(ids)):
        pattern[0, query, key(query)] = 1.0
    assert module.habit_scores(pattern, module.habit_masks(ids))[HABITS.index(habit), 0] == 1.0


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_scores_and_patterns_are_the_models_own(family: str) -> None:
    model = double(family)
    task = Task.from_prompts(["Mary and John met and John met Mary", "Mary gave Mary"])
    result = attention(model, task, **FEW)
    encoded = task.encode(model.tokenizer)
    slow = np.full((2, len(HABITS), 3, 4), np.nan)
    for prompt, ids in enumerate(encoded.ids):
        with torch.no_grad():
            model.hf.set_attn_implementation("eager")
            maps = model.hf(torch.tensor([ids]), output_attentions=True).attentions
            model.hf.set_attn_implementation("sdpa")
        for layer in range(3):
            pattern = maps[layer][0].numpy()
            held = result.data["pattern"].values[prompt, layer]
            np.testing.assert_allclose(held[:, : len(ids), : len(ids)], pattern, atol=1e-6)
            assert np.all(np.isnan(held[:, len(ids) :]))
            for head in range(4):
                slow[prompt, :, layer, head] = list(slow_scores(pattern[head], list(ids)).values())
    np.testing.assert_allclose(result.data["prompt_score"].values, np.nanmean(slow, axis=0), atol=1e-6)


def test_the_random_tokens_are_said_twice_and_none_is_special() -> None:
    model = double("llama")
    (text,) = module._repeated(model, 12, 1, seed=3)
    start, tokens = text[:1], text[1:]
    assert start == [model.tokenizer.bos_token_id]
    assert tokens[:12] == tokens[12:]
    assert len(set(tokens)) == 12
    assert not set(tokens) & set(model.tokenizer.all_special_ids)
    assert [text] == module._repeated(model, 12, 1, seed=3)
    assert [text] != module._repeated(model, 12, 1, seed=4)
    assert len(module._repeated(double("gpt2"), 10_000, 1, seed=0)[0]) <= 256


def test_layers_and_heads_can_be_chosen() -> None:
    model = double("gpt2")
    whole, some = (attention(model, tiny_task(), sites=s, **FEW) for s in ("pattern[*]", "pattern[1:].head[2]"))
    assert some.data["layer"].values.tolist() == [1, 2]
    assert some.data["head"].values.tolist() == [2]
    chosen = whole.data.sel(layer=[1, 2], head=[2])
    for name in ("pattern", "score", "prompt_score"):
        np.testing.assert_allclose(some.data[name].values, chosen[name].values, rtol=1e-5, atol=1e-7)


def test_layers_in_pieces_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = double("llama")
    whole = attention(model, tiny_task(), **FEW)
    monkeypatch.setattr(module, "ENTRIES_AT_ONCE", 1)
    monkeypatch.setattr(module, "ENTRIES_KEPT", 1)
    pieces = attention(model, tiny_task(), **FEW)
    np.testing.assert_allclose(pieces.data["prompt_score"].values, whole.data["prompt_score"].values, rtol=1e-6)
    assert pieces.data.sizes["prompt"] == 1
    assert any("first 1 of 4 prompts are kept" in note for note in pieces.notes)


def test_the_check_measures_the_loss_on_the_repeated_half() -> None:
    model = double("gpt2")
    result = attention(model, tiny_task(), **FEW)
    (check,) = result.checks
    scores = result.data["score"].sel(habit="induction").values
    layer, head = np.unravel_index(int(np.argmax(scores)), scores.shape)
    assert f"({layer}.{head})" in check.claim
    (text,) = module._repeated(model, 8, 1, seed=0)

    def loss(edit: Any) -> float:
        logp = model.run([text], edit=edit).logits[0].log_softmax(-1)
        return -float(np.mean([float(logp[i, text[i + 1]]) for i in range(8, 15)]))

    assert check.measured == pytest.approx(loss(ablate(f"z[{layer}].head[{head}]", "mean")) - loss(()), abs=1e-5)


def test_a_model_that_predicts_nothing_has_patterns_and_no_check() -> None:
    result = attention(double("bert"), tiny_task(), **FEW)
    assert not result.checks
    assert any("does not predict" in note for note in result.notes)
    np.testing.assert_allclose(np.nansum(result.data["pattern"].values[0], axis=-1)[:, :, 0], 1.0, rtol=1e-5)


@pytest.mark.parametrize("sites", ["z[*]", "pattern[*]@-1", "pattern[*], z[0]"])
def test_what_is_no_pattern_is_refused(sites: str) -> None:
    with pytest.raises(SiteError, match="is not a head's pattern"):
        attention(double("llama"), tiny_task(), sites=sites)


@pytest.mark.real
def test_smollm2_has_induction_heads_that_predict_a_repeated_text() -> None:
    import cutaway

    try:
        model = cutaway.open("smollm2")
    except cutaway.core.errors.ModelError as error:
        pytest.skip(f"SmolLM2 cannot be opened here: {error}")
    result = attention(model, "The cat sat.", controls=6, length=20, sequences=1)
    assert result.metrics["largest_induction_score"] > 0.7
    assert result.data["best_head"].sel(habit="induction").values[0].split(".")[0] in ("17", "18")
    assert result.checks[0].passed
