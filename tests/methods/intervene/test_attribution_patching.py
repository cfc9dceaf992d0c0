"""Attribution patching: exact where the network is straight, and honest about its error where it is not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from cutaway.core.errors import MethodError, SiteError, TaskError
from cutaway.core.task import Task
from cutaway.methods.intervene.attribution_patching import attribution_patching
from cutaway.models.metric import metric_of
from cutaway.models.model import Model
from cutaway.testing.tiny import tiny, tiny_task


@pytest.fixture(params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest) -> Model:
    found = tiny(request.param)
    found.hf.double()
    return found


@pytest.fixture
def task() -> Task:
    return tiny_task()


def without_final_norm() -> Model:
    hf = tiny("gpt2").hf
    hf.transformer.ln_f = torch.nn.Identity()
    return Model(hf.double(), tiny("gpt2").tokenizer, name="gpt2 without a final norm")


@pytest.mark.parametrize("sites", ["resid_post[-1]@*", "z[-1].head[*]", "mlp_out[-1]@end"])
@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_it_is_exact_where_nothing_is_curved(task: Task, sites: str, direction: str) -> None:
    """Behind the last layer a logit difference is linear when there is no final norm."""
    straight = without_final_norm()
    if sites.startswith("z"):
        torch.nn.init.zeros_(straight.hf.transformer.h[-1].mlp.c_fc.weight)  # the last MLP sees no attention
    result = attribution_patching(straight, task, sites=sites, direction=direction, sample=30)
    assert np.allclose(result.data["estimated"], result.data["exact"], atol=1e-9)
    assert np.abs(result.data["exact"].values).max() > 1e-3
    assert result.metrics["error"] < 1e-9
    if result.metrics["cells"] > 2:
        assert result.metrics["correlation"] == pytest.approx(1) and result.metrics["slope"] == pytest.approx(1)


def test_it_is_the_product_of_difference_and_gradient(model: Model, task: Task) -> None:
    cells = "z[*].head[*]@*, mlp_act[1].unit[3]@5, resid_mid[2]@subject"
    result = attribution_patching(model, task, sites=cells, sample=5)
    encoded = task.encode(model.tokenizer)
    metric = metric_of(encoded)
    changes = dict(zip(result.data["cell"].values, result.data["estimated_change"].values.T, strict=True))
    for prompt in range(len(task)):
        ids, other = list(encoded.ids[prompt]), list(encoded.contrast_ids[prompt])
        sites = "z[1], mlp_act[1], resid_mid[2]"
        grad = model.grad([other], metric.for_rows([prompt]).__call__, at=sites)
        here, there = model.run([other], read=sites), model.run([ids], read=sites)

        def product(site: str) -> torch.Tensor:
            return (there[site] - here[site]) * grad.grad(site)  # noqa: B023

        z = product("z[1]")[0].sum(-1)
        assert changes["z[1].head[2]@4"][prompt] == pytest.approx(float(z[4, 2]), abs=1e-6)
        neuron = float(product("mlp_act[1]")[0, 5, 3])
        assert changes["mlp_act[1].unit[3]@5"][prompt] == pytest.approx(neuron, abs=1e-6)
        place = encoded.positions["subject"][prompt]
        stream = float(product("resid_mid[2]")[0, place].sum())
        assert changes["resid_mid[2]@subject"][prompt] == pytest.approx(stream, abs=1e-6)


def test_the_exact_effects_are_those_of_patching(model: Model, task: Task) -> None:
    result = attribution_patching(model, task, sites="resid_pre[*]@*", top=4, sample=6)
    encoded = task.encode(model.tokenizer)
    cells = list(dict.fromkeys(str(cell) for cell in result.data["tested_cell"].values))
    sweep = model.sweep(encoded, over=cells, strict=True)
    moved = (sweep.values - sweep.base[:, None]).nan_to_num().mean(0) / (sweep.source - sweep.base).mean()
    expected = dict(zip(cells, moved.tolist(), strict=True))
    for cell, exact in zip(result.data["tested_cell"].values, result.data["exact"].values, strict=True):
        assert exact == pytest.approx(expected[str(cell)], abs=1e-5)
    assert (result.data["chosen"].values == "largest").sum() == 4


def test_a_gradient_along_the_way_adds_up(task: Task) -> None:
    """With many steps the estimates of all tokens' embeddings sum to the difference, as integrated gradients do."""
    model = tiny("gpt2")
    model.hf.double()
    result = attribution_patching(model, task, sites="resid_pre[0]@*", steps=50, sample=5)
    one = attribution_patching(model, task, sites="resid_pre[0]@*", steps=1, sample=5)
    difference = result.data["source_metric"] - result.data["base_metric"]
    gap, rough = (np.abs(each.data["estimated_change"].sum("cell") - difference).max() for each in (result, one))
    assert gap < 0.02 and gap < rough / 5


def test_shorter_prompts_have_no_later_positions(model: Model, task: Task) -> None:
    result = attribution_patching(model, task, sites="resid_pre[0]@*", sample=5)
    encoded = task.encode(model.tokenizer)
    for prompt, ids in enumerate(encoded.ids):
        row = result.data["estimated_change"].values[prompt]
        assert np.isfinite(row[: len(ids)]).all() and np.isnan(row[len(ids) :]).all()


def test_both_claims_are_tested(model: Model, task: Task) -> None:
    result = attribution_patching(model, task, sites="resid_pre[*]@*", sample=30)
    follows, matters = result.checks
    assert follows.measured == pytest.approx(result.metrics["correlation"])
    assert follows.interval[0] < 0 < follows.interval[1]
    assert matters.measured > 0 and matters.n == follows.n == 200
    assert {view.kind for view in result.views} == {"heatmap", "scatter", "table"}


def test_a_metric_in_steps_is_replaced(task: Task) -> None:
    result = attribution_patching(tiny("llama"), dataclasses.replace(task, metric="accuracy"), sample=5)
    assert any("The metric accuracy has no gradient" in note for note in result.notes)


def test_refusals(task: Task) -> None:
    model = tiny("llama")
    with pytest.raises(MethodError, match="has no contrasts"):
        attribution_patching(model, dataclasses.replace(task, contrasts=(), contrast_positions={}))
    with pytest.raises(MethodError, match="has no answers"):
        attribution_patching(model, dataclasses.replace(task, answers=(), wrong=(), metric="kl"))
    with pytest.raises(SiteError, match="resid_post"):
        attribution_patching(model, task, sites="resid_pst[*]")
    with pytest.raises(TaskError, match="prompts and contrasts score alike"):
        attribution_patching(model, dataclasses.replace(task, contrasts=task.prompts, contrast_positions={}))
