"""Taking parts out, against whole forward passes of a network with the part really gone."""

from __future__ import annotations

import copy
import functools
from typing import Any

import numpy as np
import pytest
import torch

from cutaway.core.edit import ablate as out_of
from cutaway.core.edit import replace
from cutaway.core.errors import ParameterError, PlanError, SiteError, TaskError
from cutaway.core.method import Method
from cutaway.core.task import Task
from cutaway.methods.intervene.ablate import ablate
from cutaway.models.metric import metric_of
from cutaway.models.model import Model
from cutaway.testing import tiny, tiny_task

FEW = {"controls": 5, "top": 2}


@functools.cache
def double(family: Any) -> Model:
    model = tiny(family)
    model.hf.double()
    return model


def test_zeroing_a_head_is_a_network_without_its_output_columns() -> None:
    model, task = double("llama"), tiny_task()
    data = ablate(model, task, sites="z[*].head[*]", how="zero", **FEW).data
    encoded = task.encode(model.tokenizer)
    for layer, head in ((0, 1), (1, 3), (2, 0)):
        without = copy.deepcopy(model.hf)
        weight = without.model.layers[layer].self_attn.o_proj.weight
        width = weight.shape[1] // 4
        with torch.no_grad():
            weight[:, head * width : (head + 1) * width] = 0
            logits = torch.stack([without(torch.tensor([ids])).logits[0, -1] for ids in encoded.ids])
        expected = metric_of(encoded)(logits).numpy() - data["metric"].values
        np.testing.assert_allclose(data["effect"].sel(part=f"z[{layer}].head[{head}]").values, expected, atol=1e-5)
        cell = float(data["effect_z"].sel(layer=layer, head=head))
        assert cell == pytest.approx(float(expected.mean()), abs=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("how", ["mean", "zero"])
@pytest.mark.parametrize(
    "sites",
    [
        "z[1].head[*], mlp_out[*], attn_out[0]@-1, resid_post[1]@subject",
        "mlp_act[2].unit[5:8], mlp_act[1].unit[3]@-1",
    ],
    ids=["heads and layers", "neurons"],
)
def test_each_part_is_what_a_plain_run_without_it_gives(family: str, how: Any, sites: str) -> None:
    model, task = double(family), tiny_task()
    encoded = task.encode(model.tokenizer)
    data = ablate(model, task, sites=sites, how=how, **FEW).data
    metric = metric_of(encoded)
    base = metric(model.run(encoded, logits="last").last_logits)
    for part in data["part"].values.tolist():
        logits = model.run(encoded, edit=out_of(part, how), logits="last", strict=True).last_logits
        expected = (metric(logits) - base).numpy()
        np.testing.assert_allclose(data["effect"].sel(part=part).values, expected, atol=2e-5, err_msg=part)


def test_together_and_by_layer_are_the_same_edits_at_once() -> None:
    model, task = double("gpt2"), tiny_task()
    encoded = task.encode(model.tokenizer)
    metric = metric_of(encoded)
    sites = "z[*].head[0], mlp_out[*]"
    base = metric(model.run(encoded, logits="last").last_logits)

    def effect(parts: list[str]) -> np.ndarray:
        edits = [out_of(part, "mean") for part in parts]
        return (metric(model.run(encoded, edit=edits, logits="last").last_logits) - base).numpy()

    whole = ablate(model, task, sites=sites, together=True, **FEW).data
    every = [part for layer in range(3) for part in (f"z[{layer}].head[0]", f"mlp_out[{layer}]")]
    np.testing.assert_allclose(whole["effect"].values[:, 0], effect(every), atol=2e-5)
    layers = ablate(model, task, sites=sites, by_layer=True, **FEW).data
    assert layers["part"].values.tolist() == ["layer 0", "layer 1", "layer 2"]
    np.testing.assert_allclose(layers["effect"].values[:, 1], effect(["z[1].head[0]", "mlp_out[1]"]), atol=2e-5)


def test_one_part_together_is_the_part_alone() -> None:
    model = double("llama")
    alone = ablate(model, tiny_task(), sites="z[1].head[2]", **FEW).data["effect"].values
    together = ablate(model, tiny_task(), sites="z[1].head[2]", together=True, **FEW).data["effect"].values
    np.testing.assert_allclose(alone, together, atol=2e-5)


@pytest.mark.parametrize("together", [False, True])
def test_resampling_takes_another_prompts_value(together: bool) -> None:
    model, task = double("llama"), tiny_task().subset([0, 1])  # two of one length: each gets the other's
    encoded = task.encode(model.tokenizer)
    data = ablate(model, task, sites="z[1].head[2]", how="resample", together=together, **FEW).data
    run = model.run([list(ids) for ids in reversed(encoded.ids)], read="z[1]")
    metric = metric_of(encoded)
    edited = metric(model.run(encoded, edit=replace("z[1].head[2]", run["z[1].head[2]"]), logits="last").last_logits)
    expected = edited - metric(model.run(encoded, logits="last").last_logits)
    np.testing.assert_allclose(data["effect"].values[:, 0], expected.numpy(), atol=2e-5)


def test_resampling_from_the_same_prompt_changes_nothing() -> None:
    model = double("llama")
    task = Task.from_prompts(["Mary met John and"] * 2, answers=" Mary", wrong=" John")
    data = ablate(model, task, sites="z[*].head[*], mlp_out[*]", how="resample", **FEW).data
    assert np.abs(data["effect"].values).max() < 1e-6


def test_a_lone_prompt_is_resampled_from_its_contrast_or_refused() -> None:
    model, lone = double("llama"), tiny_task().subset([0])
    assert np.abs(ablate(model, lone, how="resample", **FEW).data["effect"].values).max() > 0
    with pytest.raises(TaskError, match=r"only one of \d+ tokens.*Give contrasts, more prompts, or how=\"mean\""):
        ablate(model, Task.from_prompts("Mary met", answers=" John"), how="resample")


def test_positions_beyond_a_shorter_prompt_are_not_numbers() -> None:
    model, task = double("gpt2"), tiny_task()
    data = ablate(model, task, sites="resid_post[1]@*", how="zero", **FEW).data
    lengths = [len(ids) for ids in task.encode(model.tokenizer).ids]
    for prompt, length in enumerate(lengths):
        values = data["effect"].values[prompt]
        assert np.all(np.isfinite(values[:length]))
        assert np.all(np.isnan(values[length:]))
    assert data["effect_resid_post"].dims == ("position",)


def test_without_answers_it_measures_how_far_the_prediction_moves() -> None:
    model = double("llama")
    result = ablate(model, "Mary met John and", how="zero", **FEW)
    assert np.all(result.data["effect"].values >= -1e-6)
    assert any("how far the prediction moves" in note for note in result.notes)
    assert result.checks[0].unit == "nats of KL divergence"


def test_the_check_takes_the_largest_out_together() -> None:
    model, task = double("gpt2"), tiny_task()
    result = ablate(model, task, **FEW)
    (check,) = result.checks
    order = np.argsort(-np.abs(result.data["mean_effect"].values))[:2]
    best = result.data["part"].values[order].tolist()
    assert all(part in check.claim for part in best)
    encoded = task.encode(model.tokenizer)
    metric = metric_of(encoded)
    edits = [out_of(part, "mean") for part in best]
    change = metric(model.run(encoded, edit=edits, logits="last").last_logits) - metric(
        model.run(encoded, logits="last").last_logits
    )
    assert check.measured == pytest.approx(abs(float(change.mean())), abs=1e-5)


def test_when_nothing_else_is_left_it_says_so() -> None:
    result = ablate(double("llama"), tiny_task(), sites="mlp_out[*]", together=True, **FEW)
    assert any("too few other parts" in note for note in result.notes)
    assert not result.checks[0].passed


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"sites": "logits"}, PlanError, "cannot be changed as a part"),
        ({"sites": "z[9].head[0]"}, SiteError, "there are 3 layers"),
        ({"together": True, "by_layer": True}, ParameterError, "Leave one of them out"),
    ],
)
def test_what_cannot_be_taken_out_is_refused(options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        ablate(double("llama"), tiny_task(), **options)


def test_it_is_a_method_beside_the_edit_of_its_name() -> None:
    import cutaway

    assert isinstance(ablate, Method)
    assert cutaway.ablate is out_of
