"""Do the pages join tokens as `aggregated` does? Both are held to the same written cases.

`CUTAWAY_DOCS=write` writes the cases anew.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from cutaway.core.result import Result
from cutaway.methods.attribution_aggregation import By, How, aggregated

WRITTEN = Path(__file__).parents[2] / "frontend/src/parts/attribution/fixtures/pieces.json"
TEXTS = (
    ["The", " cat", "fish", ",", " she", " ", "sang", "."],
    ["Un", "believ", "able", "!", '"', " He", "’", "s", " 2", "7", "\n", "Ω", "mega", " 日", "本", "。", " é", "té"],
    ["one", "_", "two", "\n\n", "three", "...", "”", " four", "?", "\U0001d400", "b", "²", "c"],
    [" alone"],
)
BY: tuple[By, ...] = ("token", "word", "sentence")
HOW: tuple[How, ...] = ("sum", "mean", "absmax", "l2")
SPANS = ((1, 3), (4, 7))


def _map(tokens: list[str], values: Any) -> Result:
    data = xr.Dataset(
        {"attribution": (("prompt", "position"), np.array([values]))},
        coords={
            "prompt": ["text"],
            "token": (("prompt", "position"), np.array([tokens], dtype=object)),
            "target_token": (("prompt",), np.array([" next"], dtype=object)),
        },
    )
    return Result(data=data)


def _said(result: Result) -> dict[str, Any]:
    values = [None if math.isnan(value) else value for value in result.data["attribution"].values[0].tolist()]
    return {"texts": [str(text) for text in result.data["token"].values[0]], "values": values}


def _cases() -> list[dict[str, Any]]:
    draw = np.random.default_rng(0)
    cases = []
    for tokens in TEXTS:
        values = np.round(draw.normal(size=len(tokens)), 3)
        values[-1 if len(tokens) > 1 else len(tokens) :] = np.nan
        result = _map(tokens, values)
        joins = [
            {"by": by, "how": how, "spans": [], **_said(aggregated(result, by=by, how=how))} for by in BY for how in HOW
        ]
        if len(tokens) >= SPANS[-1][1]:
            named = {"".join(tokens[start:end]): (start, end) for start, end in SPANS}
            joins.append({"by": "token", "how": "sum", "spans": SPANS, **_said(aggregated(result, spans=named))})
        given = [None if math.isnan(value) else value for value in values.tolist()]
        cases.append({"tokens": tokens, "values": given, "joins": joins})
    return cases


def test_the_pages_are_held_to_what_python_says() -> None:
    if not WRITTEN.parents[2].is_dir():
        pytest.skip("the sources of the front end are not here, as in an sdist")
    found = json.loads(json.dumps(_cases()))
    if os.environ.get("CUTAWAY_DOCS") == "write":
        WRITTEN.parent.mkdir(exist_ok=True)
        WRITTEN.write_text(json.dumps(found, ensure_ascii=True) + "\n", encoding="utf-8")
    written = json.loads(WRITTEN.read_text(encoding="utf-8"))
    for case, known in zip(found, written, strict=True):
        assert case["tokens"] == known["tokens"]
        for join, old in zip(case["joins"], known["joins"], strict=True):
            assert join["texts"] == old["texts"]
            assert [value is None for value in join["values"]] == [value is None for value in old["values"]]
            assert [v for v in join["values"] if v is not None] == pytest.approx(
                [v for v in old["values"] if v is not None]
            )
