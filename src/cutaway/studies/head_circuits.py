"""What do a few heads do when all other heads are silenced? Circuits of heads, with the MLPs left as they are.

Several papers ask it in the same way: heads outside of a circuit give their mean over other prompts of the template, MLPs
and embeddings are kept, and the task's metric is measured again [@wang2022; @hanna2023].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cutaway.core.edge import Bools, EdgeGraph
from cutaway.core.errors import MethodError
from cutaway.core.task import EncodedTask
from cutaway.methods.circuit_runs import Floats, Runs, runs_of
from cutaway.methods.edge_ranking import node_scores, scores_of
from cutaway.models import edges
from cutaway.models.encode import Encoded
from cutaway.models.model import Model


def head_rows(graph: EdgeGraph) -> list[int]:
    """Rows of the graph that are heads.

    Raises:
        MethodError: what the heads write does not add up, as where it is normalised before it joins the stream.
    """
    found = [row for row, site in enumerate(graph.sources) if site.kind == "z"]
    if not found:
        raise MethodError(
            "the heads of this model do not add up to what its attention writes;",
            "circuits of heads need that each head writes into the stream by itself.",
            "Take a model without a norm behind its attention, such as smollm2.",
        )
    return found


def edges_of_heads(graph: EdgeGraph, heads: Sequence[int]) -> Bools:
    """All edges but those out of other heads than these [source, target]."""
    kept: Bools = graph.exists.copy()
    kept[[row for row in head_rows(graph) if row not in set(heads)]] = False
    return kept


def silenced_runs(model: Model, encoded: EncodedTask) -> Runs:
    """Runs in which what is silenced gives its mean over the contrasts of the same template, position by position."""
    runs = runs_of(model, encoded)
    groups = [encoded.task.template[i] for i in encoded.kept] if encoded.task.template else None
    other = edges.mean(model, Encoded(tuple(encoded.contrast_ids)), groups)
    engine = edges.prepare(model, Encoded(tuple(encoded.ids)), other)
    ends = np.stack([np.zeros(runs.graph.shape, dtype=bool), runs.graph.exists])
    whole, empty = engine.scores(ends, runs.metric).double().cpu().numpy()
    return Runs(model, encoded, runs.graph, engine, runs.metric, runs.divergence, whole, empty, runs.notes)


def ranked_heads(model: Model, encoded: EncodedTask, steps: int = 5) -> list[int]:
    """Rows of the heads, those that carry most of the metric first (EAP-IG, summed over a head's edges) [@hanna2024]."""
    runs = runs_of(model, encoded)
    change = node_scores(scores_of(runs, "eap_ig", steps))
    rows = np.array(head_rows(runs.graph))
    # A change for the worse means that the head carries the answer.
    return [int(row) for row in rows[np.argsort(change[rows], kind="stable")]]


def direct_effects(runs: Runs) -> Floats:
    """What the metric loses when only what a head writes straight into the logits is changed [head, prompt]."""
    rows = head_rows(runs.graph)
    logits = len(runs.graph.targets) - 1
    sets = np.zeros((len(rows), *runs.graph.shape), dtype=bool)
    sets[np.arange(len(rows)), rows, logits] = True
    return runs.whole[None] - runs.without(sets)


def without_heads(runs: Runs, heads: Sequence[int]) -> Floats:
    """The metric with some heads silenced [prompt]."""
    changed = runs.graph.exists & ~edges_of_heads(
        runs.graph, [row for row in head_rows(runs.graph) if row not in set(heads)]
    )
    return np.asarray(runs.without(changed[None])[0])


def random_heads(runs: Runs, count: int, times: int, seed: int) -> Bools:
    """Circuits of as many random heads [circuit, source, target]."""
    rng = np.random.default_rng(seed)
    rows = head_rows(runs.graph)
    return np.stack([edges_of_heads(runs.graph, rng.choice(rows, count, replace=False).tolist()) for _ in range(times)])


def names_of(graph: EdgeGraph, heads: Sequence[int]) -> list[str]:
    """`7.3` for head 3 of layer 7."""
    return [f"{graph.sources[row].layer}.{graph.sources[row].head}" for row in heads]
