"""W_Q, W_K and W_V of networks whose projections are separate, fused, interleaved or followed by a norm."""

from __future__ import annotations

import pytest
import torch

from cutaway.core.errors import ModelError, SiteError
from cutaway.models import projections
from cutaway.models.edge_parts import parts_of

IDS = [[7, 12, 3, 44, 9, 30]]


def read_by_heads(model, layer: int) -> torch.Tensor:
    """What the projections of a layer read: the norm of the stream."""
    stream = model.run(IDS, read=f"resid_pre[{layer}]", logits="none")[f"resid_pre[{layer}]"]
    with torch.no_grad():
        return parts_of(model).layers[layer].attn_norm(stream)


def made(model, kind: str, layer: int) -> torch.Tensor:
    """x W + b for each head [prompt, position, head, d_head]."""
    value = torch.einsum("btm,hmd->bthd", read_by_heads(model, layer), projections.weights(model, kind, layer))
    bias = projections.biases(model, kind, layer)
    return value if bias is None else value + bias


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox", "phi3", "gemma3_text"])
def test_values_are_what_the_matrices_make(opened, kind):
    model = opened(kind)
    v = model.run(IDS, read="v[1]", logits="none")["v[1]"]
    assert torch.allclose(made(model, "v", 1), v, rtol=1e-6, atol=1e-8)
    assert projections.of(model, 1).v.ordered


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox", "phi3"])
def test_queries_and_keys_are_what_the_matrices_make_where_nothing_is_rotated(opened, kind):
    model = opened(kind)
    run = model.run(IDS, read="q[0], k[0]", logits="none")
    for name in ("q", "k"):
        assert torch.allclose(made(model, name, 0)[:, 0], run[f"{name}[0]"][:, 0], rtol=1e-6, atol=1e-8)
        assert projections.of(model, 0).of(name).ordered


def test_a_norm_after_the_matrix_stays_between(opened):
    """Gemma-3 normalises each head's queries: the matrix stands before it, head by head."""
    model = opened("gemma3_text")
    found = projections.of(model, 0)
    assert not found.q.ordered
    assert found.q.columns.shape == (model.anatomy.n_heads, model.anatomy.d_head)
    assert found.k.columns.shape[0] == model.anatomy.n_kv_heads


def test_networks_without_a_matrix_for_each_head_say_why(opened):
    with pytest.raises(
        ModelError, match="layer 0 of Olmo2ForCausalLM have no matrix for each head: .*depend on one another"
    ):
        projections.of(opened("olmo2"), 0)
    with pytest.raises(ModelError, match="does not use transformers' attention registry"):
        projections.weights(opened("falcon"), "q", 0)
    with pytest.raises(SiteError, match="'z' is none of q, k and v"):
        projections.weights(opened("llama"), "z", 0)


def test_the_probe_leaves_nothing_behind(opened, untouched):
    model = opened("llama")
    projections.find(model)
    untouched(model)
    assert all(weight.grad is None for weight in model.hf.parameters())
