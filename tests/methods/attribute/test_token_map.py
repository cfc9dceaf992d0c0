"""A map of tokens is a result also where a target has no attribution at all."""

from __future__ import annotations

import numpy as np
import pytest

from cutaway.core.task import Task
from cutaway.methods.attribute.targets import targets_of
from cutaway.methods.attribute.token_map import token_map
from cutaway.models.model import Model


@pytest.mark.parametrize(("missing", "token"), [((), 1), ((0,), 2), ((0, 1), None)])
def test_missing_rows_are_passed_over(model: Model, one: Task, missing: tuple[int, ...], token: int | None) -> None:
    targets = targets_of(model, one, "metric", 2, "", "")
    attribution = np.zeros((1, 2, len(targets.ids[0])))
    attribution[0, 0, 1], attribution[0, 1, 2] = 3.0, 5.0
    attribution[0, list(missing)] = np.nan
    result = token_map(model, targets, attribution, np.zeros((1, 2)), title="Size", check=None)
    if token is None:
        assert "largest_token" not in result.metrics
    else:
        assert result.metrics["largest_token"] == result.data["token"].values[0, token]
        assert result.metrics["largest_share"] == pytest.approx(1.0)
