"""Attention, rollout, value zeroing, ALTI and ReAGent against slow versions of their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.task import Task
from cutaway.methods.attribute.alti import alti
from cutaway.methods.attribute.attention_map import attention_map
from cutaway.methods.attribute.mixing import normalised, product
from cutaway.methods.attribute.reagent import reagent
from cutaway.methods.attribute.value_zeroing import turned, value_zeroing
from cutaway.models import taps
from cutaway.models.model import Model


@given(st.integers(1, 4), st.integers(2, 6), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_products_of_rows_that_sum_to_one_do_so_too(layers: int, places: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    each = [normalised(np.tril(random.random((places, places)))) for _ in range(layers)]
    found = product(each)
    assert np.allclose(found.sum(-1), 1) and np.allclose(found, np.tril(found)) and (found >= 0).all()
    assert np.allclose(product(each[:1]), each[0])
    assert np.array_equal(normalised(np.zeros((3, 3))), np.eye(3))


def test_raw_attention_is_the_mean_of_the_patterns(model: Model, one: Task) -> None:
    ids = [list(one.encode(model.tokenizer).ids[0])]
    run = model.run(ids, read="pattern[*]", logits="none")
    patterns = torch.stack([run[f"pattern[{layer}]"][0].mean(0) for layer in range(3)]).numpy()
    found = attention_map(model, one, controls=5).data["attribution"].values[0]
    assert np.allclose(found, patterns.mean(0)[-1], atol=1e-6)
    last = attention_map(model, one, layers=[2], controls=0).data["attribution"].values[0]
    assert np.allclose(last, patterns[2, -1], atol=1e-6)
    rolled = attention_map(model, one, kind="rollout", controls=0).data["attribution"].values[0]
    half = [(pattern + np.eye(len(pattern))) / 2 for pattern in patterns]
    assert np.allclose(rolled, (half[2] @ half[1] @ half[0])[-1], atol=1e-5)
    assert rolled.sum() == pytest.approx(1, abs=1e-5)


def test_value_zeroing_is_what_zeroing_does(model: Model, one: Task) -> None:
    ids, layer, token = list(one.encode(model.tokenizer).ids[0]), 1, 4
    found = turned(model, ids, layer)
    part = model.anatomy.stacks[""].layers[layer]
    base = model.run([ids], read=f"resid_post[{layer}]", logits="none")[f"resid_post[{layer}]"][0]

    def zero(value: torch.Tensor) -> torch.Tensor:
        new = value.clone()
        new[:, token] = 0
        return new

    module = next(m for m in part.module.modules() if hasattr(m, "is_causal") or hasattr(m, "c_attn"))
    with taps.attention_taps({module: taps.AttentionTap({"v": zero})}):
        without = model.hf(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer + 1][0]
    expected = 1 - torch.cosine_similarity(base, without, dim=-1)
    assert np.allclose(found[token:, token], expected.detach().numpy()[token:], atol=1e-6)
    assert (found[:token, token] == 0).all()


def test_vectors_add_up_to_the_stream(model: Model, task: Task) -> None:
    result = alti(model, task, controls=5)
    assert result.metrics["sum_gap"] < 1e-5  # type: ignore[operator]
    rows = np.nansum(result.data["attribution"].values, axis=-1)
    assert np.allclose(rows, 1, atol=1e-5)


def test_where_layers_write_nothing_a_position_is_its_token(straight: Model, one: Task) -> None:
    found = value_zeroing(straight, one, controls=0).data["attribution"].values[0]
    assert found[-1] == pytest.approx(1, abs=1e-6) and np.allclose(found[:-1], 0, atol=1e-6)


def test_the_token_that_decides_cannot_be_exchanged(straight: Model, one: Task) -> None:
    """There only the last token is seen, so it alone is worth anything."""
    own = Task.from_prompts(one.prompts)  # the token that is most likely, so that there is something to lose
    result = reagent(straight, own, probes=64, rounds=20, among=1, keep=1, controls=5)
    found = result.data["attribution"].values[0]
    assert np.nanargmax(found) == len(found) - 1
    assert np.nansum(found) == pytest.approx(1, abs=1e-5)
    assert reagent(straight, one, seed=3, controls=0).id == reagent(straight, one, seed=3, controls=0).id
