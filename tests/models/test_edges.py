"""Sets of changed edges in one pass, against every head computed by hand, and the laws that hold on any network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cutaway.core.errors import ModelError, PlanError
from cutaway.core.site import Site
from cutaway.models import edges
from cutaway.models.edge_pass import Pass
from cutaway.models.metric import Metric
from cutaway.testing.plain_edges import PlainEdges

IDS = [[7, 12, 3, 44, 9, 30], [21, 5, 18, 6, 40, 11]]
OTHER = [[7, 12, 3, 25, 9, 31], [21, 5, 33, 6, 19, 11]]
SHORT = [[8, 14, 22, 5], [9, 41, 13, 7]]
NETWORKS = [
    *("gpt_neox", "gemma3_text", "falcon"),
    *(pytest.param(kind, marks=pytest.mark.all) for kind in ("llama", "gpt2", "qwen3", "phi3", "olmo2", "opt")),
]


def norm(logits: torch.Tensor) -> torch.Tensor:
    """A smooth number of some logits."""
    return (logits[:, 5:25] ** 2).sum(dim=1)


def plain(model, mask, ids=IDS, other=OTHER, zero=False):
    """The slow logits of a set."""
    graph = edges.graph_of(model)
    there = PlainEdges(model, graph, graph.mask())
    with torch.no_grad():
        there.logits(torch.tensor(other))
        run = PlainEdges(model, graph, mask, {} if zero else dict(there.written))
        return run.logits(torch.tensor(ids))


def some(graph, seed, share):
    """A random set of edges."""
    return (np.random.default_rng(seed).random(graph.shape) < share) & graph.exists


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@settings(max_examples=4, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.01, 0.1, 0.5, 0.8]), zero=st.booleans())
def test_any_set_equals_every_head_computed_by_hand(small, double_everywhere, family, seed, share, zero):
    model = small[family]
    graph = edges.graph_of(model)
    sets = np.stack([some(graph, seed + i, share) for i in range(3)])
    other = edges.zero() if zero else edges.of_prompts(model, OTHER)
    found = edges.prepare(model, IDS, other).logits(sets)
    for mask, ours in zip(sets, found, strict=True):
        assert torch.allclose(ours, plain(model, mask, zero=zero), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_every_single_edge_equals_the_slow_way(small, double_everywhere, family):
    model = small[family]
    graph = edges.graph_of(model)
    every = graph.edges()
    chosen = every[:: max(1, len(every) // 12)] + every[-3:]
    sets = np.stack([graph.mask([edge]) for edge in chosen])
    found = edges.prepare(model, IDS, edges.of_prompts(model, OTHER)).logits(sets)
    for mask, ours, edge in zip(sets, found, chosen, strict=True):
        assert torch.allclose(ours, plain(model, mask), rtol=1e-9, atol=1e-9), str(edge)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_part_that_reads_nothing_reads_exactly_nothing(small, double_everywhere, family):
    """What rounding leaves of a stream would be made large by the norm."""
    model = small[family]
    graph = edges.graph_of(model)
    sets = np.stack([graph.exists, graph.exists & (graph.target_layer >= 1)[None]])
    found = edges.prepare(model, IDS, edges.zero()).logits(sets)
    for mask, ours in zip(sets, found, strict=True):
        assert torch.allclose(ours, plain(model, mask, zero=True), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("kind", NETWORKS)
def test_no_edge_is_the_base_run_and_every_edge_the_other(opened, kind):
    model = opened(kind)
    graph = edges.graph_of(model)
    runs = edges.prepare(model, IDS, edges.of_prompts(model, OTHER))
    none, every = runs.logits(np.stack([graph.mask(), graph.exists]))
    base, other = (model.run(ids, logits="last").last_logits for ids in (IDS, OTHER))
    assert torch.allclose(none, base, rtol=1e-6, atol=1e-7)
    assert torch.allclose(every, other, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(base, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", NETWORKS)
def test_all_edges_of_one_source_write_it_once(opened, kind):
    """Changing all edges out of a head is patching its z (a sequence of sites that peers call node patching)."""
    model = opened(kind)
    graph = edges.graph_of(model)
    source = next(s for s in graph.sources if s.kind in ("z", "attn_contrib") and s.layer == 1)
    mask = graph.mask()
    mask[graph.source_number[source]] = graph.exists[graph.source_number[source]]
    found = edges.prepare(model, IDS, edges.of_prompts(model, OTHER)).logits(mask)[0]
    there = model.run(OTHER, read=source.whole, logits="none")
    from cutaway.core.edit import patch

    if source.kind == "z":
        expected = model.run(IDS, edit=patch(str(source), there), logits="last").last_logits
    else:
        place = model.anatomy.place(source)
        from cutaway.models import taps

        value = there[source]
        with taps.module_taps([taps.ModuleTap(place.module, "out", lambda raw: value / place.scale, place.index)]):
            expected = model.run(IDS, logits="last").last_logits
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_passes_of_any_size_and_start_agree(small):
    model = small["llama"]
    graph = edges.graph_of(model)
    sets = np.stack([some(graph, i, 0.05) for i in range(5)] + [graph.mask(["mlp_contrib[1] -> logits"])])
    sets[1][:, graph.target_layer < 2] = False  # a set that starts late
    prompts, other = IDS + SHORT, OTHER + SHORT[::-1]
    runs = edges.prepare(model, prompts, edges.of_prompts(model, other))
    whole = runs.logits(sets)
    for batch in (1, 2, 3, 7):
        assert torch.allclose(runs.logits(sets, batch=batch), whole, rtol=1e-6, atol=1e-7)
    alone = edges.prepare(model, prompts[:1], edges.of_prompts(model, other[:1])).logits(sets[1])
    assert torch.allclose(alone[0, 0], whole[1, 0], rtol=1e-6, atol=1e-7)


def test_a_pass_starts_at_the_first_changed_target(small, monkeypatch):
    model = small["llama"]
    graph = edges.graph_of(model)
    ran = []
    monkeypatch.setattr(Pass, "__post_init__", _noting(Pass.__post_init__, ran))
    runs = edges.prepare(model, IDS, edges.of_prompts(model, OTHER))
    runs.logits(np.stack([graph.mask(["embed -> logits"]), graph.mask(["z[0].head[0] -> mlp_in[1]"])]), batch=2)
    assert sorted(ran) == [1, graph.n_layers]


def _noting(made, ran):
    def post_init(self):
        made(self)
        ran.append(self.first)

    return post_init


def test_a_metric_of_few_tokens_needs_no_vocabulary(small):
    model = small["gpt2"]
    graph = edges.graph_of(model)
    metric = Metric("logit_difference", ((5,), (6, 7)), ((9,), (8,)))
    sets = np.stack([graph.mask(), some(graph, 1, 0.3)])
    other = edges.of_prompts(model, OTHER)
    found = edges.evaluate(model, IDS, sets, other, metric)
    logits = edges.prepare(model, IDS, other).logits(sets)
    expected = torch.stack([metric(rows) for rows in logits])
    assert found.shape == (2, 2)
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-7)
    free = edges.evaluate(model, IDS, sets, other, norm)
    assert torch.allclose(free, torch.stack([norm(rows) for rows in logits]), rtol=1e-6)


def test_means_are_over_everything_or_over_the_template_at_each_position(small):
    model = small["llama"]
    prompts = IDS + OTHER + SHORT[:1]
    run = model.run(prompts, read="z[1], mlp_contrib[0]", logits="none")
    overall = edges.mean(model, prompts)
    real = torch.cat([run["z[1]"][row, :n] for row, n in enumerate(run.lengths)])
    assert torch.allclose(overall.values[Site("z", 1)][0, 0], real.mean(dim=0))
    grouped = edges.mean(model, prompts, ["a", "b", "a", "b", "a"])
    assert torch.allclose(grouped.values[Site("mlp_contrib", 0)][0, :6], run["mlp_contrib[0]"][[0, 2], :6].mean(dim=0))
    assert torch.allclose(grouped.values[Site("z", 1)][4, 2], real.mean(dim=0))  # alone in its group
    graph = edges.graph_of(model)
    assert edges.prepare(model, prompts, grouped).scores(graph.exists, norm).isfinite().all()


def test_resampled_is_another_prompt_of_the_same_length(small):
    model = small["llama"]
    prompts = IDS + OTHER
    other = edges.resampled(model, prompts, seed=3)
    graph = edges.graph_of(model)
    found = edges.prepare(model, prompts, other).logits(graph.exists)[0]
    plain_runs = model.run(prompts, logits="last").last_logits
    matches = [[i for i in range(4) if torch.allclose(row, plain_runs[i], rtol=1e-5, atol=1e-6)] for row in found]
    assert sorted(match[0] for match in matches) == [0, 1, 2, 3]
    assert all(match != [i] for i, match in enumerate(matches))
    with pytest.raises(PlanError, match="Prompt 2 is the only one of 4 tokens"):
        edges.resampled(model, IDS + SHORT[:1], seed=0)


def test_errors_say_what_to_write(small):
    model = small["llama"]
    graph = edges.graph_of(model)
    other = edges.of_prompts(model, OTHER)
    runs = edges.prepare(model, IDS, other)
    with pytest.raises(PlanError, match=r"shape \(1, 2, 3\).*13|shape \(1, 2, 3\)"):
        runs.logits(np.zeros((2, 3), dtype=bool))
    with pytest.raises(PlanError, match="does not exist"):
        runs.logits(~graph.exists)
    with pytest.raises(PlanError, match="those of 2 prompts of up to 6 tokens"):
        edges.prepare(model, IDS + SHORT, other)
    with pytest.raises(PlanError, match="A batch of 0 rows"):
        runs.logits(graph.mask(), batch=0)
    with pytest.raises(PlanError, match="batch is 'some'"):
        runs.logits(graph.mask(), batch="some")


def test_networks_without_a_sum_are_refused(opened):
    with pytest.raises(ModelError, match="The stream of .* is not a sum of what its parts add: it is normalised"):
        edges.graph_of(opened("openai-gpt"))
