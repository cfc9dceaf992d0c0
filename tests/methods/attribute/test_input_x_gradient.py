"""Input times gradient, against plain autograd; how far it is from the whole is said."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cutaway.core.task import Task
from cutaway.methods.attribute.input_x_gradient import input_x_gradient
from cutaway.models.model import Model
from cutaway.testing import tiny


def test_it_is_the_product_with_the_embedding(model: Model, task: Task) -> None:
    result = input_x_gradient(model, task, score="probability", controls=5)
    encoded = task.encode(model.tokenizer)
    for prompt, ids in enumerate(encoded.ids):
        leaf = model.hf.get_input_embeddings()(torch.tensor([ids])).detach().requires_grad_(True)
        value = model.hf(inputs_embeds=leaf).logits[0, -1].softmax(-1)[encoded.answer_ids[prompt][0]]
        expected = (torch.autograd.grad(value, leaf)[0] * leaf).sum(-1)[0].detach().numpy()
        found = result.data["attribution"].values[prompt]
        assert np.allclose(found[: len(ids)], expected, atol=1e-7)
        assert np.isnan(found[len(ids) :]).all()


def test_the_linearity_gap_is_what_the_attributions_miss(model: Model, one: Task) -> None:
    result = input_x_gradient(model, one, controls=5)
    total = float(result.data["attribution"].sum())
    change = float(result.data["change_from_zero"].values[0])
    assert result.metrics["linearity_gap"] == pytest.approx(abs(total - change), abs=1e-5)
    assert result.metrics["linearity_gap"] > 1e-3


def test_targets_of_a_continuation_have_rows_of_their_own(model: Model, one: Task) -> None:
    result = input_x_gradient(model, one, continuation=" Mary and John", controls=5)
    assert result.data["attribution"].sizes["target"] == 3
    assert result.data["target_token"].values[0].tolist() == [" Mary", " and", " John"]
    assert {view.kind for view in result.views} == {"heatmap", "tokens", "bars"}


def test_the_check_says_by_what_its_tokens_were_chosen() -> None:
    task = Task.from_prompts(["When Mary and John went"], answers=[" to"])
    (check,) = input_x_gradient(tiny("llama"), task, score="logit", controls=5).checks
    assert "of the tokens with the largest input × gradient (1 prediction)" in check.how
    assert "how far the logit" in check.how and "in nats" not in check.how
