"""Backup: the split of a change after ablation adds up, and its terms are those of plain runs."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.edit import replace
from cutaway.core.errors import MethodError, ParameterError, TaskError
from cutaway.core.task import Task
from cutaway.methods.intervene.backup import backup
from cutaway.models.metric import metric_of
from cutaway.models.model import Model
from cutaway.testing import tiny, tiny_task


@functools.cache
def double(family: Any) -> Model:
    model = tiny(family)
    model.hf.double()
    return model


@given(
    family=st.sampled_from(["llama", "gpt2"]),
    how=st.sampled_from(["mean", "zero", "resample"]),
    layer=st.integers(0, 2),
    head=st.integers(0, 3),
)
@settings(max_examples=12, deadline=None)
def test_the_terms_add_up_to_the_change_of_the_models_own_logits(family: str, how: str, layer: int, head: int) -> None:
    model, task = double(family), tiny_task()
    result = backup(model, task, head=f"{layer}.{head}", how=how, controls=0)
    terms = result.data["change_by_term"]
    parts = terms.sel(term=["the head itself", "other heads", "MLPs and the rest", "the final norm"]).sum("term")
    np.testing.assert_allclose(parts.values, terms.sel(term="total").values, atol=1e-9)
    encoded = task.encode(model.tokenizer)
    metric = metric_of(encoded)
    run = model.run(encoded, read="z[*]@-1, z[*]")
    here = run[f"z[{layer}]@-1"][:, head]
    if how == "zero":
        value = torch.zeros_like(here[:1])
    elif how == "mean":
        whole = run[f"z[{layer}]"]
        value = torch.cat([whole[row, :n, head] for row, n in enumerate(run.lengths)]).mean(dim=0, keepdim=True)
    else:
        order = np.random.default_rng(0).permutation(len(here))
        other = np.empty_like(order)
        other[order] = np.roll(order, 1)
        assert (other != np.arange(len(here))).all()
        value = here[torch.from_numpy(other)]
    without = model.run(encoded, edit=replace(f"z[{layer}].head[{head}]@-1", value))
    moved = metric(without.last_logits) - metric(run.last_logits)
    np.testing.assert_allclose(terms.sel(term="total").values, moved.numpy(), atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_earlier_parts_do_not_change_and_later_ones_are_their_difference(family: str) -> None:
    model, task = double(family), tiny_task()
    result = backup(model, task, head="1.2", how="zero", controls=0)
    repair = result.data["repair"]
    before = [name for name in repair["part"].values if name.startswith(("head 0.", "mlp 0", "embedding"))]
    assert before and np.abs(repair.sel(part=before)).max() < 1e-12
    assert np.abs(repair.sel(part=["head 1.0", "head 1.3"])).max() < 1e-12  # heads of one layer do not see each other
    assert float(np.abs(repair.sel(part="head 2.0")).max()) > 1e-6
    encoded = task.encode(model.tokenizer)
    direction = model.W_U.detach().double()
    clean = model.run(encoded, read="mlp_contrib[2]@-1, resid_post[2]@-1")
    edit = replace("z[1].head[2]@-1", torch.zeros(1, 8))
    changed = model.run(encoded, read="mlp_contrib[2]@-1", edit=edit)
    norm = model.final_norm
    scale = norm.scale(clean["resid_post[2]@-1"])
    difference = changed["mlp_contrib[2]@-1"] - clean["mlp_contrib[2]@-1"]
    rows = range(len(encoded))
    along = torch.stack([direction[:, encoded.answer_ids[i][0]] - direction[:, encoded.wrong_ids[i][0]] for i in rows])
    expected = (norm.linear(difference, scale) * along).sum(dim=-1)
    np.testing.assert_allclose(repair.sel(part="mlp 2").values, expected.detach().numpy(), atol=1e-6)


def test_the_direct_effect_lost_is_the_heads_contribution_when_zero_is_put_in() -> None:
    from cutaway.methods.observe.direct_logit_attribution import direct_logit_attribution

    model, task = double("gpt2"), tiny_task()
    found = direct_logit_attribution(model, task, controls=0)
    for name in ("head 0.1", "head 2.3"):
        result = backup(model, task, head=name.removeprefix("head "), how="zero", controls=0)
        expected = float(found.data["contribution"].sel(part=name).mean())
        assert result.metrics["direct_effect_lost"] == pytest.approx(expected, abs=1e-9)
    heads = found.data["contribution"].mean("prompt")
    names = [str(name) for name in heads["part"].values if str(name).startswith("head")]
    best = max(names, key=lambda name: float(heads.sel(part=name)))
    assert backup(model, task, controls=0).metrics["head"] == best


def test_shares_are_ratios_of_means_and_the_map_begins_at_the_heads_layer() -> None:
    result = backup(double("llama"), tiny_task(), head="z[1].head[0]", controls=0)
    metrics, terms = result.metrics, result.data["change_by_term"].mean("prompt")
    repaired = float(metrics["repaired_by_parts"])
    assert repaired == pytest.approx(float(terms.sel(term=["other heads", "MLPs and the rest"]).sum()), abs=1e-12)
    lost = float(metrics["direct_effect_lost"])
    assert metrics["share_repaired_by_parts"] == pytest.approx(repaired / lost)
    assert metrics["share_repaired"] == pytest.approx(1 - float(metrics["logit_lost"]) / lost)
    assert np.isnan(result.data["head_repair"].values[0]).all() and result.data["head_repair"].values[1, 0] == 0


def test_the_check_compares_with_random_heads() -> None:
    result = backup(double("gpt2"), tiny_task(), head="0.1", controls=6)
    (check,) = result.checks
    assert check.n == 6 and result.data.sizes["tested"] == 7
    way = np.sign(float(result.metrics["direct_effect_lost"]))
    assert check.measured == pytest.approx(way * float(result.metrics["repaired_by_parts"]))
    assert result.data["tested_head"].values[0] == "head 0.1"
    assert "head 0.1" not in result.data["tested_head"].values[1:]
    assert not any(str(name).startswith("head 2.") for name in result.data["tested_head"].values[1:])


def test_heads_that_are_not_there_and_single_prompts_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"from 0\.0 to 2\.3"):
        backup(double("llama"), tiny_task(), head="3.0")
    with pytest.raises(ParameterError, match="head is 'nine'"):
        backup(double("llama"), tiny_task(), head="nine")
    with pytest.raises(TaskError, match="the task has one prompt"):
        backup(double("llama"), tiny_task().subset([0]), how="resample")
    with pytest.raises(MethodError, match="unembedding"):
        backup(tiny("bert"), tiny_task())


def test_without_answers_the_own_prediction_is_taken() -> None:
    result = backup(double("llama"), Task.from_prompts(tiny_task().prompts), against="mean", controls=0)
    assert any("most likely next token" in note for note in result.notes)
