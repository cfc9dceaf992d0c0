"""The method around the scores of edges: its truth, its checks and its result. The scores have tests of their own."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cutaway.core.circuit import Circuit
from cutaway.core.errors import MethodError, ParameterError, SiteError, TaskError
from cutaway.core.task import Task
from cutaway.methods.circuits.edge_attribution import edge_attribution
from cutaway.methods.circuits.edge_patching import edge_patching
from cutaway.methods.edge_effects import edges_named, random_sets_at
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
    task = Task.from_prompts(["When Mary and John went to the store, John gave a drink to"])
    with pytest.raises((MethodError, TaskError), match="contrast"):
        edge_attribution(model, task)


# --- at positions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", ["named", "token"])
def test_scores_by_position_sum_to_those_at_all_positions(model, positions):
    task = tiny_task() if positions == "named" else tiny_task().subset([0, 1])
    whole = edge_attribution(model, task, **FEW)
    found = edge_attribution(model, task, positions=positions, **FEW)
    assert set(whole.data.data_vars) <= set(found.data.data_vars)
    each = np.nan_to_num(found.data["edge_score_at_position"].values)
    assert np.allclose(each.sum(axis=2), np.nan_to_num(whole.data["edge_score"].values), rtol=1e-3, atol=1e-5)
    assert found.metrics["edge_with_largest_score"] == whole.metrics["edge_with_largest_score"]
    assert 0 <= found.metrics["cancels_over_positions"] < 1
    circuit = Circuit.from_artifact(edges.graph_of(model), found.artifacts["circuit"])
    assert circuit.n_edges == 5
    assert np.abs(each[circuit.edges]).min() >= np.sort(np.abs(each), axis=None)[-5] - 1e-6
    assert str(circuit.edge_list()[0]) == found.metrics["edge_with_largest_score_at_position"]
    names = found.data["position"].values.tolist()
    assert names == (["subject", "end", "elsewhere"] if positions == "named" else list(map(str, range(len(names)))))
    sizes = np.abs(each).sum(axis=(0, 1))
    assert np.allclose(found.data["score_by_layer"].sum("target_layer").values, sizes, rtol=1e-3)


def test_the_largest_edges_at_positions_are_changed_together_there(model):
    task = tiny_task()
    found = edge_attribution(model, task, positions="named", **FEW)
    check = found.checks[0]
    assert len(found.checks) == 3 and check.n == 5 and "at the same positions" in check.how
    named_again = edge_patching(model, task, edges=", ".join(found.data["edge_at_position"].values), controls=0)
    assert abs(named_again.metrics["effect_together"]) == pytest.approx(check.measured, rel=1e-4)
    again = Circuit.from_artifact(edges.graph_of(model), named_again.artifacts["circuit"])
    assert np.array_equal(again.edges, Circuit.from_artifact(edges.graph_of(model), found.artifacts["circuit"]).edges)


def test_an_edge_at_all_its_positions_is_the_edge(model):
    """One by one they add up to little; together they are the whole edge, exactly."""
    task = tiny_task()
    edge = "z[0].head[1] -> mlp_in[1]"
    whole = edge_patching(model, task, edges=edge, controls=0).data["effect"].values[0]
    at = ", ".join(f"{edge}@{name}" for name in ("subject", "end", "elsewhere"))
    found = edge_patching(model, task, edges=at, controls=0)
    assert found.data["edge"].values.tolist() == at.split(", ")
    assert np.allclose(found.data["effect_together"].values, whole, atol=1e-5)
    assert not np.allclose(found.data["effect"].values[0], whole, atol=1e-5)
    mixed = edge_patching(model, task, edges=f"{edge}, embed -> logits@end", controls=0)
    assert np.allclose(mixed.data["effect"].values[0], whole, atol=1e-5)


def test_tokens_by_number_where_prompts_are_equally_long(model):
    task = tiny_task().subset([0, 1])
    last = edge_patching(model, task, edges="mlp_contrib[2] -> logits@-1", controls=5)
    length = len(model.encode(task.prompts[0]))
    assert last.data["edge"].values.tolist() == [f"mlp_contrib[2] -> logits@{length - 1}"]
    end = edge_patching(model, task, edges="mlp_contrib[2] -> logits@end", controls=0)
    assert np.allclose(last.data["effect"].values, end.data["effect"].values, atol=1e-6)
    assert last.checks[0].n == 5
    with pytest.raises(TaskError, match="token positions are shared only by prompts that are equally long"):
        edge_patching(model, tiny_task(), edges="mlp_contrib[2] -> logits@3", controls=0)
    with pytest.raises(ParameterError, match="an edge is at token 99; the prompts have"):
        edge_patching(model, task, edges="mlp_contrib[2] -> logits@99", controls=0)
    with pytest.raises(ParameterError, match="the named position 'end' and at token 3; .*Write all of them in one way"):
        edge_patching(model, task, edges="embed -> logits@3, embed -> logits@end", controls=0)
    with pytest.raises(SiteError, match="at no position that there is"):
        edge_patching(model, task, edges="embed -> logits@s9", controls=0)
    with pytest.raises(SiteError, match="names several positions"):
        edge_patching(model, task, edges="embed -> logits@*", controls=0)


def test_random_sets_at_positions_are_of_the_same_kinds_at_the_same_positions(model):
    graph = edges.graph_of(model)
    chosen = edges_named(graph, "z[0].head[*] -> q[2].head[1]@s1, embed -> mlp_in[*]@end, mlp_out[1] -> logits@end")
    drawn = random_sets_at(graph, chosen, 4, seed=1)

    def sorts(some):
        return Counter((edge.source.kind, edge.target.kind, edge.position) for edge in some)

    assert all(sorts(some) == sorts(chosen) and len(set(some)) == len(chosen) for some in drawn)
    assert not set(drawn[0]) & set(chosen[:4])  # there are enough other edges of that kind
    assert set(drawn[0]) != set(drawn[1])
