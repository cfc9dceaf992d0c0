"""First-order effects of all edges, against autograd edge by edge, and the sums that they obey."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cutaway.core.errors import PlanError
from cutaway.core.site import Site
from cutaway.models import edge_gradients, edges
from cutaway.models.encode import Encoded
from cutaway.models.metric import Metric
from cutaway.testing.plain_edges import PlainEdges
from cutaway.testing.tiny import tiny

IDS = ((7, 12, 3, 44, 9, 30), (21, 5, 18, 6, 40, 11))
OTHER = ((7, 12, 3, 25, 9, 31), (21, 5, 33, 6, 19, 11))
SHORT, SHORT_OTHER = ((8, 14, 22, 5),), ((8, 14, 9, 5),)
METRIC = Metric("logit_difference", ((5,), (6, 7), (4,)), ((9,), (8,), (3,)))


def norm(logits: torch.Tensor) -> torch.Tensor:
    """A smooth number of some logits."""
    return (logits[:, 5:25] ** 2).sum(dim=1)


def by_autograd(model, along: float) -> np.ndarray:
    """Scores edge by edge: the gradient at each target's own stream times the difference of each source."""
    graph = edges.graph_of(model)
    ids, other = torch.tensor(IDS), torch.tensor(OTHER)
    with torch.no_grad():
        here, there = (PlainEdges(model, graph, graph.mask()) for _ in range(2))
        here.logits(ids)
        there.logits(other)
    base = here.written[Site("embed")]
    moved = along * (there.written[Site("embed")] - base)
    leaves = {target: torch.zeros_like(base).requires_grad_(True) for target in graph.targets}
    run = PlainEdges(model, graph, graph.mask(), {}, leaves)
    embed = type(run.written)
    run.written = _Moved(embed(), moved)
    norm(run.logits(ids)).sum().backward()
    found = np.zeros(graph.shape)
    for row, source in enumerate(graph.sources):
        difference = there.written[source] - here.written[source]
        for column, target in enumerate(graph.targets):
            if graph.exists[row, column]:
                found[row, column] = float((difference * leaves[target].grad).sum()) / len(IDS)
    return found


class _Moved(dict):
    """What sources wrote, with the embeddings moved."""

    def __init__(self, held, moved):
        super().__init__(held)
        self.moved = moved

    def __setitem__(self, key, value):
        super().__setitem__(key, value + self.moved if key == Site("embed") else value)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("along", [0.0, 0.5])
def test_every_score_equals_autograd_edge_by_edge(small, double_throughout, family, along):
    model = small[family]
    other = edges.of_prompts(model, OTHER)
    found = edge_gradients.scores(model, Encoded(IDS), other, norm, [edge_gradients.Point(along, 1.0)])
    expected = by_autograd(model, along)
    assert np.allclose(found, expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["llama", "gpt_neox", "gemma3_text"])
def test_scores_are_the_slopes_of_exact_patching(opened, double_throughout, kind):
    """A hundredth of the way to the other run: first order is the whole truth, up to a hundredth of it."""
    model = opened(kind)
    graph = edges.graph_of(model)
    base, other = (edges.of_prompts(model, ids) for ids in (IDS, OTHER))
    near = {site: value + 1e-4 * (other.values[site] - value) for site, value in base.values.items()}
    little = edges.Contributions(near, "nearly the base", len(IDS))
    found = edge_gradients.scores(model, Encoded(IDS), little, norm, edge_gradients.plain())
    every = graph.edges()
    chosen = every[:: max(1, len(every) // 25)]
    sets = np.stack([graph.mask(), *(graph.mask([edge]) for edge in chosen)])
    exact = edges.prepare(model, IDS, little).scores(sets, norm).mean(dim=1)
    effect = (exact[1:] - exact[0]).numpy()
    ours = np.array([found[graph.number(edge)] for edge in chosen])
    assert np.corrcoef(ours, effect)[0, 1] > 0.999
    assert np.allclose(ours, effect, rtol=0.05, atol=0.03 * np.abs(effect).max())


def test_sums_over_targets_and_over_sources(small):
    """All edges out of a part: its own first-order effect. All edges into one: that of its whole stream."""
    model = small["llama"]
    graph = edges.graph_of(model)
    other = edges.of_prompts(model, OTHER)
    found = edge_gradients.scores(model, Encoded(IDS), other, norm, edge_gradients.plain())
    run = model.grad(list(IDS), norm, at="z[1], resid_pre[0], resid_post[2]")
    there = model.run(list(OTHER), read="z[1], resid_pre[0], resid_post[2]", logits="none")
    for head in range(4):
        part = ((there["z[1]"] - run["z[1]"]) * run.grad("z[1]"))[:, :, head].sum() / 2
        assert found[graph.source_number[Site("z", 1, head)]].sum() == pytest.approx(float(part), rel=1e-4)
    embed = ((there["resid_pre[0]"] - run["resid_pre[0]"]) * run.grad("resid_pre[0]")).sum() / 2
    assert found[0].sum() == pytest.approx(float(embed), rel=1e-4)
    last = ((there["resid_post[2]"] - run["resid_post[2]"]) * run.grad("resid_post[2]")).sum() / 2
    assert found[:, -1].sum() == pytest.approx(float(last), rel=1e-4)


def test_integrated_gradients_are_complete(small):
    """The edges out of the embeddings sum to the difference of the metric between the runs."""
    model = small["llama"]
    other = edges.of_prompts(model, OTHER)
    gap = float(norm(model.run(list(OTHER), logits="last").last_logits).mean())
    gap -= float(norm(model.run(list(IDS), logits="last").last_logits).mean())
    errors = []
    for steps in (1, 12):
        found = edge_gradients.scores(model, Encoded(IDS), other, norm, edge_gradients.inputs(steps))
        errors.append(abs(found[0].sum() / gap - 1))
    assert errors[1] < 0.05 < errors[0]


def test_own_activations_integrate_each_source(small):
    """With its own outputs moved, the edges out of the last MLP sum to the effect of patching it."""
    model = small["gpt2"]
    graph = edges.graph_of(model)
    other = edges.of_prompts(model, OTHER)
    points = edge_gradients.activations(model, 6)
    found = edge_gradients.scores(model, Encoded(IDS), other, norm, points, own_rows=True)
    for source in ("mlp_contrib[2]", "mlp_contrib[0]"):
        row = graph.source_number[Site.parse(source)]
        mask = graph.mask()
        mask[row] = graph.exists[row]
        exact = edges.prepare(model, list(IDS), other).scores(np.stack([graph.mask(), mask]), norm).mean(dim=1)
        assert found[row].sum() == pytest.approx(float(exact[1] - exact[0]), rel=0.05)


def test_what_comes_before_the_first_difference_is_left_out(small):
    model = small["llama"]
    ids, other_ids = IDS + SHORT, OTHER + SHORT_OTHER
    other = edges.of_prompts(model, other_ids)
    points = [*edge_gradients.ends()]
    whole = edge_gradients.scores(model, Encoded(ids), other, METRIC, points)
    part = edge_gradients.scores(model, Encoded(ids), other, METRIC, points, differs_from=[3, 2, 2])
    assert np.allclose(whole, part, rtol=1e-5, atol=1e-7 * np.abs(whole).max())
    alone = [
        edge_gradients.scores(
            model,
            Encoded(ids[i : i + 1]),
            edges.of_prompts(model, other_ids[i : i + 1]),
            Metric("logit_difference", METRIC.answers[i : i + 1], METRIC.wrong[i : i + 1]),
            points,
        )
        for i in range(3)
    ]
    assert np.allclose(np.mean(alone, axis=0), whole, rtol=1e-5, atol=1e-7 * np.abs(whole).max())


def test_chunks_of_tokens_and_blocks_of_targets_do_not_change_the_sum(small, monkeypatch):
    model = small["llama"]
    other = edges.of_prompts(model, OTHER)
    whole = edge_gradients.scores(model, Encoded(IDS), other, norm, edge_gradients.plain())
    monkeypatch.setattr(edge_gradients, "DIFFERENCE_BYTES", 1)
    monkeypatch.setattr(edge_gradients, "TARGETS_AT_ONCE", 1)
    assert np.allclose(
        edge_gradients.scores(model, Encoded(IDS), other, norm, edge_gradients.plain()),
        whole,
        rtol=1e-6,
        atol=1e-9 * np.abs(whole).max(),
    )


def test_a_count_has_no_gradient(small):
    model = small["llama"]
    with pytest.raises(PlanError, match="has no gradient.*Use logit_difference"):
        edge_gradients.scores(
            model,
            Encoded(IDS),
            edges.zero(),
            lambda logits: (logits.detach() > 0).sum(dim=1).double(),
            edge_gradients.plain(),
        )


def test_no_weight_gets_a_gradient():
    model = tiny("gpt2")
    edge_gradients.scores(model, Encoded(IDS), edges.zero(), norm, edge_gradients.plain())
    assert all(weight.grad is None and weight.requires_grad for weight in model.hf.parameters())
