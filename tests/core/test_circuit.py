"""A circuit is a set of edges of one network: it is kept, compared, cut to what is connected, and drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.artifact import Artifact
from cutaway.core.circuit import Circuit, between, largest, sizes_of
from cutaway.core.edge import EdgeGraph
from cutaway.core.errors import MethodError, SiteError
from cutaway.core.result import Result
from cutaway.models.edges import graph_of
from cutaway.testing.tiny import tiny

GRAPH: EdgeGraph = graph_of(tiny("llama"))
WAY = ("embed -> v[0].head[0]", "z[0].head[1] -> mlp_in[1]", "mlp_contrib[1] -> logits")
masks = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).random(GRAPH.shape) < 0.1)


def test_edges_parts_and_sizes() -> None:
    circuit = Circuit.of_edges(GRAPH, WAY)
    assert (circuit.n_edges, circuit.parts) == (3, ("embed", "z[0].head[1]", "mlp_contrib[1]"))
    assert circuit.share == 3 / GRAPH.n_edges
    assert {str(edge) for edge in circuit.edge_list()} == set(WAY)


def test_what_hangs_loose_is_dropped_and_counted() -> None:
    loose = Circuit.of_edges(GRAPH, [*WAY, "z[2].head[0] -> mlp_in[2]", "z[0].head[3] -> logits"])
    circuit, dropped = loose.connected()
    assert dropped == 2  # one reaches no logits, one gets nothing from the embeddings
    assert {str(edge) for edge in circuit.edge_list()} == set(WAY)


@given(masks)
@settings(max_examples=20, deadline=None)
def test_artifacts_keep_edges_and_scores(mask: np.ndarray) -> None:
    scores = np.random.default_rng(0).normal(size=GRAPH.shape)
    circuit = Circuit.of_edges(GRAPH, mask & GRAPH.exists, scores, {"task": "tiny"})
    again = Circuit.from_artifact(GRAPH, circuit.artifact())
    assert np.array_equal(again.edges, circuit.edges)
    assert np.array_equal(again.scores, circuit.scores, equal_nan=True)
    assert again.found == {"task": "tiny"}
    assert again.artifact() == circuit.artifact()


def test_a_circuit_is_saved_and_loaded(tmp_path: Path) -> None:
    circuit = Circuit.of_edges(GRAPH, WAY)
    circuit.artifact().save(tmp_path / "circuit.safetensors")
    again = Circuit.from_artifact(GRAPH, Artifact.load(tmp_path / "circuit.safetensors"))
    assert np.array_equal(again.edges, circuit.edges)


@given(masks, masks)
@settings(max_examples=20, deadline=None)
def test_differences_are_those_of_sets(first: np.ndarray, second: np.ndarray) -> None:
    a, b = (Circuit.of_edges(GRAPH, mask & GRAPH.exists) for mask in (first, second))
    found = a.diff(b)
    assert set(found.both) == set(a.edge_list()) & set(b.edge_list())
    assert set(found.only_first) == set(a.edge_list()) - set(b.edge_list())
    assert found.only_second == b.diff(a).only_first
    assert a.diff(a).overlap == 1.0
    assert found.overlap == b.diff(a).overlap


def test_a_circuit_of_nodes_has_all_edges_between_them() -> None:
    circuit = Circuit.of_nodes(GRAPH, ["z[0].head[1]", "mlp_out[1]"])
    names = {str(edge) for edge in circuit.edge_list()}
    assert {
        "embed -> logits",
        "embed -> q[0].head[1]",
        "z[0].head[1] -> mlp_in[1]",
        "mlp_contrib[1] -> logits",
    } <= names
    assert set(circuit.parts) == {"embed", "z[0].head[1]", "mlp_contrib[1]"}
    every = np.ones(GRAPH.shape[0], dtype=bool)
    assert np.array_equal(between(GRAPH, every), GRAPH.exists)


@given(masks, st.integers(0, 60))
@settings(max_examples=20, deadline=None)
def test_the_largest_scores_are_taken(mask: np.ndarray, count: int) -> None:
    scores = np.where(mask, np.random.default_rng(1).normal(size=GRAPH.shape), np.nan)
    kept = largest(GRAPH, scores, count)
    assert int(kept.sum()) == min(count, GRAPH.n_edges)
    assert not (kept & ~GRAPH.exists).any()
    left = GRAPH.exists & ~kept & ~np.isnan(scores)
    if left.any() and kept.any():
        assert np.nan_to_num(scores[kept], nan=-np.inf).min() >= scores[left].max()


def test_pictures_show_arrows_between_parts(tmp_path: Path) -> None:
    circuit = Circuit.of_edges(GRAPH, WAY, np.full(GRAPH.shape, 0.5))
    data = circuit.dataset()
    arrows = set(zip(data["circuit_source"].values, data["circuit_target"].values, strict=True))
    # Keys and values are shared by two heads: the arrow goes to the one that the circuit uses.
    assert ("embed", "z[0].head[1]") in arrows
    assert ("mlp_contrib[1]", "logits") in arrows
    assert len(arrows) == 3
    page = Result(data, views=circuit.to_views()).save(tmp_path / "circuit.html").read_text(encoding="utf-8")
    assert "z[0].head[1]" in page
    assert Circuit.of_edges(GRAPH, []).to_views() == ()


def test_sizes_are_one_edge_at_least() -> None:
    assert sizes_of(GRAPH, (1e-9, 1.0)) == [1, GRAPH.n_edges]


def test_what_does_not_fit_is_refused() -> None:
    circuit = Circuit.of_edges(GRAPH, WAY)
    other = graph_of(tiny("gpt2"))
    with pytest.raises(MethodError, match=r"found in a network of .*\n?.*Open the model that it was found in"):
        Circuit.from_artifact(other, circuit.artifact())
    with pytest.raises(MethodError, match="different networks"):
        circuit.diff(Circuit.of_edges(other, []))
    with pytest.raises(MethodError, match="shape"):
        Circuit.of_edges(GRAPH, np.zeros((2, 2), dtype=bool))
    beyond = ~GRAPH.exists
    with pytest.raises(MethodError, match="which this network does not have"):
        Circuit.of_edges(GRAPH, beyond)
    with pytest.raises(SiteError, match="no node of this network"):
        Circuit.of_nodes(GRAPH, ["z[9].head[0]"])
    with pytest.raises(MethodError, match="is a probe"):
        import torch

        Circuit.from_artifact(GRAPH, Artifact("probe", {"w": torch.zeros(1)}))
