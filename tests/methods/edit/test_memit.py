"""Many facts in several layers: what is missing shrinks, one layer without weight is exact, and batches are not sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.methods.edit.conftest import capital, double

from cutaway.core.errors import ParameterError
from cutaway.data.edit_requests import requests_of
from cutaway.methods.edit.memit import memit, write
from cutaway.methods.edit.target_value import Settings
from cutaway.models.trial import down_projection
from cutaway.testing import tiny, tiny_task
from cutaway.testing.traces import differences, trace

FEW: dict[str, Any] = {"controls": 0, "steps": 4, "contexts": 1, "unrelated": 1, "other_facts": 2}
SETTINGS = Settings(steps=4, bound=0.75)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_one_layer_and_one_fact_without_weight_is_exact(family: Any) -> None:
    model = double(family)
    requests, _ = requests_of(capital())
    matrix = down_projection(model, 1)
    moments = {1: torch.eye(matrix.weight.shape[-1], dtype=torch.float64)}
    _, missing = write(model, requests, [matrix], moments, ("",), SETTINGS, 1e-12)
    assert missing[0] == 1.0
    assert missing[-1] < 1e-6


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_less_weight_leaves_less_missing_for_many_facts(family: Any) -> None:
    model = double(family)
    requests, _ = requests_of(tiny_task())
    matrices = [down_projection(model, layer) for layer in (0, 1)]
    moments = {layer: torch.eye(matrices[0].weight.shape[-1], dtype=torch.float64) for layer in (0, 1)}
    left = [write(model, requests, matrices, moments, ("",), SETTINGS, weight)[1][-1] for weight in (10.0, 0.1, 1e-3)]
    assert left == sorted(left, reverse=True)
    assert left[-1] < 0.2


def test_every_layer_takes_its_share() -> None:
    model = double("llama")
    requests, _ = requests_of(tiny_task())
    matrices = [down_projection(model, layer) for layer in (0, 1)]
    moments = {layer: torch.eye(64, dtype=torch.float64) for layer in (0, 1)}
    changes, missing = write(model, requests, matrices, moments, ("",), SETTINGS, 1e-6)
    assert len(changes) == 2
    assert missing[0] > missing[1] > missing[2]


def test_a_batch_is_another_edit_than_a_sequence_and_nothing_is_left_behind() -> None:
    model = tiny("gpt2")
    before = trace(model)
    one = memit(model, tiny_task(), layers=(0, 1), **FEW)
    two = memit(model, tiny_task(), layers=(0, 1), order="sequential", **FEW)
    assert not list(differences(before, trace(model)))
    assert one.artifacts["weights"].id != two.artifacts["weights"].id
    assert one.data["missing"].shape == (1, 3)
    assert two.data["missing"].shape == (4, 3)
    assert np.isfinite(two.data["missing"].values).all()
    assert list(one.artifacts["weights"].about["parameters"]) == [
        down_projection(model, layer).name for layer in (0, 1)
    ]


def test_layers_are_checked() -> None:
    with pytest.raises(ParameterError, match=r"layers is 1,9;.*3 layers, 0 to 2"):
        memit(double("llama"), capital(), layers=(1, 9), **FEW)
