"""The parts sum to the logit, on every kind of architecture; each part is what a slow reference says."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutaway.core.errors import MethodError
from cutaway.core.task import Task
from cutaway.methods.observe.direct_logit_attribution import direct_logit_attribution
from cutaway.models.model import Model
from cutaway.testing import tiny, tiny_task, tiny_tokenizer
from cutaway.testing.architectures import tiny_model
from cutaway.testing.strategies import tasks
from cutaway.testing.tiny import texts_of

FEW = {"controls": 5}
SPLIT = {  # heads are parts of their own
    "llama": torch.float64,
    "gpt2": torch.float64,
    "gemma2": torch.float64,  # norms after the branches, a soft-cap
    "gemma3_text": torch.float64,
    "granite": torch.float64,  # residual multipliers
    "gpt_neox": torch.float64,  # parallel branches, biases
    "cohere": torch.float64,  # parallel, a logit scale
    "olmo2": torch.float64,  # norms after the branches only
    "phi": torch.float64,  # a bias of the unembedding
    "gpt_oss": torch.float32,  # sinks, experts
}
WHOLE = {"qwen3_next": torch.float32, "openai-gpt": torch.float64, "mamba": torch.float32}


@functools.cache
def double(family: Any) -> Model:
    model = tiny(family)
    model.hf.double()
    return model


@functools.cache
def architecture(kind: str, dtype: torch.dtype) -> Model:
    tokenizer = tiny_tokenizer(texts_of(tiny_task()), start=True)
    hf = tiny_model(kind, dtype=dtype)
    with torch.random.fork_rng(devices=[]):
        hf.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return Model(hf, tokenizer, name=f"tiny {kind}")


def attributed(model: Model, **options: Any) -> Any:
    return direct_logit_attribution(model, tiny_task().subset([0, 1]), **{**FEW, **options})


@pytest.mark.parametrize(("kind", "dtype"), SPLIT.items())
def test_heads_mlps_and_biases_sum_to_the_logit(kind: str, dtype: torch.dtype) -> None:
    model = architecture(kind, dtype)
    result = attributed(model, against="wrong")
    kinds = result.data["kind"].values.tolist()
    assert kinds.count("head") == model.anatomy.n_layers * model.anatomy.n_heads
    assert kinds.count("mlp") == model.anatomy.n_layers
    assert not {"attention", "rest", "layer"} & set(kinds)
    assert result.metrics["relative_gap"] < 2e-6
    logits = model.run(tiny_task().subset([0, 1]), logits="last").last_logits.double()
    encoded = tiny_task().subset([0, 1]).encode(model.tokenizer)
    cap = getattr(model.hf.config, "final_logit_softcapping", None)
    logits = torch.atanh(logits / cap) * cap if cap else logits
    expected = [
        logits[i, a].mean() - logits[i, w].mean() for i, (a, w) in enumerate(zip(encoded.answer_ids, encoded.wrong_ids))
    ]
    found = result.data["contribution"].sum("part").values
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert any("soft-capped" in note for note in result.notes) == bool(cap)


@pytest.mark.parametrize(("kind", "dtype"), WHOLE.items())
def test_what_is_not_a_sum_of_heads_stays_whole_and_is_said(kind: str, dtype: torch.dtype) -> None:
    result = attributed(architecture(kind, dtype))
    assert {"attention", "layer"} & set(result.data["kind"].values.tolist())
    assert any("is one part" in note for note in result.notes)
    assert result.metrics["relative_gap"] < 1e-5


@pytest.mark.parametrize("kind", ["bert", "modernbert-decoder"])
def test_where_parts_cannot_sum_to_the_logit_nothing_is_shown(kind: str) -> None:
    with pytest.raises(MethodError, match=r"Use `ablate` instead"):
        attributed(architecture(kind, torch.float32))


@given(task=tasks(), against=st.sampled_from(["wrong", "mean", "nothing"]), family=st.sampled_from(["llama", "gpt2"]))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_parts_sum_to_what_they_are_held_against(task: Task, against: str, family: str) -> None:
    model = double(family)
    data = direct_logit_attribution(model, task, against=against, **FEW).data
    encoded = task.encode(model.tokenizer)
    logits = model.run(encoded, logits="last").last_logits
    for prompt, answers in enumerate(encoded.answer_ids):
        other = {"wrong": list(encoded.wrong_ids[prompt]), "mean": slice(None), "nothing": []}[against]
        held = logits[prompt, other].mean() if against != "nothing" else 0.0
        expected = float(logits[prompt, list(answers)].mean() - held)
        assert float(data["contribution"][prompt].sum()) == pytest.approx(expected, abs=1e-5)
        assert float(data["logit"][prompt]) == pytest.approx(expected, abs=1e-9)


def test_each_part_is_what_the_slow_way_says() -> None:
    """Llama, by hand: gain * what was written / the root mean square of the last stream, times the row of W_U."""
    model = double("llama")
    task = tiny_task().subset([2])
    data = direct_logit_attribution(model, task, **FEW).data.isel(prompt=0)
    encoded, hf = task.encode(model.tokenizer), model.hf
    heads = hf.config.num_attention_heads
    seen: dict[str, torch.Tensor] = {}
    handles = [
        hf.model.layers[i].self_attn.o_proj.register_forward_pre_hook(
            lambda module, args, i=i: seen.__setitem__(f"z{i}", args[0][0, -1])
        )
        for i in range(3)
    ]
    handles += [
        hf.model.layers[i].mlp.register_forward_hook(
            lambda module, args, out, i=i: seen.__setitem__(f"mlp {i}", out[0, -1])
        )
        for i in range(3)
    ]
    handles.append(
        hf.model.norm.register_forward_pre_hook(lambda module, args: seen.__setitem__("last", args[0][0, -1]))
    )
    with torch.no_grad():
        hf(torch.tensor([encoded.ids[0]]))
        for handle in handles:
            handle.remove()
        rms = (seen["last"].pow(2).mean() + hf.config.rms_norm_eps).sqrt()
        rows = hf.lm_head.weight
        row = rows[list(encoded.answer_ids[0])].mean(0) - rows[list(encoded.wrong_ids[0])].mean(0)
        expected = {f"mlp {i}": seen[f"mlp {i}"] for i in range(3)}
        expected["embedding"] = hf.model.embed_tokens.weight[encoded.ids[0][-1]]
        for i in range(3):
            for head, z in enumerate(seen[f"z{i}"].reshape(heads, -1)):
                columns = hf.model.layers[i].self_attn.o_proj.weight[:, head * len(z) : (head + 1) * len(z)]
                expected[f"head {i}.{head}"] = columns @ z
        for name, vector in expected.items():
            slow = float((hf.model.norm.weight * vector / rms) @ row)
            assert float(data["contribution"].sel(part=name)) == pytest.approx(slow, abs=1e-6), name
    assert sorted(expected) == sorted(data["part"].values.tolist())


@pytest.mark.parametrize(("kind", "dtype"), [item for item in SPLIT.items() if item[0] != "gpt_oss"])
def test_neurons_and_the_rest_of_each_mlp_sum_to_the_mlp_and_all_parts_to_the_logit(
    kind: str, dtype: torch.dtype
) -> None:
    model = architecture(kind, dtype)
    whole, split = attributed(model).data, attributed(model, neurons=7).data
    kinds = split["kind"].values.tolist()
    assert kinds.count("neuron") == 7 and "mlp" not in kinds
    assert kinds.count("neurons") == model.anatomy.n_layers
    for layer in range(model.anatomy.n_layers):
        inside = split["kind"].isin(["neuron", "neurons"]) & (split["part_layer"] == layer)
        found = split["contribution"].where(inside, drop=True).sum("part").values
        expected = whole["contribution"].where((whole["kind"] == "mlp") & (whole["part_layer"] == layer), drop=True)
        np.testing.assert_allclose(found, expected.values[:, 0], rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(split["mlp_contribution"].values, whole["mlp_contribution"].values, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(
        split["contribution"].sum("part").values, whole["contribution"].sum("part").values, rtol=1e-6, atol=1e-8
    )
    rest = split["contribution"].where(split["kind"].isin(["embed", "head"]), drop=True)
    same = whole["contribution"].where(whole["kind"].isin(["embed", "head"]), drop=True)
    np.testing.assert_array_equal(rest.values, same.values)


@given(task=tasks(), family=st.sampled_from(["llama", "gpt2"]), neurons=st.integers(1, 400))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_parts_sum_to_the_logit_however_many_neurons_there_are(task: Task, family: str, neurons: int) -> None:
    model = double(family)
    data = direct_logit_attribution(model, task, neurons=neurons, **FEW).data
    np.testing.assert_allclose(data["contribution"].sum("part").values, data["logit"].values, atol=1e-5)
    units = model.anatomy.n_layers * model.anatomy.d_mlp
    assert (data["kind"] == "neuron").sum() == min(neurons, units)


def test_each_neuron_is_its_activation_times_what_its_row_writes() -> None:
    model, task = double("llama"), tiny_task().subset([2])
    units = model.anatomy.n_layers * model.anatomy.d_mlp
    few, all_of_them = (direct_logit_attribution(model, task, neurons=n, **FEW).data for n in (6, units))
    encoded, hf = task.encode(model.tokenizer), model.hf
    seen: dict[Any, torch.Tensor] = {}
    handles = [
        layer.mlp.down_proj.register_forward_pre_hook(lambda module, args, i=i: seen.__setitem__(i, args[0][0, -1]))
        for i, layer in enumerate(hf.model.layers)
    ]
    handles.append(
        hf.model.norm.register_forward_pre_hook(lambda module, args: seen.__setitem__("last", args[0][0, -1]))
    )
    with torch.no_grad():
        hf(torch.tensor([encoded.ids[0]]))
        for handle in handles:
            handle.remove()
        rms = (seen["last"].pow(2).mean() + hf.config.rms_norm_eps).sqrt()
        rows = hf.lm_head.weight
        row = rows[list(encoded.answer_ids[0])].mean(0) - rows[list(encoded.wrong_ids[0])].mean(0)
        slow = torch.stack(
            [
                seen[i] * ((hf.model.norm.weight * layer.mlp.down_proj.weight.T / rms) @ row)
                for i, layer in enumerate(hf.model.layers)
            ]
        )
    for data in (few, all_of_them):
        chosen = data.where(data["kind"] == "neuron", drop=True).isel(prompt=0)
        for layer, unit, value in zip(
            chosen["part_layer"].values.astype(int),
            chosen["part_unit"].values.astype(int),
            chosen["contribution"].values,
        ):
            assert value == pytest.approx(float(slow[layer, unit]), abs=1e-6)
            assert f"neuron {layer}.{unit}" in chosen["part"].values
    largest = slow.abs().flatten().sort(descending=True).values[:6]
    chosen = few["contribution"].where(few["kind"] == "neuron", drop=True).isel(prompt=0)
    np.testing.assert_allclose(np.sort(np.abs(chosen.values))[::-1], largest.numpy(), atol=1e-6)


def test_neurons_are_taken_out_against_neurons_of_their_layers() -> None:
    result = direct_logit_attribution(double("gpt2"), tiny_task(), neurons=8, top=20, controls=6)
    (check,) = result.checks
    data = result.data.where(result.data["kind"].isin(["head", "neuron"]), drop=True)
    best = data["part"].values[data["contribution_mean"].values > 0].tolist()
    assert any(name.startswith("neuron") for name in best)
    assert all(name in check.claim for name in best)
    assert "neurons of the same layers" in check.how and check.n == 6


def test_experts_are_not_split_into_neurons_and_it_is_said() -> None:
    result = attributed(architecture("gpt_oss", torch.float32), neurons=5)
    assert not {"neuron", "neurons"} & set(result.data["kind"].values.tolist())
    assert any("the MLP is one part, for its neurons do not sum" in note for note in result.notes)


def test_without_answers_the_prediction_is_explained() -> None:
    model = double("gpt2")
    result = direct_logit_attribution(model, tiny_task().prompts[0], **FEW)
    assert result.metrics["logit"] == pytest.approx(
        float(model.run(tiny_task().prompts[0]).last_logits.max()), abs=1e-5
    )
    assert any("own most likely" in note for note in result.notes)


def test_maps_and_the_running_sum_agree_with_the_parts() -> None:
    result = attributed(architecture("gpt_neox", torch.float64))
    data = result.data
    for part, layer, head in zip(data["part"].values, data["part_layer"].values, data["part_head"].values, strict=True):
        if head >= 0:
            cell = float(data["head_contribution"].sel(layer=layer, head=head))
            assert cell == pytest.approx(float(data["contribution"].sel(part=part).mean()))
    ends = data["contribution"].where(data["kind"].isin(["norm_bias", "bias"]), drop=True).mean("prompt").sum()
    total = float(data["contribution"].mean("prompt").sum())
    # The sum over layers holds everything but what comes after the last of them is in it from the start.
    assert float(data["accumulated"][-1]) == pytest.approx(total)
    assert abs(float(ends)) > 0


@pytest.mark.parametrize("ablation", ["mean", "zero"])
def test_the_check_takes_out_what_writes_most(ablation: str) -> None:
    model = double("gpt2")
    result = direct_logit_attribution(model, tiny_task(), top=2, ablation=ablation, controls=6)
    (check,) = result.checks
    data = result.data.where(result.data["kind"].isin(["head", "mlp"]), drop=True)
    best = data["part"].values[np.argsort(-data["contribution_mean"].values)[:2]].tolist()
    assert ", ".join(best) in check.claim
    assert check.n == 6


@pytest.mark.real
def test_smollm2_s_name_mover_is_found_and_needed() -> None:
    import cutaway

    try:
        model = cutaway.open("smollm2")
    except cutaway.core.errors.ModelError as error:
        pytest.skip(f"SmolLM2 cannot be opened here: {error}")
    prompt = "When Mary and John went to the store, John gave a drink to"
    result = direct_logit_attribution(model, Task.from_prompts(prompt, answers=" Mary", wrong=" John"))
    assert result.data["largest"].values[0] == "head 23.3"
    assert result.metrics["completeness_gap"] < 1e-4
    assert result.checks[0].passed
