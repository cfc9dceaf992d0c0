"""Edges at positions that lead from the embeddings to the logits: what moves between positions does so through keys."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.edge import EdgeGraph
from cutaway.core.edge_paths import Order, connected_at, greedy_at
from cutaway.models.edges import graph_of
from cutaway.testing.tiny import tiny

GRAPH: EdgeGraph = graph_of(tiny("llama"))
NAMES = ("s1", "s2", "end")
ORDER = Order(np.triu(np.ones((3, 3), dtype=bool)), np.array([False, False, True]))
WAY = ("embed -> v[0].head[0]@s1", "z[0].head[1] -> mlp_in[1]@end", "mlp_contrib[1] -> logits@end")
masks = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).random((*GRAPH.shape, 3)) < 0.05)


def kept(*edges: str, embed: bool = True) -> int:
    """How many of some edges are connected."""
    return int(connected_at(GRAPH, GRAPH.mask(edges, NAMES), ORDER, from_embed=embed).sum())


def test_a_way_goes_up_and_moves_through_keys_and_values() -> None:
    assert kept(*WAY) == 3
    query = ("embed -> q[0].head[1]@s1", *WAY[1:])
    assert kept(*query) == 0  # a query is read where it is used
    assert kept("embed -> q[0].head[1]@end", *WAY[1:]) == 3
    assert kept("embed -> mlp_in[1]@s1", WAY[2]) == 0  # and so is what an MLP reads
    assert kept("embed -> mlp_in[1]@end", WAY[2]) == 2


def test_nothing_moves_to_what_comes_before_and_logits_are_read_at_the_end() -> None:
    back = ("embed -> v[0].head[0]@end", "z[0].head[1] -> v[1].head[0]@s1", "z[1].head[0] -> logits@end")
    assert kept(*back) == 0
    assert kept(*back, embed=False) == 2
    assert kept("embed -> logits@s2") == 0
    assert kept("embed -> logits@end") == 1


@given(masks)
@settings(max_examples=15, deadline=None)
def test_one_position_or_no_order_is_connection_without_positions(mask: np.ndarray) -> None:
    mask = mask & GRAPH.exists[:, :, None]
    for embed in (False, True):
        alone = connected_at(GRAPH, mask[:, :, :1], Order(np.ones((1, 1), bool), np.ones(1, bool)), from_embed=embed)
        assert np.array_equal(alone[:, :, 0], GRAPH.connected(mask[:, :, 0], from_embed=embed))
        found = connected_at(GRAPH, mask, ORDER, from_embed=embed)
        assert not (found & ~mask).any()
        assert np.array_equal(connected_at(GRAPH, found, ORDER, from_embed=embed), found)
        assert not (found.any(axis=2) & ~GRAPH.connected(mask.any(axis=2), from_embed=embed)).any()


@given(st.integers(0, 10**6), st.integers(1, 120))
@settings(max_examples=15, deadline=None)
def test_greedy_circuits_have_the_size_and_all_reach_the_logits(seed: int, count: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(*GRAPH.shape, 3))
    grown = greedy_at(GRAPH, scores, count, ORDER)
    assert int(grown.sum()) == count
    assert np.array_equal(connected_at(GRAPH, grown, ORDER), grown)
    smaller = greedy_at(GRAPH, scores, max(1, count // 2), ORDER)
    assert not (smaller & ~grown).any()  # circuits of growing size are nested


def test_a_greedy_circuit_of_one_position_is_that_without() -> None:
    from cutaway.methods.edge_ranking import greedy

    scores = np.random.default_rng(3).normal(size=GRAPH.shape)
    one = Order(np.ones((1, 1), bool), np.ones(1, bool))
    assert np.array_equal(greedy_at(GRAPH, scores[:, :, None], 40, one)[:, :, 0], greedy(GRAPH, scores, 40))


def test_a_circuit_grows_through_keys_and_values_to_earlier_positions() -> None:
    scores = GRAPH.mask(WAY, NAMES).astype(float)
    grown = greedy_at(GRAPH, scores, 3, ORDER)
    assert np.array_equal(grown, scores > 0)
    assert int(greedy_at(GRAPH, scores, 10**6, ORDER).sum()) == int(
        connected_at(GRAPH, np.ones((*GRAPH.shape, 3), dtype=bool), ORDER).sum()
    )
