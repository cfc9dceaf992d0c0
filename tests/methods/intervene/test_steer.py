"""Steering: the direction by hand, doses that must do what is known, side effects that are zero at dose zero."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from cutaway.core.edit import add
from cutaway.core.errors import MethodError, ParameterError
from cutaway.core.task import Task
from cutaway.data import corpora
from cutaway.methods.intervene.steer import steer
from cutaway.models.metric import metric_of
from cutaway.models.model import Model
from cutaway.testing.tiny import tiny, tiny_task

FEW = {"texts": 1, "controls": 5, "new_tokens": 2}


@pytest.fixture(params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest) -> Model:
    return tiny(request.param)


@pytest.fixture
def task() -> Task:
    return tiny_task()


def test_with_one_pair_a_dose_of_one_at_the_last_layer_is_the_prompt(model: Model, task: Task) -> None:
    """Contrast's stream + (prompt's - contrast's) = the prompt's, and nothing comes after the last layer."""
    for number in range(len(task)):
        one = task.subset([number])
        result = steer(model, one, layer=model.anatomy.n_layers - 1, where="last", doses=(0.0, 1.0), **FEW)
        own = metric_of(one.encode(model.tokenizer))(model.run(one, logits="last").last_logits)
        steered = result.data["metric"].values[0]
        assert steered == pytest.approx([result.data["unsteered_metric"].values[0], own.item()], abs=1e-3)
        assert any("1 pair: the direction is tried on what it was taken from" in note for note in result.notes)


def test_the_direction_is_the_mean_difference_of_one_half(model: Model, task: Task) -> None:
    result = steer(model, task, layer=1, doses=(-1.0, 0.0, 2.0), **FEW)
    encoded = task.encode(model.tokenizer)
    site = "resid_post[1]@-1"
    prompts, contrasts = (
        model.run([list(i) for i in ids], read=site)[site] for ids in (encoded.ids, encoded.contrast_ids)
    )
    first, second = (prompts - contrasts)[[0, 2]]
    direction = (first + second) / 2
    cosine = torch.nn.functional.cosine_similarity(first, second, dim=0).item()
    assert result.metrics["agreement_of_pairs"] == pytest.approx(cosine, abs=1e-4)
    assert result.metrics["direction_norm"] == pytest.approx(float(direction.norm()), rel=1e-4)
    metric = metric_of(encoded)
    for column, dose in enumerate((-1.0, 0.0, 2.0)):
        for row, pair in enumerate((1, 3)):
            run = model.run([list(encoded.contrast_ids[pair])], edit=add("resid_post[1]", direction, scale=dose))
            expected = float(metric.for_rows([pair])(run.last_logits))
            assert result.data["metric"].values[row, column] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("where", ["all", "last"])
def test_the_side_effect_is_the_rise_of_the_loss(model: Model, task: Task, where: str) -> None:
    doses = (0.0, 3.0)
    result = steer(model, task, layer=0, where=where, doses=doses, texts=2, controls=5, new_tokens=1)
    found = result.data["loss_increase"].values
    assert found[0] == pytest.approx(0.0, abs=1e-5) and abs(found[1]) > 1e-4
    total, count = 0.0, 0
    for text in corpora.plain_text(2, 0):
        ids = model.encode(text)[:64]
        first = 0 if where == "all" else len(ids) // 2
        with torch.no_grad():
            log = model.hf(torch.tensor([ids])).logits[0].log_softmax(-1)
        total -= sum(float(log[place, ids[place + 1]]) for place in range(first, len(ids) - 1))
        count += len(ids) - 1 - first
    assert result.metrics["loss_on_plain_text"] == pytest.approx(total / count, rel=1e-4)


def test_doses_may_come_in_any_order(model: Model, task: Task) -> None:
    result = steer(model, task, doses=(2.0, -1.0, 0.0), **FEW)
    sorted_one = steer(model, task, doses=(-1.0, 0.0, 2.0), **FEW)
    assert result.data["dose"].values.tolist() == [-1.0, 0.0, 2.0]
    assert np.allclose(result.data["metric"], sorted_one.data["metric"], atol=1e-5)
    assert result.checks[0].measured == pytest.approx(sorted_one.checks[0].measured, abs=1e-5)


def test_what_is_written_at_no_dose_is_what_the_model_writes(model: Model, task: Task) -> None:
    result = steer(model, task, doses=(-3.0, 0.0, 3.0), texts=1, controls=5, new_tokens=4)
    assert result.data["sample_dose"].values.tolist() == [-3.0, 0.0, 3.0]
    contrast = list(task.encode(model.tokenizer).contrast_ids[1])
    assert str(result.data["written"].values[1]) == model.generate([contrast], max_new_tokens=4).texts[0]


def test_the_control_is_directions_of_the_same_length(model: Model, task: Task) -> None:
    result = steer(model, task, doses=(0.0, 4.0), **FEW)
    (check,) = result.checks
    assert check.n == 5 and check.interval[0] < check.interval[1]
    moved = float((result.data["metric"].sel(dose=4.0) - result.data["unsteered_metric"]).mean())
    assert check.measured == pytest.approx(moved, abs=1e-5)
    other = steer(model, task, doses=(0.0, 4.0), seed=1, **FEW).checks[0]
    assert other.interval != check.interval and other.measured == pytest.approx(check.measured, abs=1e-5)


def test_pairs_that_point_opposite_ways_are_said(model: Model, task: Task) -> None:
    """A pair and the same pair turned round have no common direction."""
    turned = dataclasses.replace(
        task.subset([0, 1, 0, 1]),
        prompts=(task.prompts[0], task.prompts[1], task.contrasts[0], task.contrasts[1]),
        contrasts=(task.contrasts[0], task.contrasts[1], task.prompts[0], task.prompts[1]),
        positions={},
    )
    result = steer(model, turned, **FEW)
    assert result.metrics["agreement_of_pairs"] == pytest.approx(-1, abs=1e-4)
    assert any("The pairs do not point the same way (mean cosine -1.00)" in note for note in result.notes)


def test_refusals(task: Task) -> None:
    model = tiny("llama")
    with pytest.raises(ParameterError, match=r"layer is 3; tiny-llama has 3 layers, 0 to 2. Write layer=1"):
        steer(model, task, layer=3)
    with pytest.raises(ParameterError, match="'doses'"):
        steer(model, task, doses=(1.0,))
    with pytest.raises(MethodError, match="has no contrasts"):
        steer(model, dataclasses.replace(task, contrasts=(), contrast_positions={}))
    with pytest.raises(MethodError, match="cannot run"):
        steer(tiny("bert"), task)
