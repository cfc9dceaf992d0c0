"""The method around the scores of edges: its truth, its checks and its result. The scores have tests of their own."""

from __future__ import annotations

import numpy as np
import pytest

from cutaway.core.circuit import Circuit
from cutaway.core.errors import SiteError, TaskError
from cutaway.core.task import Task
from cutaway.methods.circuits.edge_attribution import edge_attribution
from cutaway.methods.circuits.edge_patching import edge_patching
from cutaway.methods.edge_effects import edges_named
from cutaway.models import edges
from cutaway.testing.tiny import tiny, tiny_task

FEW = {"controls": 5, "sample": 5, "top": 5}


@pytest.fixture(scope="module")
def model():
    """A tiny Llama."""
    return tiny("llama")


@pytest.mark.parametrize("by", ["eap", "eap_ig", "eap_ig_activations", "clean_corrupt"])
def test_every_way_scores_every_edge(model, by):
    result = edge_attribution(model, tiny_task(), by=by, steps=1, **FEW)
    graph = edges.graph_of(model)
    scores = result.data["edge_score"].values
    assert np.array_equal(np.isfinite(scores), graph.exists)
    assert result.metrics["edges"] == graph.n_edges
    circuit = Circuit.from_artifact(graph, result.artifacts["circuit"])
    assert circuit.n_edges == 5
    sizes = np.abs(np.nan_to_num(scores))
    assert sizes[circuit.edges].min() >= np.sort(sizes, axis=None)[-5] - 1e-12
    assert {check.unit for check in result.checks} == {"logits", "correlation"}


def test_the_agreement_is_that_of_the_tested_edges(model):
    result = edge_attribution(model, tiny_task(), **FEW)
    estimated, exact = result.data["estimated"].values, result.data["exact"].values
    assert result.metrics["correlation"] == pytest.approx(np.corrcoef(estimated, exact)[0, 1])
    assert result.checks[1].measured == result.metrics["correlation"]
    graph = edges.graph_of(model)
    scores = result.data["edge_score"].values
    named = [scores[graph.number(str(edge))] for edge in result.data["tested_edge"].values]
    assert np.array_equal(named, estimated)


def test_zero_and_mean_need_no_contrast_of_their_own(model):
    for how in ("zero", "mean"):
        result = edge_attribution(model, tiny_task(), how=how, controls=0)
        assert np.isfinite(result.metrics["largest_score"])
        assert any("Not checked" in note for note in result.notes)


def test_exact_effects_of_named_edges(model):
    task = tiny_task()
    result = edge_patching(model, task, edges="mlp_out[2] -> logits, z[0].head[*] -> q[2].head[1]", controls=5)
    assert result.data["edge"].values.tolist() == [
        "mlp_contrib[2] -> logits",
        *(f"z[0].head[{head}] -> q[2].head[1]" for head in range(4)),
    ]
    encoded = task.encode(model.tokenizer)
    from cutaway.models.encode import Encoded
    from cutaway.models.metric import metric_of

    graph = edges.graph_of(model)
    other = edges.of_prompts(model, Encoded(encoded.contrast_ids))
    sets = np.stack([graph.mask(), graph.mask(["mlp_contrib[2] -> logits"])])
    base, changed = edges.evaluate(model, Encoded(encoded.ids), sets, other, metric_of(encoded))
    assert np.allclose(result.data["effect"].values[0], (changed - base).numpy(), atol=1e-5)
    assert result.checks[0].n == 5


def test_without_names_the_largest_estimates_are_changed(model):
    found = edge_patching(model, tiny_task(), top=4, controls=0)
    estimated = edge_attribution(model, tiny_task(), top=4, controls=0)
    assert set(found.data["edge"].values) == set(estimated.data["largest"].values)


def test_patterns_of_edges(model):
    graph = edges.graph_of(model)
    assert edges_named(graph, "embed -> logits") == graph.edges(graph.mask(["embed -> logits"]))
    assert len(edges_named(graph, "z[*].head[*] -> logits")) == 12
    assert len(edges_named(graph, "z[1:].head[0] -> mlp_in[2]")) == 2
    with pytest.raises(SiteError, match="names no edge of this network"):
        edges_named(graph, "z[2].head[0] -> mlp_in[0]")
    with pytest.raises(SiteError, match="is not an edge"):
        edges_named(graph, "z[2].head[0]")


def test_a_task_without_contrasts_is_told_what_to_do(model):
    from cutaway.core.errors import MethodError

    task = Task.from_prompts(["When Mary and John went to the store, John gave a drink to"])
    with pytest.raises((MethodError, TaskError), match="contrast"):
        edge_attribution(model, task)
