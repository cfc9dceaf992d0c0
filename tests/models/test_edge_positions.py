"""Edges at some positions only: labels of tokens, sums by label, and passes, against every head computed by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cutaway.core.errors import PlanError, SiteError, TaskError
from cutaway.core.site import Site
from cutaway.core.task import Task
from cutaway.models import edge_gradients, edges
from cutaway.models.edge_pass import Pass
from cutaway.models.edge_positions import Positions, named, positions_of, token_by_token
from cutaway.models.encode import Encoded
from cutaway.models.metric import Metric
from cutaway.testing.plain_edges import PlainEdges
from cutaway.testing.tiny import tiny, tiny_task

IDS = ((7, 12, 3, 44, 9, 30), (21, 5, 18, 6, 40, 11))
OTHER = ((7, 12, 3, 25, 9, 31), (21, 5, 33, 6, 19, 11))
SHORT, SHORT_OTHER = ((8, 14, 22, 5),), ((8, 14, 9, 5),)
LABELS = Positions(("a", "b", "end", "elsewhere"), ((3, 0, 1, 1, 3, 2), (3, 3, 0, 1, 3, 2)))


def norm(logits: torch.Tensor) -> torch.Tensor:
    """A smooth number of some logits."""
    return (logits[:, 5:25] ** 2).sum(dim=1)


@dataclass
class PlainAt(PlainEdges):
    """The slow run, with edges changed at the tokens of some labels: `patched` is [source, target, label]."""

    where: torch.Tensor | None = None

    def read(self, target):
        number = self.graph.target_number[target]
        total = self.constant
        for source, value in self.written.items():
            row = self.graph.source_number[source]
            if self.graph.exists[row, number]:
                there = self.other.get(source, torch.zeros_like(value))
                changed = torch.from_numpy(self.patched[row, number])[self.where]  # [prompt, position]
                total = total + torch.where(changed[..., None], there, value)
        return total


def plain(model, mask, zero=False):
    """The slow logits of a set at labels."""
    graph = edges.graph_of(model)
    there = PlainEdges(model, graph, graph.mask())
    with torch.no_grad():
        there.logits(torch.tensor(OTHER))
        run = PlainAt(model, graph, mask, {} if zero else dict(there.written), where=LABELS.of((0, 1), 6))
        return run.logits(torch.tensor(IDS))


def some(graph, seed, share, labels=4):
    """A random set of edges at labels."""
    return (np.random.default_rng(seed).random((*graph.shape, labels)) < share) & graph.exists[:, :, None]


# --- labels ------------------------------------------------------------------------------------------------------


def test_every_token_has_the_label_of_its_name_or_elsewhere():
    model = tiny("llama")
    encoded = tiny_task().encode(model.tokenizer)
    found = named(encoded)
    assert found.names == ("subject", "end", "elsewhere")
    for row, ids in enumerate(encoded.ids):
        expected = ["elsewhere"] * len(ids)
        expected[encoded.positions["subject"][row]] = "subject"
        expected[-1] = "end"
        assert [found.names[label] for label in found.labels[row]] == expected
    with pytest.raises(TaskError, match=r"have 1\d to 1\d tokens.*equally long"):
        token_by_token(encoded)
    first = tiny_task().subset([0, 1]).encode(model.tokenizer)
    assert positions_of(first, "token").labels == (tuple(range(len(first.ids[0]))),) * 2


def test_a_token_with_two_names_has_the_first_and_end_gives_way():
    model = tiny("llama")
    prompt = "When Mary and John went to the store, John gave a drink to"
    task = Task.from_prompts([prompt], positions={"last": [(len(prompt) - 2, len(prompt))], "giver": [(38, 42)]})
    assert named(task.encode(model.tokenizer)).names == ("giver", "last", "elsewhere")
    rest = Task.from_prompts([prompt], positions={"elsewhere": [(38, 42)]})
    with pytest.raises(TaskError, match="A position of the task is called 'elsewhere'"):
        named(rest.encode(model.tokenizer))


# --- scores ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_scores_of_labels_are_sums_over_their_tokens_alone(small, family):
    """Autograd at each target's own stream, for some edges, label by label."""
    model = small[family]
    graph = edges.graph_of(model)
    other = edges.of_prompts(model, OTHER)
    found = edge_gradients.scores(model, Encoded(IDS), other, norm, edge_gradients.plain(), positions=LABELS)
    here, there = (PlainEdges(model, graph, graph.mask()) for _ in range(2))
    with torch.no_grad():
        here.logits(torch.tensor(IDS))
        there.logits(torch.tensor(OTHER))
    base = here.written[Site("embed")]
    leaves = {target: torch.zeros_like(base).requires_grad_(True) for target in graph.targets}
    norm(PlainEdges(model, graph, graph.mask(), {}, leaves).logits(torch.tensor(IDS))).sum().backward()
    where = LABELS.of((0, 1), 6)
    scale = np.abs(found).max()
    for row, source in enumerate(graph.sources):
        difference = there.written[source] - here.written[source]
        for column, target in enumerate(graph.targets):
            product = (difference * leaves[target].grad).sum(dim=-1) / len(IDS)
            for label in range(4):
                expected = float(product[where == label].sum()) if graph.exists[row, column] else 0.0
                assert found[row, column, label] == pytest.approx(expected, rel=1e-5, abs=1e-6 * scale)


@pytest.mark.parametrize("points", ["plain", "ends", "inputs"])
def test_the_labels_sum_to_the_whole_score(small, points):
    model = small["llama"]
    ids, other_ids = IDS + SHORT, OTHER + SHORT_OTHER
    labels = Positions(LABELS.names, (*LABELS.labels, (3, 0, 1, 2)))
    other = edges.of_prompts(model, other_ids)
    metric = Metric("logit_difference", ((5,), (6, 7), (4,)), ((9,), (8,), (3,)))
    way = {"plain": edge_gradients.plain(), "ends": edge_gradients.ends(), "inputs": edge_gradients.inputs(2)}[points]
    for starts in (None, [3, 2, 2]):
        whole = edge_gradients.scores(model, Encoded(ids), other, metric, way, differs_from=starts)
        parts = edge_gradients.scores(model, Encoded(ids), other, metric, way, differs_from=starts, positions=labels)
        assert parts.shape == (*whole.shape, 4)
        assert np.allclose(parts.sum(axis=2), whole, rtol=1e-5, atol=1e-7 * np.abs(whole).max())


# --- runs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@settings(max_examples=4, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.01, 0.1, 0.5, 0.9]), zero=st.booleans())
def test_any_set_equals_every_head_computed_by_hand(small, double_everywhere, family, seed, share, zero):
    model = small[family]
    graph = edges.graph_of(model)
    sets = np.stack([some(graph, seed + i, share) for i in range(3)])
    other = edges.zero() if zero else edges.of_prompts(model, OTHER)
    found = edges.prepare(model, IDS, other).logits(sets, positions=LABELS)
    for mask, ours in zip(sets, found, strict=True):
        assert torch.allclose(ours, plain(model, mask, zero=zero), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_one_edge_at_one_position_equals_the_slow_way(small, double_everywhere, family):
    """Edges into queries, shared keys and values, MLPs and the logits, each at each label."""
    model = small[family]
    graph = edges.graph_of(model)
    every = graph.edges()
    chosen = [
        next(e for e in every[seed:] if e.target.kind == kind) for kind in ("q", "k", "v", "mlp_in") for seed in (0, 60)
    ]
    chosen.append(every[-3])
    runs = edges.prepare(model, IDS, edges.of_prompts(model, OTHER))
    base = runs.logits(graph.mask())[0]
    moved = 0
    for edge in chosen:
        sets = np.stack([graph.mask([f"{edge}@{name}"], LABELS.names) for name in LABELS.names])
        for mask, ours in zip(sets, runs.logits(sets, positions=LABELS), strict=True):
            assert mask.sum() == 1
            assert torch.allclose(ours, plain(model, mask), rtol=1e-9, atol=1e-9), str(edge)
            moved += not torch.allclose(ours, base, rtol=1e-9, atol=1e-12)
    assert moved >= 6


@pytest.mark.parametrize("zero", [False, True])
def test_all_labels_at_once_are_the_set_at_all_positions(small, zero):
    model = small["llama"]
    graph = edges.graph_of(model)
    runs = edges.prepare(model, IDS, edges.zero() if zero else edges.of_prompts(model, OTHER))
    sets = np.stack([some(graph, i, share)[:, :, 0] for i, share in enumerate((0.02, 0.3, 0.9))] + [graph.exists])
    whole = runs.logits(sets)
    found = runs.logits(np.repeat(sets[..., None], 4, axis=3), positions=LABELS)
    assert torch.allclose(found, whole, rtol=1e-6, atol=1e-7)
    assert torch.allclose(
        runs.scores(np.repeat(sets[..., None], 4, axis=3), norm, positions=LABELS), runs.scores(sets, norm), rtol=1e-6
    )


def test_passes_of_any_size_and_start_agree(small):
    model = small["llama"]
    graph = edges.graph_of(model)
    ids, other = IDS + SHORT, OTHER + SHORT_OTHER
    labels = Positions(LABELS.names, (*LABELS.labels, (3, 0, 1, 2)))
    sets = np.stack(
        [some(graph, i, 0.05) for i in range(4)] + [graph.mask(["mlp_contrib[1] -> logits@end"], LABELS.names)]
    )
    sets[1][:, graph.target_layer < 2] = False  # a set that starts late
    runs = edges.prepare(model, ids, edges.of_prompts(model, other))
    whole = runs.logits(sets, positions=labels)
    for batch in (1, 2, 7):
        assert torch.allclose(runs.logits(sets, batch=batch, positions=labels), whole, rtol=1e-6, atol=1e-7)


def test_a_part_is_idle_only_where_its_edges_are_changed_everywhere(small, monkeypatch):
    model = small["llama"]
    graph = edges.graph_of(model)
    seen = []
    made = Pass.__post_init__
    monkeypatch.setattr(Pass, "__post_init__", lambda run: (made(run), seen.append(len(run.idle.mlp)))[0])
    runs = edges.prepare(model, IDS, edges.of_prompts(model, OTHER))
    mask = np.repeat(graph.mask()[..., None], 4, axis=2)
    mask[graph.source_number[Site("mlp_contrib", 1)]] = graph.exists[graph.source_number[Site("mlp_contrib", 1)]][
        :, None
    ]
    most = mask.copy()
    most[..., 0] = False
    runs.logits(mask[None], positions=LABELS)
    runs.logits(most[None], positions=LABELS)
    assert seen == [1, 0]


def test_errors_say_what_to_write(small):
    model = small["llama"]
    graph = edges.graph_of(model)
    runs = edges.prepare(model, IDS, edges.of_prompts(model, OTHER))
    with pytest.raises(
        PlanError, match=r"targets at 4 positions.*graph.mask\(\['embed -> logits'\], positions.names\)"
    ):
        runs.logits(graph.mask(), positions=LABELS)
    with pytest.raises(PlanError, match="which does not exist"):
        runs.logits(np.ones((*graph.shape, 4), dtype=bool), positions=LABELS)
    with pytest.raises(PlanError, match="those of 2 prompts of up to 6 tokens, and 3 prompts"):
        edges.prepare(model, IDS + SHORT, edges.of_prompts(model, OTHER + SHORT_OTHER)).logits(
            some(graph, 0, 0.1), positions=LABELS
        )
    with pytest.raises(SiteError, match="'embed -> logits@s2' is at no position that there is"):
        graph.mask(["embed -> logits@s2"], LABELS.names)
    with pytest.raises(SiteError, match="is an edge at one position; here edges are taken at all positions"):
        graph.mask(["embed -> logits@end"])
