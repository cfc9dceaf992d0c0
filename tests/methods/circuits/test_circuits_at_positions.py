"""Circuits of edges at positions: pruned, kept, measured, and compared with random ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cutaway.core.circuit import Circuit
from cutaway.core.errors import MethodError, ParameterError, TaskError
from cutaway.methods.circuit_report import random_circuit_at
from cutaway.methods.circuit_runs import runs_of
from cutaway.methods.circuits.circuit_evaluation import circuit_evaluation
from cutaway.methods.circuits.edge_pruning import edge_pruning
from cutaway.methods.edge_ranking import scores_of
from cutaway.models import edges
from cutaway.models.edge_positions import named, positions_like
from cutaway.testing.tiny import tiny, tiny_task


@pytest.fixture(scope="module")
def model():
    """A tiny Llama."""
    return tiny("llama")


def test_all_edges_at_all_positions_are_the_model_and_circuits_at_all_positions_agree(model):
    encoded = tiny_task().encode(model.tokenizer)
    labels = named(encoded)
    plain, runs = runs_of(model, encoded), runs_of(model, encoded, positions=labels)
    assert runs.exists.shape == (*runs.graph.shape, 3)
    random = np.random.default_rng(0)
    masks = np.stack([plain.graph.exists, (random.random(plain.graph.shape) < 0.4) & plain.graph.exists])
    wide = np.repeat(masks[..., None], 3, axis=3)
    assert np.allclose(runs.of(wide), plain.of(masks), atol=1e-5)
    assert np.allclose(runs.of(wide)[0], plain.whole, atol=1e-5)
    assert np.array_equal(runs.connected(wide[1]).any(axis=2), plain.graph.connected(masks[1]))


@pytest.mark.parametrize("choice", ["top", "greedy"])
def test_a_circuit_is_pruned_to_a_size_and_measured_again(model, tmp_path, choice):
    task = tiny_task()
    found = edge_pruning(model, task, edges=40, choice=choice, by="eap", positions="named", controls=5)
    graph = edges.graph_of(model)
    circuit = Circuit.from_artifact(graph, found.artifacts["circuit"])
    assert circuit.positions == ("subject", "end", "elsewhere")
    assert circuit.n_edges == found.metrics["edges"] == 40 - found.metrics["edges_dropped"]
    assert found.metrics["edges_of_model"] == 3 * graph.n_edges
    assert found.checks[0].n == 5 and "as many at each position" in found.checks[0].how
    assert found.data["edges_between_layers"].sum() == circuit.n_edges
    file = found.artifacts["circuit"].save(tmp_path / "circuit.safetensors")
    again = circuit_evaluation(
        model, task, circuit=str(file), sets=2, controls=5, before="z[0].head[0]; z[1].head[1] -> logits"
    )
    for name in ("edges", "faithfulness", "kl", "share_of_edges"):
        assert again.metrics[name] == pytest.approx(found.metrics[name], rel=1e-5)
    assert again.data["faithfulness_of_size"].values[-1] == pytest.approx(1.0, abs=1e-4)
    assert again.data["edges_of_size"].values[-1] == 3 * graph.n_edges
    assert set(again.data["tested_position"].values) == set(circuit.positions)  # a page tries an edge at its tokens
    assert len(again.data["tested_position"]) == len(model.encode(str(again.data["tested_text"].values[0])))


def test_a_loaded_circuit_takes_the_names_in_its_own_order(model):
    encoded = tiny_task().encode(model.tokenizer)
    own = named(encoded)
    other = positions_like(encoded, ("elsewhere", "end", "subject"))
    words = [[labels.names[label] for label in row] for labels in (own, other) for row in labels.labels]
    assert words[: len(encoded)] == words[len(encoded) :]
    with pytest.raises(TaskError, match="at the positions io, end, and the task has subject, end, elsewhere"):
        positions_like(encoded, ("io", "end"))


def test_what_takes_edges_at_all_positions_says_so(model, tmp_path):
    task = tiny_task()
    found = edge_pruning(model, task, edges=20, by="eap", positions="named", controls=0)
    file = str(found.artifacts["circuit"].save(tmp_path / "circuit.safetensors"))
    with pytest.raises(
        MethodError, match=r"3 positions \(subject, end, elsewhere\);.*agreement with a known circuit takes"
    ):
        circuit_evaluation(model, task, circuit=file, known=file, controls=0, sets=0)
    renamed = replace(task, positions={"other": task.positions["subject"]})
    with pytest.raises(TaskError, match="Give a task with the same positions"):
        circuit_evaluation(model, renamed, circuit=file, controls=0)
    with pytest.raises(ParameterError, match="by is 'exact', and edges are scored at positions"):
        edge_pruning(model, task, edges=20, by="exact", positions="named", controls=0)


def test_random_circuits_have_as_many_edges_at_each_position(model):
    encoded = tiny_task().encode(model.tokenizer)
    runs = runs_of(model, encoded, positions=named(encoded))
    found = edge_pruning(model, tiny_task(), edges=60, by="eap", positions="named", controls=0)
    circuit = Circuit.from_artifact(runs.graph, found.artifacts["circuit"])
    drawn = [random_circuit_at(circuit, np.random.default_rng(seed)) for seed in range(4)]
    for mask in drawn:
        assert np.array_equal(mask.sum(axis=(0, 1)), circuit.edges.sum(axis=(0, 1)))
        assert not (mask & ~runs.exists).any()
    assert not np.array_equal(drawn[0], drawn[1])


def test_scores_at_positions_sum_to_those_without(model):
    encoded = tiny_task().encode(model.tokenizer)
    plain = scores_of(runs_of(model, encoded), "eap_ig", 2)
    each = scores_of(runs_of(model, encoded, positions=named(encoded)), "eap_ig", 2)
    assert np.array_equal(np.isnan(each).all(axis=2), np.isnan(plain))
    assert np.allclose(np.nansum(each, axis=2), np.nan_to_num(plain), rtol=1e-3, atol=1e-5)
