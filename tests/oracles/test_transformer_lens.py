"""Our patching equals TransformerLens's, cell by cell, to 1e-4: another implementation of one definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.peers, pytest.mark.real]

Start = Callable[[str], Any]
TOLERANCE = 1e-4


def ours_and_theirs(start: Start, pair: Any, cells: list[list[int]]) -> tuple[np.ndarray, np.ndarray, Any]:
    """Our values and theirs in the order of the cells, and our values of the whole grid by cell."""
    from bench.grid import by_cell, ordered, spec

    found = by_cell(start("ours").ask("sweep", over="resid_pre[*]@*", pair=spec(pair), values=True))
    theirs = start("transformer_lens").ask("grid", **pair.arguments, cells=cells, values=True)
    return ordered(found, cells), theirs.values["values"], found


@pytest.mark.parametrize("from_start", [False, True], ids=["one token differs", "differs from the first on"])
def test_patching_grid_equals_transformer_lens(start: Start, tokenizer: Any, from_start: bool) -> None:
    from bench.prompts import pair

    asked = pair(tokenizer, from_start=from_start)
    cells = [[layer, position] for layer in range(0, 30, 5) for position in (0, 1, 4, 9, 12, 13)]
    ours, theirs, found = ours_and_theirs(start, asked, cells)

    assert len(found) == 30 * 14
    assert np.abs(ours - theirs).max() < TOLERANCE
    # The grid is not flat: patching the changed name early on turns the answer round.
    assert theirs.max() - theirs.min() > 5


def test_head_patching_equals_transformer_lens(start: Start, tokenizer: Any) -> None:
    from bench.grid import by_cell, spec
    from bench.prompts import pair

    asked = pair(tokenizer)
    found = by_cell(start("ours").ask("sweep", over="z[*].head[*]@-1", pair=spec(asked), values=True))
    ours = np.array([value for (_, _, _), value in sorted(found.items(), key=lambda item: (item[0][0], item[0][2]))])
    theirs = start("transformer_lens").ask("heads", **asked.arguments, values=True).values["values"]

    assert ours.shape == theirs.shape == (270,)
    assert np.abs(ours - theirs).max() < TOLERANCE
    assert theirs.std() > 0.01


def test_read_values_equal_transformer_lens(start: Start, tokenizer: Any) -> None:
    from bench.prompts import pair

    ids = list(pair(tokenizer).source_ids)
    ours = start("ours").ask("read", ids=ids, values=True).values
    theirs = start("transformer_lens").ask("cache", ids=ids, only=True, values=True).values

    for name in ("resid", "z"):
        assert ours[name].shape == theirs[name].shape
        scale = np.abs(theirs[name]).max()
        assert np.abs(ours[name] - theirs[name]).max() < TOLERANCE * scale


def test_lens_equals_transformer_lens(start: Start, tokenizer: Any) -> None:
    from bench.prompts import pair, text_of

    ids = list(pair(tokenizer, 64).source_ids)
    ours = start("ours").ask("lens", ids=ids, text=text_of(tokenizer, ids), values=True).values
    theirs = start("transformer_lens").ask("lens", ids=ids, every=True, values=True).values

    for name in ("probability", "answer", "entropy", "divergence"):
        assert ours[name].shape == theirs[name].shape, name
        assert np.abs(ours[name] - theirs[name]).max() < 2e-3, name
    assert np.abs(ours["probability"] - theirs["probability"]).max() < TOLERANCE
    assert (ours["top"] == theirs["top"]).mean() > 0.99  # equal scores may change places
    assert theirs["divergence"].max() > 1
