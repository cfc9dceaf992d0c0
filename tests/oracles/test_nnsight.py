"""Our patching equals nnsight's, which runs the same module with values put in by hand, to 1e-4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.peers, pytest.mark.real]


@pytest.mark.parametrize("way", ["loop", "invokes"])
def test_patching_grid_equals_nnsight(start: Callable[[str], Any], tokenizer: Any, way: str) -> None:
    from bench.grid import by_cell, ordered, spec
    from bench.prompts import pair

    asked = pair(tokenizer)
    cells = [[layer, position] for layer in (0, 11, 23, 29) for position in (8, 9, 13)]
    found = by_cell(start("ours").ask("sweep", over="resid_pre[*]@*", pair=spec(asked), values=True))
    theirs = start("nnsight").ask("grid", **asked.arguments, cells=cells, way=way, values=True).values["values"]

    assert np.abs(ordered(found, cells) - theirs).max() < 1e-4
    assert theirs.max() - theirs.min() > 5
