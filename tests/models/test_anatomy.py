"""Anatomy: which module is what, learned from values on architectures of every make."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from cutaway.core.edit import scale
from cutaway.core.errors import SiteError
from cutaway.core.site import Site
from cutaway.models.anatomy import Anatomy, Layer
from cutaway.models.model import Model
from cutaway.testing.architectures import tiny_model


def layer_of(model_type: str, index: int = 1, family: str | None = None, **options: str) -> Layer:
    return Anatomy(tiny_model(model_type, family, **options)).stacks[""].layers[index]  # type: ignore[arg-type]


def path_of(layer: Layer, kind: str) -> tuple[str, str]:
    place = layer.places[kind]
    return place.path, place.side


@pytest.mark.parametrize(
    ("model_type", "kind", "expected"),
    [
        ("llama", "attn_in", ("self_attn", "in")),
        ("llama", "resid_mid", ("post_attention_layernorm", "in")),
        ("llama", "mlp_pre", ("mlp.act_fn", "in")),
        ("llama", "mlp_act", ("mlp.down_proj", "in")),
        ("gpt2", "mlp_act", ("mlp.c_proj", "in")),
        ("gemma2", "attn_contrib", ("post_attention_layernorm", "out")),
        ("gemma2", "attn_out", ("self_attn", "out")),
        ("gemma2", "mlp_contrib", ("post_feedforward_layernorm", "out")),
        ("olmo2", "resid_mid", ("mlp", "in")),
        ("gpt_neo", "z", ("attn.attention.out_proj", "in")),
        ("mixtral", "router", ("mlp.gate", "linear")),
    ],
)
def test_places(model_type: str, kind: str, expected: tuple[str, str]) -> None:
    assert path_of(layer_of(model_type), kind) == expected


def test_multipliers_are_part_of_the_contribution() -> None:
    layer = layer_of("granite")
    assert layer.places["attn_contrib"].scale == pytest.approx(0.8)
    assert layer.places["attn_out"].scale == 1.0


def test_a_module_that_runs_twice_is_no_address() -> None:
    # emu3 sends both branches through one dropout module: neither value is found there.
    layer = layer_of("emu3")
    assert "dropout" not in layer.places["attn_contrib"].path
    assert "dropout" not in layer.places["mlp_contrib"].path


def test_a_tensor_that_is_changed_in_place_later_is_read_as_a_copy() -> None:
    hf = tiny_model("falcon")  # adds attention to the MLP's output in place
    assert Anatomy(hf).stacks[""].layers[0].places["mlp_out"].fleeting
    model = Model(hf)
    ids = [[5, 9, 33, 7]]
    seen: list[torch.Tensor] = []
    handle = hf.transformer.h[0].mlp.register_forward_hook(lambda m, a, out: seen.append(out.clone()))
    run = model.run(ids, read="mlp_out[0]")
    handle.remove()
    assert torch.equal(run["mlp_out[0]"], seen[-1])


@pytest.mark.parametrize(
    ("model_type", "site", "reason"),
    [
        ("gpt_neox", "resid_mid[1]", "added in one sum"),
        ("gpt2", "q_pre_rope[0]", "no rotary embedding"),
        ("llama", "router[0]", "no mixture of experts"),
        ("mixtral", "mlp_act[0]", "no one projection"),
        ("falcon", "q[0]", "does not use transformers' attention registry"),
        ("hrm_text", "resid_pre[0]", "ran 6 times in one forward pass"),
        ("mllama", "z[3]", "ran 0 times in one forward pass"),
        ("diffllama", "z[0]", "makes 2 attention calls"),
        ("longcat_flash", "z[0]", "makes 2 attention calls"),
        ("deepseek_v4", "resid_post[0]", r"shape \(1, 6, 4, 32\) for one prompt of 6 tokens"),
        ("gemma3n_text", "resid_pre[0]", r"shape \(4, 1, 6, 32\)"),
        ("deepseek_v4", "k[0]", "6 queries and 7 keys for 6 tokens"),
        ("xlm", "resid_pre[1]", "layer 1 does not take what layer 0 gives"),
        ("granitemoehybrid", "mlp_contrib[1]", "more than one branch"),
        ("mamba", "z[0]", "no attention call"),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_reason(model_type: str, site: str, reason: str) -> None:
    with pytest.raises(SiteError, match=reason):
        Anatomy(tiny_model(model_type)).place(Site.parse(site))


def test_attention_in_a_fused_kernel_outside_of_the_registry_names_the_remedy() -> None:
    anatomy = Anatomy(tiny_model("falcon", attn_implementation="sdpa"))
    with pytest.raises(SiteError, match="attn_implementation='eager'"):
        anatomy.place(Site("pattern", 0))
    assert "pattern" in layer_of("falcon").places


def test_a_refusal_says_what_the_layer_has() -> None:
    with pytest.raises(SiteError, match=r"'router\[2\]' is refused on LlamaForCausalLM.*Layer 2 has: resid_pre"):
        Anatomy(tiny_model("llama")).place(Site("router", 2))


def test_sinks_are_counted() -> None:
    assert layer_of("gpt_oss").sinks == 1
    assert layer_of("llama").sinks == 0


@pytest.mark.parametrize(
    ("model_type", "path"),
    [
        ("llama", "model.layers"),
        ("phi4_multimodal", "model.layers"),  # has towers for pictures and sound that are as heavy
        ("mllama", "model.layers"),
        ("gemma3n_text", "model.layers"),
    ],
)
def test_the_layers_are_the_list_that_hands_the_stream_to_the_unembedding(model_type: str, path: str) -> None:
    assert Anatomy(tiny_model(model_type)).stacks[""].path == path


def test_a_network_without_layers_is_refused() -> None:
    from cutaway.core.errors import ModelError
    from cutaway.models import stacks

    with pytest.raises(ModelError, match="ReLU has no list of layers"):
        stacks.find(nn.ReLU(), False, dict)


def test_an_encoder_decoder_has_two_stacks_and_cross_attention() -> None:
    anatomy = Anatomy(tiny_model("t5", "encoder_decoder"))
    assert set(anatomy.stacks) == {"", "encoder"}
    cross = anatomy.stacks[""].cross[0]
    assert {"q", "k", "z", "attn_in", "attn_contrib"} <= set(cross.places)
    assert cross.places["z"].module is not anatomy.stacks[""].layers[0].places["z"].module


@pytest.mark.parametrize("model_type", ["llama", "opt", "gemma2", "falcon", "mixtral", "granite"])
def test_the_parts_add_up_on_other_text_than_the_probe_saw(model_type: str) -> None:
    model = Model(tiny_model(model_type))
    run = model.run(
        [[11, 25, 9, 60, 7, 14, 14, 80, 3]], read="resid_pre[*], attn_contrib[*], mlp_contrib[*], resid_post[*]"
    )
    total = run["resid_pre[*]"] + run["attn_contrib[*]"] + run["mlp_contrib[*]"]
    torch.testing.assert_close(total, run["resid_post[*]"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_each_stack_reads_its_tokens_through_its_own_embedding(opened: Any, family: str) -> None:
    model = opened(family, family="encoder_decoder")
    read, said = [5, 9, 14, 20, 7], [2, 8, 11]
    run = model.run([read], decoder=[said], read="embed, encoder.embed")
    for site, stack, ids in (
        ("encoder.embed", model.hf.get_encoder(), read),
        ("embed", model.hf.get_decoder(), said),
    ):
        assert torch.equal(run[site], stack.get_input_embeddings()(torch.tensor([ids])).detach())
    doubled = model.run([read], decoder=[said], edit=scale("encoder.embed", 2.0), read="embed, encoder.embed")
    assert torch.equal(doubled["encoder.embed"], 2 * run["encoder.embed"])
    assert torch.equal(doubled["embed"], run["embed"]) and not torch.allclose(doubled.logits, run.logits)
    for kind in ("final", "logits"):
        with pytest.raises(SiteError, match="its encoder has no unembedding"):
            model.run([read], decoder=[said], read=f"encoder.{kind}")


def test_an_embedding_that_both_stacks_run_is_refused(opened: Any) -> None:
    model = opened("t5", family="encoder_decoder")
    hf = copy.deepcopy(model.hf)
    hf.get_decoder().set_input_embeddings(hf.get_encoder().get_input_embeddings())
    shared = Model(hf, name="shared")
    for site in ("embed", "encoder.embed"):
        with pytest.raises(SiteError, match=r"the embedding of tokens ran 2 times in one forward pass"):
            shared.run([[5, 9, 14]], decoder=[[2, 8]], read=site)
