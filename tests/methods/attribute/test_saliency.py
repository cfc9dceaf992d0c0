"""Saliency is the size of the gradient: against plain autograd, and against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cutaway.core.errors import MethodError, ParameterError
from cutaway.core.task import Task
from cutaway.methods.attribute.saliency import saliency
from cutaway.models.model import Model
from cutaway.testing.tiny import tiny


def logit_difference(model: Model, task: Task, prompt: int, embeddings: Tensor) -> Tensor:
    encoded = task.encode(model.tokenizer)
    logits = model.hf(inputs_embeds=embeddings[None]).logits[0, -1]
    return logits[encoded.answer_ids[prompt][0]] - logits[encoded.wrong_ids[prompt][0]]


def embedded(model: Model, task: Task, prompt: int) -> Tensor:
    ids = torch.tensor(task.encode(model.tokenizer).ids[prompt])
    return model.hf.get_input_embeddings()(ids).detach()


SIZES = {
    "l2": lambda gradient: gradient.norm(dim=-1),
    "l1": lambda gradient: gradient.abs().sum(-1),
    "max": lambda gradient: gradient.abs().amax(-1),
}


@pytest.mark.parametrize("norm", SIZES)
def test_it_is_the_size_of_the_gradient(model: Model, task: Task, norm: str) -> None:
    result = saliency(model, task, norm=norm, controls=5)
    for prompt in range(len(task)):
        leaf = embedded(model, task, prompt).requires_grad_(True)
        value = logit_difference(model, task, prompt, leaf)
        (gradient,) = torch.autograd.grad(value, leaf)
        found = result.data["attribution"].values[prompt]
        # Llama's norm works in single precision whatever the weights are.
        assert np.allclose(found[: len(gradient)], SIZES[norm](gradient).numpy(), rtol=1e-4)
        assert np.isnan(found[len(gradient) :]).all()
        assert result.data["score"].values[prompt] == pytest.approx(value.item(), rel=1e-6)


def test_it_agrees_with_finite_differences(model: Model, one: Task) -> None:
    found = saliency(model, one, norm="max", controls=5).data["attribution"].values[0]
    # Llama's norm works in single precision whatever the weights are.
    x, step = embedded(model, one, 0), 1e-2 if "llama" in model.name else 1e-5
    for position in (0, len(x) - 2, len(x) - 1):
        slopes = []
        with torch.no_grad():
            for unit in range(x.shape[1]):
                moved = [x.clone(), x.clone()]
                moved[0][position, unit] += step
                moved[1][position, unit] -= step
                up, down = (float(logit_difference(model, one, 0, each)) for each in moved)
                slopes.append(abs(up - down) / (2 * step))
        assert found[position] == pytest.approx(max(slopes), rel=2e-3)


def test_every_token_of_a_continuation_is_explained(model: Model, one: Task) -> None:
    result = saliency(model, one, generate=3, controls=5)
    attribution = result.data["attribution"]
    length = len(one.encode(model.tokenizer).ids[0])
    assert attribution.dims == ("prompt", "target", "position")
    for target in range(3):
        row = attribution.values[0, target]
        assert np.isfinite(row[: length + target]).all() and np.isnan(row[length + target :]).all()
    assert any("log-probability" in note for note in result.notes)


def test_it_says_what_it_found(model: Model, task: Task) -> None:
    result = saliency(model, task)
    attribution = result.data["attribution"].values[0]
    assert result.metrics["largest_token"] == result.data["token"].values[0, np.nanargmax(attribution)]
    assert result.metrics["scored"] == "logit_difference"
    assert str(result.data["target_token"].values[0]) == " Mary −  John"
    assert {view.kind for view in result.views} == {"tokens", "bars"}
    (check,) = result.checks
    assert check.n == 20 and "moves" in check.how


def test_refusals(task: Task) -> None:
    model = tiny("llama")
    with pytest.raises(ParameterError, match="'norm'"):
        saliency(model, task, norm="l3")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="Leave one of them out"):
        saliency(model, task, generate=2, continuation=" and so")
    with pytest.raises(MethodError, match="unembedding"):
        saliency(tiny("bert"), task)


def test_the_check_says_by_what_its_tokens_were_chosen() -> None:
    task = Task.from_prompts(["When Mary and John went"], answers=[" to"])
    (check,) = saliency(tiny("llama"), task, score="logit", controls=5).checks
    assert "of the tokens with the largest gradients (1 prediction)" in check.how
    assert "how far the logit" in check.how and "in nats" not in check.how
