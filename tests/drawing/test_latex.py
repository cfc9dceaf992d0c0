"""LaTeX of coloured tokens: nothing in a token is a command, and colours follow the values."""

from __future__ import annotations

import re

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from cutaway.core import view as views
from cutaway.core.errors import ParameterError
from cutaway.core.result import Result
from cutaway.drawing.latex import latex


def of(tokens: list[str], values: list[float], *, kind: str = "tokens") -> Result:
    data = xr.Dataset(
        {"value": (("position",), np.array(values))},
        coords={"position": range(len(tokens)), "token": ("position", tokens)},
    )
    drawn = views.tokens(value="value", title="A map") if kind == "tokens" else views.bars(value="value", label="token")
    return Result(data=data, views=(drawn,))


def test_colours_follow_the_values() -> None:
    written = latex(of(["The", " cat", " sat"], [0.5, -1.0, float("nan")]))
    assert r"\colorbox{red!30}{\strut The}" in written
    assert r"\ \colorbox{blue!60}{\strut cat}" in written
    assert r"\ \colorbox{red!0}{\strut sat}" in written
    assert "% A map: 0.5 -1" in written


@given(st.text(alphabet=r"\{}$&#%_~^a b", min_size=1, max_size=8))
def test_no_token_is_a_command(token: str) -> None:
    (line,) = [line for line in latex(of([token], [1.0])).splitlines() if "colorbox" in line]
    assert line.endswith("}%")
    inside = line.split(r"{\strut ", 1)[1][: -len("}%")]
    bare = re.sub(r"\\textbackslash\{\}|\\textasciitilde\{\}|\\textasciicircum\{\}|\\[{}$&#%_]", "", inside)
    assert not re.search(r"[\\{}$&#%_~^]", bare)


def test_other_views_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"no view of tokens.*bars"):
        latex(of(["a"], [1.0], kind="bars"))
