"""Edges as data: what they print they parse, and which of them there are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.core.edge import Edge, EdgeGraph
from cutaway.core.errors import SiteError
from cutaway.core.site import Site

numbers = st.integers(0, 40)
sources = st.one_of(
    st.just(Site("embed")),
    st.builds(lambda layer, head: Site("z", layer, head), numbers, numbers),
    st.builds(lambda kind, layer: Site(kind, layer), st.sampled_from(["attn_contrib", "mlp_contrib"]), numbers),
)
targets = st.one_of(
    st.just(Site("logits")),
    st.builds(lambda kind, layer, head: Site(kind, layer, head), st.sampled_from("qkv"), numbers, numbers),
    st.builds(lambda kind, layer: Site(kind, layer), st.sampled_from(["attn_in", "mlp_in"]), numbers),
)


def toy() -> EdgeGraph:
    """Two layers of one head and one MLP."""
    names = [Site("embed"), Site("z", 0, 0), Site("mlp_contrib", 0), Site("z", 1, 0), Site("mlp_contrib", 1)]
    readers = [
        Site(kind, layer, 0) if kind != "mlp_in" else Site(kind, layer)
        for layer in (0, 1)
        for kind in ("q", "k", "v", "mlp_in")
    ]
    readers.append(Site("logits"))
    written, read = np.array([-1, 0, 1, 2, 3]), np.array([0, 0, 0, 1, 2, 2, 2, 3, 4])
    feeds = (
        np.array(
            [[s.layer == t.layer and (s.kind == "mlp_contrib") == (t.kind == "mlp_in") for s in names] for t in readers]
        )
        & np.array([t.kind != "logits" for t in readers])[:, None]
    )
    return EdgeGraph(tuple(names), tuple(readers), written[:, None] < read[None], feeds, 2)


@given(sources, targets)
def test_an_edge_parses_what_it_prints(source, target):
    edge = Edge(source, target)
    assert Edge.parse(str(edge)) == edge
    assert hash(Edge.parse(str(edge))) == hash(edge)


@given(sources, targets, st.one_of(st.integers(-9, 40), st.sampled_from(["s2", "end", "elsewhere"])))
def test_an_edge_at_a_position_parses_what_it_prints(source, target, position):
    edge = Edge(source, target, position)
    assert str(edge) == f"{source} -> {target}@{position}"
    assert Edge.parse(str(edge)) == edge
    assert Edge.parse(f"{source}@{position} -> {target}@{position}") == edge
    assert Edge.parse(f"{source}@{position} -> {target}") == edge
    assert edge != edge.everywhere == Edge(source, target)


def test_a_matrix_with_positions_has_edges_at_one_or_at_all():
    graph = toy()
    mask = graph.mask(["embed -> q[0].head[0]@s2", "embed -> logits"], ("s2", "end"))
    assert mask.shape == (*graph.shape, 2)
    assert mask[graph.number("embed -> q[0].head[0]")].tolist() == [True, False]
    assert mask[graph.number("embed -> logits")].tolist() == [True, True]
    assert mask.sum() == 3
    with pytest.raises(SiteError, match=r"at no position that there is: did you mean 'end'"):
        graph.mask(["embed -> logits@ends"], ("s2", "end"))
    with pytest.raises(SiteError, match="here edges are taken at all positions. Write 'embed -> logits'"):
        graph.number("embed -> logits@end")


def test_other_names_of_what_parts_add():
    assert str(Edge.parse("mlp_out[2]->final")) == "mlp_contrib[2] -> logits"
    assert str(Edge.parse("resid_pre[0] -> attn_in[1]")) == "embed -> attn_in[1]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("z[3].head[2]", "is not an edge. An edge is SOURCE -> TARGET"),
        ("resid_post[3] -> logits", "is no source of an edge"),
        ("embed -> z[1].head[0]", "is no target of an edge"),
        ("z[3] -> logits", r"a head has a number. Write 'z\[3\].head\[0\]'"),
        ("embed -> q[1]", "a head has a number"),
        (
            "embed@s1 -> mlp_in[1]@end",
            "from 'embed@s1' to 'mlp_in.1.@end', another position: .*Write 'embed -> mlp_in.1.@end'",
        ),
        ("embed -> mlp_in[1]@2:4", "names several positions: an edge has one"),
        ("z[*].head[0] -> logits", "one part to one part"),
    ],
)
def test_what_is_no_edge_is_told(text, message):
    with pytest.raises(SiteError, match=message):
        Edge.parse(text)


def test_numbers_and_masks_go_back_and_forth():
    graph = toy()
    assert graph.n_edges == int(graph.exists.sum()) == len(graph.edges())
    for edge in graph.edges():
        assert graph.edge(*graph.number(edge)) == edge
    chosen = graph.edges()[::3]
    assert set(graph.edges(graph.mask(chosen))) == set(chosen)
    with pytest.raises(SiteError, match="does not exist: .*computed after"):
        graph.number("mlp_contrib[1] -> q[0].head[0]")
    with pytest.raises(SiteError, match="is no source in this network: did you mean"):
        graph.number("z[1].head[1] -> logits")
    assert graph.part(Site("q", 1, 0)) == "1.0" and graph.part(Site("mlp_in", 0)) == "mlp 0"


def test_only_what_lies_on_a_way_to_the_logits_is_connected():
    graph = toy()
    mask = graph.mask(["embed -> q[0].head[0]", "z[0].head[0] -> mlp_in[1]", "mlp_contrib[1] -> logits"])
    assert graph.connected(mask).sum() == 3
    assert graph.connected(graph.mask(["embed -> q[0].head[0]", "z[0].head[0] -> mlp_in[1]"])).sum() == 0
    floating = graph.mask(["z[0].head[0] -> mlp_in[1]", "mlp_contrib[1] -> logits"])
    assert graph.connected(floating).sum() == 2
    assert graph.connected(floating, from_embed=True).sum() == 0
    assert np.array_equal(graph.connected(graph.exists, from_embed=True), graph.exists)
