"""Shapes in signatures are looked at in tests (see `tests/conftest.py`)."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from cutaway.models.metric import Metric
from cutaway.testing import tiny


def test_a_wrong_shape_is_refused_in_the_library_itself() -> None:
    metric = Metric("log_probability", ((1,),))
    assert metric(torch.zeros(1, 5)).shape == (1,)
    with pytest.raises(TypeCheckError):
        metric(torch.zeros(1, 2, 5))


def test_axes_of_one_name_are_equally_long() -> None:
    model = tiny("llama")
    width = model.anatomy.d_model
    assert model.final_norm.linear(torch.zeros(3, width), torch.ones(3, 1)).shape == (3, width)
    with pytest.raises(TypeCheckError):
        model.final_norm.linear(torch.zeros(3, width), torch.ones(2, 1))
