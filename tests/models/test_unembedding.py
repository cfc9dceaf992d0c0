"""Final norm and unembedding, whole and in part, are the network's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from cutaway.core.errors import ModelError
from cutaway.models.model import Model

Open = Callable[..., Model]
IDS = [[5, 9, 17, 33, 2, 8], [1, 2, 3, 4, 5, 6]]
FAMILIES = ("llama", "gpt2", "gemma2", "gpt_neox", "cohere", "granite", "opt", "bloom", "olmo2", "gemma3_text", "gptj")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_stream_gives_the_logits(opened: Open, family: str) -> None:
    model = opened(family)
    assert model._unembedding.exact
    run = model.run(IDS, read="resid_post[3], final")
    assert torch.allclose(model.unembed(run["resid_post[3]"]), run.logits, atol=1e-10)
    assert torch.allclose(model.unembed(run["resid_post[3]"][0, -1]), run.logits[0, -1], atol=1e-10)
    tokens = [3, 100, 3, 0]
    assert torch.allclose(model.unembed(run["resid_post[3]"], tokens), run.logits[..., tokens], atol=1e-10)
    assert torch.allclose(
        model.unembed(run["resid_post[3]"], torch.tensor(tokens)), run.logits[..., tokens], atol=1e-10
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_the_frozen_norm_is_affine_and_adds_up(opened: Open, family: str) -> None:
    model = opened(family)
    run = model.run(IDS, read="resid_post[3], resid_pre[3], final")
    stream, norm = run["resid_post[3]"], model.final_norm
    scale = norm.scale(stream)
    assert scale.shape == (2, 6, 1)
    assert torch.allclose(norm.linear(stream, scale) + norm.bias, run["final"], atol=1e-5)
    parts = (run["resid_pre[3]"], stream - run["resid_pre[3]"])
    whole = sum(norm.linear(part, scale) for part in parts)
    assert torch.allclose(whole, norm.linear(stream, scale), atol=1e-10)


def test_which_norms_take_the_mean_out(opened: Open) -> None:
    assert opened("gpt2").final_norm.centres
    assert opened("gpt_neox").final_norm.centres
    assert not opened("llama").final_norm.centres
    assert not opened("gemma2").final_norm.centres


def test_weights_have_the_fields_shapes(opened: Open) -> None:
    for family in ("llama", "gpt2"):
        model = opened(family)
        assert model.W_U.shape == (32, model.anatomy.vocab_size)
        assert model.W_O(1).shape == (4, model.anatomy.d_head, 32)
        run = model.run(IDS, read="z[1], attn_out[1]")
        written = torch.einsum("...hd,hdm->...m", run["z[1]"], model.W_O(1))
        bias = model.attention_bias(1)
        assert torch.allclose(written + (0 if bias is None else bias), run["attn_out[1]"], atol=1e-12)
    assert opened("llama").attention_bias(1) is None
    assert opened("gpt2").attention_bias(1) is not None


def test_a_soft_cap_and_a_scale_are_found(opened: Open) -> None:
    capped = opened("gemma2")
    assert capped._unembedding.softcap == capped.hf.config.final_logit_softcapping
    scaled = opened("cohere")
    assert scaled._unembedding.multiplier == scaled.hf.config.logit_scale


def test_what_is_no_matrix_is_refused(opened: Open) -> None:
    model = opened("llama", dtype=torch.float32)
    other = Model(model.hf)
    lm_head = model.hf.lm_head
    hook = lm_head.register_forward_hook(lambda module, args, output: output.sin())
    try:
        assert not other._unembedding.exact
        with pytest.raises(ModelError) as caught:
            other.unembed(torch.ones(32))
        assert str(caught.value).startswith(
            "The unembedding of LlamaForCausalLM is more than a matrix, a scale and a soft-cap."
        )
        # Sweeps then run every layer and read the logits as they are.
        sweep = other.sweep(IDS, "z[1].head[*]@-1", edit="zero", metric=lambda logits: logits[:, 3])
        assert sweep.tier == "full"
        from cutaway.core.edit import ablate

        for head in range(4):
            run = other.run(IDS, edit=ablate(f"z[1].head[{head}]@-1"))
            assert torch.allclose(sweep.values[:, head], run.last_logits[:, 3], atol=1e-5)
    finally:
        hook.remove()


def test_networks_without_unembedding() -> None:
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    with torch.random.fork_rng(devices=[]):
        model = Model(BertModel(BertConfig(vocab_size=64, **sizes)).eval())
    with pytest.raises(ModelError, match="BertModel has no unembedding"):
        model.unembed(torch.ones(32))
    with pytest.raises(ModelError, match="BertModel has no unembedding"):
        _ = model.W_U
