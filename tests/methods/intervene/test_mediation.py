"""Mediation against plain edited runs in double precision, and its laws."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.edit import patch, replace
from cutaway.core.errors import MethodError, TaskError
from cutaway.core.site import Site
from cutaway.core.task import Task
from cutaway.methods.cell_slopes import slopes_of_cells
from cutaway.methods.cells import cells_of
from cutaway.methods.intervene.mediation import joint_effects, mediation
from cutaway.methods.prompt_choice import part_of, where_preferred
from cutaway.models.metric import metric_of
from cutaway.models.model import Model
from cutaway.testing import tiny, tiny_task

BARE = {"controls": 0, "largest_set": 2}


@functools.cache
def double(family: Any) -> Model:
    model = tiny(family)
    model.hf.double()
    return model


def odds(logits: torch.Tensor, encoded: Any) -> torch.Tensor:
    """p(wrong) / p(answer) from the whole softmax, as the paper writes it."""
    p = logits.softmax(dim=-1)
    rows = range(len(encoded))
    return torch.stack([p[i, encoded.wrong_ids[i][0]] / p[i, encoded.answer_ids[i][0]] for i in rows])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_effects_are_ratios_of_odds_of_edited_runs(family: str) -> None:
    model, task = double(family), tiny_task().subset([0, 1])
    encoded = task.encode(model.tokenizer)
    sites = "z[1].head[*], mlp_out[2], pattern[0].head[3], mlp_out[1].unit[5]@subject, mlp_act[0].unit[7]"
    data = mediation(model, task, sites=sites, **BARE).data
    wholes = "z[1], mlp_out[1], mlp_out[2], pattern[0], mlp_act[0]"
    here = model.run(encoded, read=wholes)
    contrasts = [list(ids) for ids in encoded.contrast_ids]
    there = model.run(contrasts, read=wholes)
    base = odds(here.last_logits, encoded)
    total = odds(there.last_logits, encoded) / base - 1
    np.testing.assert_allclose(np.expm1(data["log_total_effect"]), total.numpy(), atol=1e-10)
    places = encoded.positions["subject"]
    for name in data["part"].values:
        site = Site.parse(str(name))
        if site.unit is not None and site.position is not None:
            rows = torch.arange(2)
            values = [run[site.whole][rows, list(places), site.unit] for run in (there, here)]
            named = {"subject": places}
            into, past = (replace(site, value) for value in values)
            changed = model.run(encoded, edit=into).last_logits
            held = model.run(contrasts, edit=past, positions=named).last_logits
        else:
            changed = model.run(encoded, edit=patch(site, there)).last_logits
            held = model.run(contrasts, edit=patch(site, here)).last_logits
        for array, run in (("log_indirect_effect", changed), ("log_direct_effect", held)):
            expected = odds(run, encoded) / base - 1
            np.testing.assert_allclose(
                np.expm1(data[array].sel(part=name)), expected.numpy(), atol=1e-6
            )  # softmax in single precision


@given(family=st.sampled_from(["llama", "gpt2"]), layer=st.integers(0, 2))
@settings(max_examples=6, deadline=None)
def test_everything_together_carries_the_whole_effect_and_leaves_none(family: str, layer: int) -> None:
    result = mediation(double(family), tiny_task(), sites=f"resid_pre[{layer}]", **BARE)
    data = result.data
    np.testing.assert_allclose(data["log_indirect_effect"].values[:, 0], data["log_total_effect"].values, atol=1e-10)
    np.testing.assert_allclose(data["log_direct_effect"].values[:, 0], 0.0, atol=1e-10)
    assert result.metrics["set_share_of_total"] == pytest.approx(1.0, abs=1e-5)


def test_the_direct_effect_past_nothing_is_the_total_effect() -> None:
    model = double("llama")
    encoded = tiny_task().encode(model.tokenizer)
    metric = metric_of(encoded)
    total = mediation(model, tiny_task(), sites="mlp_out[0]", **BARE).data["log_total_effect"].values
    np.testing.assert_allclose(joint_effects(model, encoded, metric, [[]], held=True)[0], total, atol=1e-5)
    np.testing.assert_allclose(joint_effects(model, encoded, metric, [[]])[0], 0.0, atol=1e-6)


def test_one_part_alone_is_a_set_of_one_and_sets_grow() -> None:
    model = double("gpt2")
    result = mediation(model, tiny_task(), largest_set=4, controls=0)
    data = result.data
    way = np.sign(float(data["log_total_effect"].mean()))
    mean = way * data["log_indirect_effect"].mean("prompt").values
    best = data["part"].values[np.argsort(-mean, kind="stable")[:4]]
    assert result.metrics["set"] == ", ".join(best)
    assert float(data["joint_effect"][0]) == pytest.approx(way * mean.max(), abs=1e-6)
    assert data.sizes["size"] == 4


def test_a_greedy_set_is_the_best_step_by_step() -> None:
    model = double("llama")
    encoded = tiny_task().encode(model.tokenizer)
    metric = metric_of(encoded)
    result = mediation(model, tiny_task(), sites="z[*].head[*]", search="greedy", largest_set=2, controls=0)
    first, second = (Site.parse(one) for one in str(result.metrics["set"]).split(", "))
    way = np.sign(float(result.data["log_total_effect"].mean()))
    mean = way * result.data["log_indirect_effect"].mean("prompt")
    options = [Site.parse(str(name)) for name in result.data["part"].values[np.argsort(-mean.values)[:8]]]
    pairs = [[first, one] for one in options if one != first]
    joint = way * joint_effects(model, encoded, metric, pairs).mean(axis=1)
    assert pairs[int(np.argmax(joint))][1] == second


def test_a_gradient_chooses_among_many_and_is_the_slope() -> None:
    model = double("llama")
    encoded = tiny_task().encode(model.tokenizer)
    metric = metric_of(encoded)
    cells = cells_of(model, "mlp_out[*].unit[*]@subject, z[1].head[*], pattern[0].head[2]", 20)
    slopes = slopes_of_cells(model, encoded, metric, cells)
    here, there = (model.run(ids, read="z[1]") for ids in (encoded, [list(i) for i in encoded.contrast_ids]))

    def moved(step: float) -> np.ndarray:
        nudged = here["z[1]"].clone()
        nudged[:, :, 3] += step * (there["z[1]"] - here["z[1]"])[:, :, 3]
        return metric(model.run(encoded, edit=replace("z[1]", nudged)).last_logits).numpy()

    # Llama's norms compute in single precision whatever the weights are: the step cannot be tiny.
    step = 0.01
    column = cells.index(Site("z", 1, head=3))
    np.testing.assert_allclose(slopes[:, column], (moved(step) - moved(-step)) / (2 * step), rtol=1e-2, atol=1e-3)
    result = mediation(model, tiny_task(), sites="mlp_out[*].unit[*]@subject", exact=7, **BARE)
    estimate = result.data["estimated_log_indirect_effect"]
    assert estimate.sizes["every_part"] == 96 and result.data.sizes["part"] == 7
    kept = estimate["every_part"].values[np.argsort(-np.abs(estimate.values))[:7]]
    assert set(kept) == set(result.data["part"].values)
    assert any("7 of 96 parts are measured" in note for note in result.notes)


def test_only_prompts_with_the_answer_in_the_lead_are_kept_where_asked() -> None:
    model = double("llama")
    encoded = tiny_task().encode(model.tokenizer)
    lead = metric_of(encoded)(model.run(encoded).last_logits)
    result = mediation(model, tiny_task(), preferred=True, **BARE)
    kept = [encoded.prompts[i] for i in range(4) if lead[i] > 0]
    assert 0 < len(kept) < 4
    assert result.data["prompt"].values.tolist() == kept
    assert (result.data["log_odds"] < 0).all()
    assert any(f"{len(kept)} of 4 prompts are kept" in note for note in result.notes)
    worst = part_of(encoded, [i for i in range(4) if lead[i] <= 0])
    with pytest.raises(TaskError, match="in none of the"):
        where_preferred(model, worst)


def test_a_part_of_a_task_is_its_prompts() -> None:
    encoded = tiny_task().encode(double("gpt2").tokenizer)
    part = part_of(encoded, [2, 0])
    assert part.prompts == (encoded.prompts[2], encoded.prompts[0])
    assert part.positions["subject"] == (encoded.positions["subject"][2], encoded.positions["subject"][0])
    assert part.contrast_ids == (encoded.contrast_ids[2], encoded.contrast_ids[0])


def test_the_check_tests_the_set_in_prompts_that_did_not_choose_it() -> None:
    model = double("gpt2")
    (check,) = mediation(model, tiny_task(), sites="z[*].head[*]", largest_set=2, controls=6).checks
    encoded = tiny_task().encode(model.tokenizer)
    data = mediation(model, tiny_task(), sites="z[*].head[*]", **BARE).data
    way = np.sign(float(data["log_total_effect"].mean()))
    mean = way * data["log_indirect_effect"].values[[0, 2]].mean(axis=0)
    best = [Site.parse(str(name)) for name in data["part"].values[np.argsort(-mean, kind="stable")[:2]]]
    tested = part_of(encoded, [1, 3])
    joint = joint_effects(model, tested, metric_of(tested), [best]).mean()
    assert check.measured == pytest.approx(way * joint, abs=1e-6) and check.n == 6


@pytest.mark.parametrize("rank_by", ["mean", "median", "log"])
def test_parts_are_ranked_as_asked(rank_by: str) -> None:
    result = mediation(double("llama"), tiny_task(), rank_by=rank_by, **BARE)
    logs = result.data["log_indirect_effect"].values
    way = np.sign(float(result.data["log_total_effect"].mean()))
    column = {
        "log": (way * logs).mean(axis=0),
        "mean": np.expm1(way * logs).mean(axis=0),
        "median": np.median(np.expm1(way * logs), axis=0),
    }[rank_by]
    assert result.metrics["part_with_largest_effect"] == result.data["part"].values[int(np.argmax(column))]


def test_what_has_no_odds_or_no_effect_is_refused() -> None:
    model, task = double("llama"), tiny_task()
    with pytest.raises(TaskError, match="has no wrong answers"):
        mediation(model, Task.from_prompts(task.prompts, contrasts=task.contrasts, answers=task.answers))
    with pytest.raises(MethodError, match="no contrasts"):
        mediation(model, Task.from_prompts(task.prompts, answers=task.answers, wrong=task.wrong))
    same = Task.from_prompts(task.prompts, contrasts=task.prompts, answers=task.answers, wrong=task.wrong)
    with pytest.raises(TaskError, match="have the same odds"):
        mediation(model, same)
