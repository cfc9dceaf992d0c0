"""Circuits of heads need heads that write into the stream by themselves; a model whose heads do not is refused in a sentence."""

from __future__ import annotations

import pytest

from cutaway.core.errors import MethodError
from cutaway.models.edges import graph_of
from cutaway.models.model import Model
from cutaway.studies.head_circuits import head_rows
from cutaway.testing import tiny
from cutaway.testing.architectures import tiny_model


def test_the_heads_of_a_graph_are_its_rows() -> None:
    graph = graph_of(tiny("llama"))
    rows = head_rows(graph)
    assert {graph.sources[row].kind for row in rows} == {"z"}
    assert len(rows) == sum(site.kind == "z" for site in graph.sources)


def test_a_norm_behind_attention_is_said() -> None:
    with pytest.raises(MethodError, match="do not add up"):
        head_rows(graph_of(Model(tiny_model("gemma3_text"), None, name="tiny-gemma3")))
