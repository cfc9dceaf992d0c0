"""ACDC as cutaway runs it, and the per-edge loop: a run of the whole model for every edge, nothing shared or skipped.

Both sides evaluate sets of edges with the same exact pass, so that what is compared is the loop. The loop at one edge
starts from what the pruning had decided before it, which follows from the edges that were kept and their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from bench.side import worker


def runs(model: Any, prompts: Sequence[str], contrasts: Sequence[str], small: bool) -> Any:
    """Runs of circuits on some pairs; on a tiny random model and its task instead, where `small`."""
    import cutaway
    from cutaway.methods.circuit_runs import runs_of
    from cutaway.testing.tiny import tiny, tiny_task

    opened, task = model, cutaway.Task.from_prompts(list(prompts), list(contrasts))
    if small:
        opened, task = tiny("llama"), tiny_task()
        opened.hf.double()  # so that no decision hangs on rounding
    return runs_of(opened, task.encode(opened.tokenizer))


def prune(
    model: Any, *, prompts: list[str], contrasts: list[str], threshold: float, small: bool = False
) -> worker.Thunk:
    """The edges that are kept [source, target]."""
    from cutaway.methods.edge_pruning_order import pruned

    def work() -> worker.Values:
        own = runs(model, prompts, contrasts, small)
        found = pruned(own.graph, partial(own.distances, measure="kl"), threshold)
        return {"kept": found.kept, "tried": np.array(found.tried), "edges": np.array(own.graph.n_edges)}

    return work


def one_by_one(
    model: Any,
    *,
    prompts: list[str],
    contrasts: list[str],
    threshold: float,
    kept: list[list[int]],
    every: int,
    small: bool = False,
) -> worker.Thunk:
    """Whether each of a sample of edges is kept, one run of the whole model each, after one for where it starts."""
    from cutaway.methods.edge_pruning_order import order_of

    own = runs(model, prompts, contrasts, small)
    order = order_of(own.graph)
    mask = np.zeros(own.graph.shape, dtype=bool)
    mask[tuple(np.array(kept, dtype=int).reshape(-1, 2).T)] = True
    done = list(range(every // 2, len(order), every))
    before = {}
    for place in done:  # what the loop would carry along from edge to edge: not timed
        changed = np.zeros(own.graph.shape, dtype=bool)
        for source, target in order[:place]:
            changed[source, target] = not mask[source, target]
        before[place] = (changed, _distance(own, changed))

    def work() -> worker.Values:
        decisions = []
        for place in done:
            changed, distance = before[place]
            changed = changed.copy()
            changed[order[place]] = True
            decisions.append(not _distance(own, changed) - distance < threshold)
        return {"kept": np.array(decisions, dtype=float), "order": np.array([order[place] for place in done])}

    return work


def _distance(own: Any, changed: np.ndarray) -> float:
    """How far the model moves, by one run from its first layer to all of its logits."""
    import torch

    from cutaway.models.edge_pass import Pass
    from cutaway.models.recording import by_length

    total = 0.0
    for prompts in by_length(own.engine.encoded).values():
        base, sets = own.engine._base(prompts), torch.from_numpy(changed)[None]
        with torch.no_grad():
            total += float(Pass(own.model, base, sets, 0, own.divergence).run().sum())
    return total / len(own.encoded.ids)
