"""Copy suppression: the ablation against loops over sources, and a planted head."""

from __future__ import annotations

import math

import pytest
import torch

from cutaway.core.errors import ParameterError
from cutaway.core.site import Site
from cutaway.core.task import Task
from cutaway.methods.copy_preserving import preserved, read_text
from cutaway.methods.intervene.copy_suppression import copy_suppression
from cutaway.models.toy import toy, word_tokenizer
from cutaway.testing import tiny, tiny_task


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_the_ablation_is_the_sum_over_sources_made_by_hand(share: float) -> None:
    model = tiny("llama")
    model.hf.double()
    encoded = tiny_task().encode(model.tokenizer)
    text = read_text(model, encoded, [1], destinations=0, seed=0)
    found = preserved(model, text, Site("z", 1, 3), share=share)
    run = model.run(encoded, read="pattern[1], v_per_query_head[1], resid_pre[1], resid_post[2], z[1]", logits="all")
    w_o, gain = model.W_O(1)[3].detach(), model.hf.model.norm.weight.detach()
    w_u = model.W_U.detach()
    rows = [(row, d) for row, length in enumerate(run.lengths) for d in range(1, length)]
    mean = torch.stack([run["z[1].head[3]"][row, d] @ w_o for row, d in rows]).mean(dim=0)
    totals = {"mean": 0.0, "kept": 0.0}
    for row, d in rows:
        ids = run.ids[row]
        predicted = model.unembed(run["resid_pre[1]"][row, d]).detach()
        ranked = sorted(set(ids[: d + 1]), key=lambda t: -float(predicted[t]))[: math.ceil(share * (d + 1))]
        kept = mean.clone()
        for s in range(d + 1):
            a = run["pattern[1]"][row, 3, d, s]
            if ids[s] in ranked:
                unit = gain * w_u[:, ids[s]]
                unit = unit / unit.norm()
                part = (a * (run["v_per_query_head[1]"][row, s, 3] @ w_o - mean)) @ unit
                kept = kept + min(0.0, float(part)) * unit
        stream = run["resid_post[2]"][row, d]
        out = run["z[1].head[3]"][row, d] @ w_o
        factor = 1 / torch.sqrt((stream**2).mean() + model.hf.config.rms_norm_eps)
        before = run.logits[row, d]  # type: ignore[index]
        for name, new in (("mean", mean), ("kept", kept)):
            after = before + ((new - out) * gain * factor) @ w_u
            p, q = before.log_softmax(-1), after.log_softmax(-1)
            totals[name] += float((p.exp() * (p - q)).sum()) / len(rows)
    assert found.mean == pytest.approx(totals["mean"], rel=1e-3)
    assert found.kept == pytest.approx(totals["kept"], rel=1e-3)


def planted() -> tuple[object, Task]:
    """A last head that attends to what the stream predicts and writes against it."""
    words = [f"w{i}" for i in range(40)]
    sizes = {"n_layers": 2, "n_heads": 2, "d_model": 48, "d_head": 48, "d_mlp": 0, "norm": "none", "positions": "none"}
    model = toy(word_tokenizer(words), seed=1, **sizes)
    with torch.no_grad():
        embedding = model.hf.model.embed_tokens.weight
        for layer in model.hf.model.layers:
            layer.self_attn.o_proj.weight.mul_(0.01)
        attention = model.hf.model.layers[1].self_attn
        attention.q_proj.weight[48:] = 3 * torch.eye(48)
        attention.k_proj.weight[48:] = torch.eye(48)
        attention.v_proj.weight[48:] = torch.eye(48)
        attention.o_proj.weight[:, 48:] = -0.3 * torch.eye(48)
        attention.o_proj.weight[:, :48] = 0.05 * torch.randn(48, 48, generator=torch.Generator().manual_seed(2))
        model.hf.lm_head.weight.copy_(embedding * 0.3)
    generator = torch.Generator().manual_seed(0)
    texts = [" ".join(f"w{int(i)}" for i in torch.randperm(40, generator=generator)[:12]) for _ in range(6)]
    return model, Task.from_prompts(texts)


def test_a_planted_head_keeps_its_effect_and_others_do_not() -> None:
    model, task = planted()
    result = copy_suppression(model, task, tokens=0, k=3, share=0.1, destinations=0, controls=5, top=1)  # type: ignore[arg-type]
    assert result.metrics["head"] == "1.1"
    assert result.metrics["own_bottom"] > 0.9
    assert result.metrics["preserved"] > 0.7
    other = copy_suppression(model, task, heads="z[1].head[0]", tokens=0, share=0.1, destinations=0, controls=0)  # type: ignore[arg-type]
    assert other.metrics["preserved"] < 0.5


def test_a_part_that_is_no_head_is_refused() -> None:
    with pytest.raises(
        ParameterError, match=r"'mlp_out\[1\]' is not a head; copy suppression is measured head by head"
    ):
        copy_suppression(tiny("llama"), tiny_task(), heads="mlp_out[1]")
