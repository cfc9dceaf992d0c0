"""What may hypothesis draw for laws about tasks, sites and results?

    from hypothesis import given
    from cutaway.testing import strategies

    @given(strategies.sites())
    def test_a_site_prints_what_it_parses(site): ...

Limits: it needs hypothesis, which is installed for tests only. Sites are drawn for a model of three layers
and four heads, as `cutaway.testing.tiny` makes them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cutaway.core.result import Check, Result
from cutaway.core.site import KINDS, Site, Span
from cutaway.core.task import Task
from cutaway.core.view import View

LAYERS, HEADS, POSITIONS = 3, 4, 6
_WORDS = ("Mary", "John", "gave", "the", "drink", "to", "Paris", "and", "met", "Anna")


def words() -> st.SearchStrategy[str]:
    """A word that the tiny tokenizer has, or any text that can be encoded."""
    odd = st.text(min_size=1, max_size=8).filter(lambda text: text.strip() and text.isprintable())
    return st.sampled_from(_WORDS) | odd


def prompts() -> st.SearchStrategy[str]:
    """A short prompt."""
    return st.lists(words(), min_size=1, max_size=POSITIONS).map(" ".join)


@st.composite
def tasks(draw: st.DrawFn, *, contrasts: bool = False) -> Task:
    """A task of prompts that share a frame, with answers and wrong answers, and contrasts if asked for."""
    names = st.sampled_from(_WORDS)
    pairs = draw(st.lists(st.tuples(names, names).filter(lambda p: p[0] != p[1]), min_size=1, max_size=4))
    frame = draw(st.sampled_from(("{} and {} met. Then", "To {} from {}:", "{} {}")))
    return Task(
        name="drawn",
        prompts=tuple(frame.format(a, b) for a, b in pairs),
        contrasts=tuple(frame.format(b, a) for a, b in pairs) if contrasts else (),
        answers=tuple((f" {a}",) for a, _ in pairs),
        wrong=tuple((f" {b}",) for _, b in pairs),
        source="drawn for a test",
    )


@st.composite
def sites(draw: st.DrawFn, *, patterns: bool = False) -> Site:
    """The address of a value, or with `patterns` also of many values."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    part, dims = KINDS[kind]

    def number(size: int) -> st.SearchStrategy[int | Span]:
        return st.integers(0, size - 1) | _spans() if patterns else st.integers(0, size - 1)

    return Site(
        kind,
        draw(number(LAYERS)) if part != "ends" else None,
        head=draw(st.none() | number(HEADS)) if "head" in dims else None,
        unit=draw(st.none() | number(8)) if dims[-1] == "d_mlp" else None,
        expert=draw(st.none() | number(2)) if "expert" in dims else None,
        position=draw(st.none() | st.integers(-POSITIONS, POSITIONS - 1) | st.just("end")),
    )


def _spans() -> st.SearchStrategy[Span]:
    edge = st.none() | st.integers(0, 5)
    return st.builds(Span, edge, edge)


@st.composite
def results(draw: st.DrawFn) -> Result:
    """A result with numbers (not always finite), odd texts, a view, and perhaps a check."""
    layers, tokens = draw(st.integers(1, 4)), draw(st.lists(st.text(max_size=5), min_size=1, max_size=5))
    shape = (layers, len(tokens))
    values: Any = draw(arrays.arrays(np.float32, shape, elements=st.floats(width=32)))
    data = xr.Dataset(
        {"value": (("layer", "position"), values)},
        coords={"token": ("position", np.array(tokens, dtype=object))},
    )
    finite = st.floats(-1e6, 1e6)
    check = st.builds(
        lambda claim, measured, ends, n, passed: Check(
            claim, "drawn", measured, sum(ends) / 2, (min(ends), max(ends)), n, passed
        ),
        st.text(min_size=1),
        finite,
        st.tuples(finite, finite),
        st.integers(1, 99),
        st.booleans(),
    )
    return Result(
        data=data,
        metrics=draw(st.dictionaries(st.sampled_from(("a", "b")), finite | st.integers() | st.text())),
        views=(View("heatmap", "drawn", {"value": "value", "x": "token", "y": "layer"}),),
        checks=tuple(draw(st.lists(check, max_size=2))),
        notes=tuple(draw(st.lists(st.text(), max_size=2))),
    )
