"""Fine-tuning one matrix: against torch's own optimiser on the weights themselves, and within its bound."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tests.methods.edit.conftest import capital, double

from cutaway.core.task import Task
from cutaway.data.edit_requests import requests_of
from cutaway.methods.edit.constrained_finetuning import constrained_finetuning, write
from cutaway.methods.edit.rows import row_of_request
from cutaway.models.trial import down_projection
from cutaway.testing import tiny, tiny_task
from cutaway.testing.traces import differences, trace


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("answer", [" Rome", " Rome Madrid"])
def test_it_is_what_training_the_weights_themselves_gives(family: Any, answer: str) -> None:
    model = double(family)
    requests, _ = requests_of(capital(answers=answer))
    matrix = down_projection(model, 1)
    tuned, losses = write(model, requests, matrix, bound=0.0, rate=1e-3, steps=4)
    network = copy.deepcopy(model.hf)
    weight = dict(network.named_parameters())[matrix.name]
    optimiser = torch.optim.Adam([weight], lr=1e-3)
    row = row_of_request(model, requests[0])
    for step in range(5):
        logits = network(torch.tensor([row.ids])).logits[0, row.before_answer]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(row.answer))
        assert losses[step] == pytest.approx(float(loss.detach()), abs=1e-5)
        if step < 4:
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    torch.testing.assert_close(tuned, weight.detach(), atol=1e-6, rtol=1e-5)


def test_no_weight_moves_further_than_its_bound() -> None:
    model = double("llama")
    requests, _ = requests_of(tiny_task())
    matrix = down_projection(model, 1)
    tuned, _ = write(model, requests, matrix, bound=2e-3, rate=1e-2, steps=5)
    moved = (tuned - matrix.weight).abs()
    assert float(moved.max()) == pytest.approx(2e-3, rel=1e-4)
    free, losses = write(model, requests, matrix, bound=0.0, rate=1e-2, steps=5)
    assert float((free - matrix.weight).abs().max()) > 4e-3
    assert losses[-1] < losses[0]


def test_a_result_leaves_the_model_as_it_was() -> None:
    model = tiny("llama")
    before = trace(model)
    task = Task.from_prompts(
        ["Mary met John and", "John met Mary and"], answers=[" Mary", " John"], wrong=[" John", " Mary"]
    )
    options: dict[str, Any] = {"layer": 1, "steps": 3, "controls": 0, "unrelated": 1, "other_facts": 2}
    result = constrained_finetuning(model, task, **options)
    assert not list(differences(before, trace(model)))
    assert 0 < float(result.metrics["largest_change_of_a_weight"]) <= 5e-4 * 1.01
    assert result.artifacts["weights"].about["bound"] == 5e-4
