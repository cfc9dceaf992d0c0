"""Parts from which no unchanged edge leads to the logits need not run: the same logits, and less of the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cutaway.models import edge_pass, edges
from cutaway.models.edge_idle import Idle
from cutaway.testing.tiny import tiny

IDS = [[7, 12, 3, 44, 9, 30], [21, 5, 18, 6, 40, 11]]
OTHER = [[7, 12, 3, 25, 9, 31], [21, 5, 33, 6, 19, 11]]
NETWORKS = [
    *("llama", "gpt2", "gemma3_text"),
    *(pytest.param(kind, marks=pytest.mark.all) for kind in ("gpt_neox", "falcon", "qwen3", "phi3", "olmo2", "opt")),
]


def kept(graph, seed, count):
    """All edges changed but a few on ways to the logits, so that parts are idle."""
    draw = np.random.default_rng(seed)
    sets = []
    for _ in range(count):
        stays = graph.mask()
        target = graph.shape[1] - 1
        for _ in range(3):  # a way back from the logits
            source = draw.choice(np.flatnonzero(graph.exists[:, target]))
            stays[source, target] = True
            fed = np.flatnonzero(graph.feeds[:, source])
            if not len(fed):
                break
            target = draw.choice(fed)
        sets.append(graph.exists & ~stays)
    return np.stack(sets)


@pytest.mark.parametrize("kind", NETWORKS)
def test_passes_that_leave_idle_parts_out_give_the_same_logits(opened, kind, monkeypatch):
    model = opened(kind)
    graph = edges.graph_of(model)
    runs = edges.prepare(model, IDS, edges.of_prompts(model, OTHER))
    sets = kept(graph, seed=3, count=6)
    found = torch.stack([runs.logits(one)[0] for one in sets])
    together = runs.logits(sets)
    monkeypatch.setattr(edge_pass.Idle, "of", lambda parts, recording, changed: Idle.none(parts.graph))
    slow = runs.logits(sets)
    assert torch.allclose(found, slow, rtol=1e-5, atol=2e-6)
    assert torch.allclose(together, slow, rtol=1e-5, atol=2e-6)
    assert not torch.allclose(slow[0], slow[1], rtol=1e-3, atol=1e-3)


def test_only_the_parts_of_the_circuit_run():
    model = tiny("llama")
    graph = edges.graph_of(model)
    layers = model.anatomy.stacks[""].layers
    ran = []
    for layer in layers:
        for name in ("self_attn", "mlp"):
            part, called = getattr(layer.module, name), f"{name} {layer.index}"
            monkeypatched = part.forward
            part.forward = _noting(monkeypatched, called, ran)
    runs = edges.prepare(model, IDS, edges.of_prompts(model, OTHER))
    stays = graph.mask(["embed -> mlp_in[0]", "mlp_contrib[0] -> v[1].head[0]", "z[1].head[1] -> logits"])
    runs.logits(graph.exists & ~stays)
    ran.clear()
    runs.logits(graph.exists & ~stays)
    assert ran == ["mlp 0", "self_attn 1"]


def _noting(forward, called, ran):
    def noted(*args, **kwargs):
        ran.append(called)
        return forward(*args, **kwargs)

    return noted


def test_what_is_idle_follows_from_the_edges_that_stay():
    model = tiny("llama")
    graph, parts = edges.graph_of(model), edges.parts_of(model)
    runs = edges.prepare(model, IDS, edges.of_prompts(model, OTHER))
    recording = runs._base([0, 1]).recording
    everything = Idle.of(parts, recording, torch.from_numpy(graph.exists)[None])
    assert everything.sources.sum() == len(graph.sources) - 1  # all but `embed`, which is no module
    assert [str(graph.targets[t]) for t in np.flatnonzero(everything.reading)] == ["logits"]
    nothing = Idle.of(parts, recording, torch.from_numpy(graph.mask())[None])
    assert not nothing.sources.any()
    assert nothing.reading.all()
