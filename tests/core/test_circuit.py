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


PLACES = ("s1", "end", "elsewhere")
AT = (
    "embed -> v[0].head[0]@s1",
    "embed -> k[0].head[0]@elsewhere",
    "embed -> q[0].head[1]@end",
    "z[0].head[1] -> mlp_in[1]@end",
    "mlp_contrib[1] -> logits@end",
)


def test_a_circuit_of_edges_at_positions(tmp_path: Path) -> None:
    circuit = Circuit.of_edges(GRAPH, AT, positions=PLACES)
    assert (circuit.n_edges, circuit.most_edges, circuit.parts) == (
        5,
        3 * GRAPH.n_edges,
        ("embed", "z[0].head[1]", "mlp_contrib[1]"),
    )
    assert {str(edge) for edge in circuit.edge_list()} == set(AT)
    circuit.artifact().save(tmp_path / "circuit.safetensors")
    again = Circuit.from_artifact(GRAPH, Artifact.load(tmp_path / "circuit.safetensors"))
    assert again.positions == PLACES and np.array_equal(again.edges, circuit.edges)
    one = Circuit.of_edges(GRAPH, [*AT[:4], "embed -> v[0].head[0]@end"], positions=PLACES)
    found = circuit.diff(one)
    assert list(map(str, found.only_first)) == [AT[4]]
    assert list(map(str, found.only_second)) == ["embed -> v[0].head[0]@end"]
    assert set(map(str, found.both)) == set(AT[:4])


def test_all_positions_of_a_circuit_are_one_without() -> None:
    scores = np.random.default_rng(0).normal(size=(*GRAPH.shape, 3))
    circuit = Circuit.of_edges(GRAPH, AT, scores, positions=PLACES)
    whole = circuit.everywhere()
    assert {str(edge) for edge in whole.edge_list()} == {edge.partition("@")[0] for edge in AT}
    assert np.allclose(whole.scores[GRAPH.exists], scores.sum(axis=2)[GRAPH.exists])
    assert np.array_equal(np.isnan(whole.scores), ~GRAPH.exists)
    assert Circuit.of_edges(GRAPH, WAY).everywhere().diff(Circuit.of_edges(GRAPH, WAY)).overlap == 1.0
    with pytest.raises(MethodError, match=r"one circuit is at s1, end, elsewhere, the other at all positions"):
        circuit.diff(whole)
    with pytest.raises(MethodError, match=r"at 3 positions \(s1, end, elsewhere\);.*Take circuit.everywhere"):
        circuit.connected()
    with pytest.raises(MethodError, match="targets, and the circuit 2 positions"):
        Circuit(GRAPH, circuit.edges, circuit.scores, {}, PLACES[:2])


def test_a_circuit_without_positions_is_kept_as_it_always_was() -> None:
    assert set(Circuit.of_edges(GRAPH, WAY).artifact().about) == {"sources", "targets", "n_edges", "found"}
    assert set(Circuit.of_edges(GRAPH, WAY).dataset().data_vars) == {
        "circuit_source",
        "circuit_target",
        "circuit_edge",
        "circuit_score",
    }


def test_pictures_of_positions_have_arrows_within_and_attention_between() -> None:
    circuit = Circuit.of_edges(GRAPH, AT, np.full((*GRAPH.shape, 3), 0.5), positions=PLACES)
    data = circuit.dataset(headings=("s1", "end", "…"))
    arrows = list(
        zip(data["circuit_source"].values, data["circuit_target"].values, data["circuit_edge"].values, strict=True)
    )
    assert set(arrows) == {
        ("embed@s1", "v[0].head[0]@s1", AT[0]),
        ("embed@elsewhere", "k[0].head[0]@elsewhere", AT[1]),
        ("embed@end", "z[0].head[1]@end", AT[2]),
        ("z[0].head[1]@end", "mlp_contrib[1]@end", AT[3]),
        ("mlp_contrib[1]@end", "logits@end", AT[4]),
        ("v[0].head[0]@s1", "z[0].head[1]@end", "attention"),
        ("k[0].head[0]@elsewhere", "z[0].head[1]@end", "attention"),
    }
    assert np.isnan(data["circuit_score"].values[data["circuit_edge"].values == "attention"]).all()
    assert np.isfinite(data["circuit_score"].values[data["circuit_edge"].values != "attention"]).all()
    assert data["circuit_heading"].values.tolist() == ["s1", "end", "…"]
    assert set(data["edge_at_position"].values) == set(AT)
    drawn, listed = circuit.to_views()
    assert drawn.roles["position"] == "circuit_position" and len(listed.roles) == 2
    Result(data, views=(drawn, listed))
    early = Circuit.of_edges(GRAPH, ["embed -> v[0].head[0]@end", "z[0].head[1] -> mlp_in[1]@s1"], positions=PLACES)
    assert "attention" not in early.dataset()["circuit_edge"].values  # what is read later is not written earlier


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
