"""Circuits of heads against tables of tokens by tokens, made by hand in double precision."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cutaway.core.errors import ModelError
from cutaway.methods.circuit_figures import figures_of_heads
from cutaway.methods.full_circuits import (
    circuits_of,
    copying_score,
    directions,
    effective_embeddings,
    layers_with_heads,
    own_ranks,
    sampled_tokens,
    share_on_diagonal,
    unembedding,
)
from cutaway.models.model import Model
from cutaway.models.toy import toy, word_tokenizer
from cutaway.testing import tiny

TOKENS = [3, 40, 41, 100, 7, 260]


@functools.cache
def double(family: Any) -> Model:
    model = tiny(family)
    model.hf.double()
    return model


def by_hand(model: Model, layer: int, head: int) -> tuple[Tensor, Tensor]:
    """Effective embeddings, and what a head writes for every one of them, after the final norm without its scale."""
    hf = model.hf
    ids = torch.tensor(TOKENS)
    with torch.no_grad():
        if hasattr(hf, "model"):
            x = hf.model.embed_tokens(ids)
            first, block = hf.model.layers[0], hf.model.layers[layer]
            e = x + first.mlp(first.post_attention_layernorm(x))
            v = block.self_attn.v_proj(block.input_layernorm(e)).reshape(len(ids), -1, 8)[:, head // 2]
            out = v @ block.self_attn.o_proj.weight[:, 8 * head : 8 * head + 8].T
            return e, out * hf.model.norm.weight
        x = hf.transformer.wte(ids)
        first, block = hf.transformer.h[0], hf.transformer.h[layer]
        e = x + first.mlp(first.ln_2(x))
        v = block.attn.c_attn(block.ln_1(e))[:, 64:].reshape(len(ids), -1, 8)[:, head]
        out = v @ block.attn.c_proj.weight[8 * head : 8 * head + 8]
        return e, (out - out.mean(dim=-1, keepdim=True)) * hf.transformer.ln_f.weight


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize(("layer", "head"), [(0, 1), (2, 3)])
def test_what_a_head_writes_is_the_product_of_its_matrices(family: str, layer: int, head: int) -> None:
    model = double(family)
    embedded = effective_embeddings(model, TOKENS)
    circuits = circuits_of(model, layer, embedded)
    e, out = by_hand(model, layer, head)
    torch.testing.assert_close(embedded, e, atol=1e-5, rtol=1e-5)  # norms compute in single precision
    ours = circuits.written(head)
    torch.testing.assert_close(ours, out.to(ours), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("columns", [7, 10_000])
def test_ranks_are_those_of_the_whole_table(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutaway.methods.full_circuits.COLUMNS_AT_ONCE", columns)
    model = double("llama")
    w_u = unembedding(model)
    for tokens in (TOKENS, list(range(3, 60))):  # both ways round
        circuits = circuits_of(model, 1, effective_embeddings(model, tokens))
        above, below = own_ranks(circuits.values[:, 2], circuits.matrix[2], w_u, tokens)
        table = circuits.written(2) @ w_u
        for row, token in enumerate(tokens):
            order = sorted(range(table.shape[1]), key=lambda t, r=row: -float(table[r, t]))  # type: ignore[misc]
            assert int(above[row]) == order.index(token)
            assert int(below[row]) == table.shape[1] - 1 - order.index(token)


def test_the_copying_score_is_that_of_the_whole_circuit() -> None:
    model = double("gpt2")
    circuits = circuits_of(model, 1, effective_embeddings(model, TOKENS))
    columns = unembedding(model)[:, TOKENS]
    eigenvalues = np.linalg.eigvals((circuits.written(3) @ columns).numpy())
    expected = eigenvalues.real.sum() / np.abs(eigenvalues).sum()
    assert copying_score(circuits.values[:, 3], circuits.matrix[3], columns) == pytest.approx(expected, abs=1e-6)


@given(sign=st.sampled_from([1.0, -1.0]), scale=st.floats(0.1, 10), seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_a_head_that_copies_scores_one_and_its_opposite_minus_one(sign: float, scale: float, seed: int) -> None:
    columns = torch.randn(6, 30, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    score = copying_score(columns.T, sign * scale * torch.eye(6, dtype=torch.float64), columns)
    assert score == pytest.approx(sign, abs=1e-9)


def test_grouped_heads_share_keys_and_not_queries() -> None:
    model = double("llama")
    embedded = effective_embeddings(model, TOKENS)
    circuits = circuits_of(model, 1, embedded, directions(model, TOKENS))
    assert circuits.k.shape[1] == 2
    block = model.hf.model.layers[1]
    with torch.no_grad():
        q = block.self_attn.q_proj(block.input_layernorm(directions(model, TOKENS))).reshape(len(TOKENS), -1, 8)
        k = block.self_attn.k_proj(block.input_layernorm(embedded)).reshape(len(TOKENS), -1, 8)
    for head in range(4):
        torch.testing.assert_close(circuits.scores(head), q[:, head] @ k[:, head // 2].T, atol=1e-4, rtol=1e-4)


def planted(sign: float) -> Model:
    """A network whose second head writes what it reads, as it is or with its sign turned."""
    words = [f"w{i}" for i in range(60)]
    sizes = {"n_layers": 1, "n_heads": 2, "d_model": 32, "d_head": 32, "d_mlp": 0, "norm": "none", "positions": "none"}
    model = toy(word_tokenizer(words), seed=0, **sizes)
    attention = model.hf.model.layers[0].self_attn
    with torch.no_grad():
        attention.v_proj.weight[32:] = torch.eye(32)
        attention.o_proj.weight[:, 32:] = sign * torch.eye(32)
        model.hf.lm_head.weight.copy_(model.hf.model.embed_tokens.weight)
        attention.q_proj.weight[32:] = torch.eye(32)
        attention.k_proj.weight[32:] = torch.eye(32)
    return model


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_planted_head_is_found(sign: float) -> None:
    model = planted(sign)
    figures = figures_of_heads(model, [0], sampled_tokens(model, 0, 0), 3, "mlp_and_stream")
    own = "own_top" if sign > 0 else "own_bottom"
    assert figures[0, 1][own] > 0.95
    assert figures[0, 1]["own_key"] > 0.95
    assert figures[0, 1]["copying"] * sign > 0.99
    assert figures[0, 0][own] < 0.5


def test_samples_are_drawn_with_their_seed_and_without_special_tokens() -> None:
    model = tiny("llama")
    assert sampled_tokens(model, 20, 0) == sampled_tokens(model, 20, 0) != sampled_tokens(model, 20, 1)
    assert not set(sampled_tokens(model, 0, 0)) & set(model.tokenizer.all_special_ids)


def test_the_diagonal_is_counted() -> None:
    assert share_on_diagonal(torch.eye(4)) == 1.0
    assert share_on_diagonal(torch.eye(4).flip(0)) == 0.0


def test_a_network_without_heads_of_its_own_is_refused() -> None:
    model = tiny("llama")
    for layer in model.anatomy.stacks[""].layers:
        layer.places.pop("q")
        layer.refused["q"] = "a test took it out"
    with pytest.raises(
        ModelError, match="No layer of LlamaForCausalLM has heads with matrices of their own: a test took"
    ):
        layers_with_heads(model)
