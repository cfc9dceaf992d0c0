"""Circuits of a size: by scores of edges, by scores of nodes, and by learned gates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.circuit import Circuit
from cutaway.core.errors import ParameterError
from cutaway.methods.circuits.edge_pruning import edge_pruning
from cutaway.methods.circuits.node_pruning import chosen_nodes, node_pruning
from cutaway.methods.edge_ranking import greedy, node_scores, scores_of
from cutaway.methods.node_masks import _pass, learn
from cutaway.models.edges import graph_of
from cutaway.models.toy_programs import program
from cutaway.testing.known_circuits import Case, case
from cutaway.testing.tiny import tiny

GRAPH = graph_of(tiny("llama"))


@pytest.fixture(scope="module")
def gates() -> Case:
    return case("gates", "contrast", prompts=8)


@given(st.integers(0, 10**6), st.integers(1, 80))
@settings(max_examples=20, deadline=None)
def test_greedy_circuits_have_the_size_and_all_reach_the_logits(seed: int, count: int) -> None:
    scores = np.random.default_rng(seed).normal(size=GRAPH.shape)
    kept = greedy(GRAPH, scores, count)
    assert int(kept.sum()) == min(count, GRAPH.n_edges)
    assert np.array_equal(GRAPH.connected(kept), kept)
    smaller = greedy(GRAPH, scores, max(1, count // 2))
    assert not (smaller & ~kept).any()  # circuits of growing size are nested


def test_a_greedy_circuit_of_all_edges_is_the_network() -> None:
    assert np.array_equal(greedy(GRAPH, np.ones(GRAPH.shape), 10**6), GRAPH.exists)


def test_exact_scores_are_what_changing_one_edge_does(gates: Case) -> None:
    runs, scores = gates.runs, scores_of(gates.runs, "exact")
    assert np.array_equal(np.isnan(scores), ~runs.graph.exists)
    source, target = np.argwhere(gates.known & ~gates.hidden)[-1]
    alone = np.zeros((1, *runs.graph.shape), dtype=bool)
    alone[0, source, target] = True
    assert scores[source, target] == pytest.approx(float((runs.without(alone)[0] - runs.whole).mean()))


def test_a_node_is_scored_by_its_edges() -> None:
    assert node_scores(np.array([[1.0, np.nan], [2.0, -3.0]])).tolist() == [1.0, -1.0]


def test_the_circuit_of_a_program_is_made_of_its_size(gates: Case) -> None:
    truth = gates.known & ~gates.hidden
    result = edge_pruning(
        gates.compiled.model, program("gates").task(8), edges=int(truth.sum()), by="exact", controls=5
    )
    circuit = Circuit.from_artifact(gates.runs.graph, result.artifacts["circuit"])
    assert np.array_equal(circuit.edges, truth)
    assert result.metrics["faithfulness"] == pytest.approx(1.0)
    assert result.checks[0].passed


def test_loose_edges_are_dropped_and_counted(gates: Case) -> None:
    result = edge_pruning(gates.compiled.model, program("gates").task(6), edges=4, choice="top", by="exact", controls=0)
    dropped = result.metrics["edges_dropped"]
    assert isinstance(dropped, int)
    assert result.metrics["edges"] == 4 - dropped < 4
    assert any("were dropped" in note for note in result.notes)


def test_learned_gates_find_the_parts_of_a_program(gates: Case) -> None:
    used = (gates.known & ~gates.hidden).any(axis=1)
    learned = learn(gates.runs, steps=60, seed=1)
    assert learned.open[used].min() > learned.open[~used].max()
    again = learn(gates.runs, steps=5, seed=1)
    assert np.array_equal(again.open, learn(gates.runs, steps=5, seed=1).open)
    assert not np.array_equal(again.open, learn(gates.runs, steps=5, seed=2).open)


def test_slopes_of_gates_are_those_of_small_changes(gates: Case) -> None:
    runs = gates.runs
    sites = [s for s in dict.fromkeys(source.whole for source in runs.graph.sources) if s.kind != "embed"]
    numbers = {site: [i for i, s in enumerate(runs.graph.sources) if s.whole == site] for site in sites}
    gate = torch.full((len(runs.graph.sources),), 0.6, dtype=torch.float64)
    _, slope = _pass(runs, numbers, gate)
    heads = [i for i, s in enumerate(runs.graph.sources) if s.kind != "embed"]
    for number in heads:
        ends = []
        for step in (1e-5, -1e-5):
            moved = gate.clone()
            moved[number] += step
            ends.append(_pass(runs, numbers, moved)[0])
        assert float(slope[number]) == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-5)


def test_open_gates_are_the_model_and_shut_ones_the_other_run(gates: Case) -> None:
    runs = gates.runs
    sites = [s for s in dict.fromkeys(source.whole for source in runs.graph.sources) if s.kind != "embed"]
    numbers = {site: [i for i, s in enumerate(runs.graph.sources) if s.whole == site] for site in sites}
    one = torch.ones(len(runs.graph.sources), dtype=torch.float64)
    assert _pass(runs, numbers, one)[0] == pytest.approx(0.0, abs=1e-9)
    # All parts but the embeddings carry the other run: the same as changing every edge out of them.
    changed = runs.graph.exists.copy()
    changed[[s.kind == "embed" for s in runs.graph.sources]] = False
    expected = runs.without(changed[None], runs.divergence).mean()
    assert _pass(runs, numbers, 0 * one)[0] == pytest.approx(float(expected), rel=1e-6)


def test_nodes_are_chosen_by_size_and_the_embeddings_always(gates: Case) -> None:
    graph = gates.runs.graph
    scores = np.linspace(-1, 1, len(graph.sources))
    kept = chosen_nodes(graph, scores, 3)
    assert kept.sum() == 4
    assert kept[0]  # embed
    result = node_pruning(gates.compiled.model, program("gates").task(6), nodes=6, by="gates", steps=60, controls=5)
    assert result.metrics["faithfulness"] == pytest.approx(1.0, abs=1e-3)
    assert result.checks[0].passed


def test_a_circuit_has_one_edge_or_more() -> None:
    with pytest.raises(ParameterError, match="edges"):
        edge_pruning(tiny("llama"), program("gates").task(2), edges=0)
