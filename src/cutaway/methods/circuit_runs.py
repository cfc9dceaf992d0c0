"""What is left of the behaviour when only some edges carry it? Circuits run, and how far they are from the whole model.

Edges outside of the circuit carry something else: what they carry in the contrast, in another prompt of the task, the
mean (of the prompt's template, where the task has templates), or nothing. `Runs` holds what is learned once for many
circuits on the same prompts: the base run, the other contributions, the metric, the predictions of the whole model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cutaway.core.circuit import Circuit
from cutaway.core.edge import Bools, EdgeGraph
from cutaway.core.edge_paths import connected_at
from cutaway.core.errors import TaskError
from cutaway.core.task import EncodedTask
from cutaway.methods.scoring import metric_for
from cutaway.models import edges
from cutaway.models.edge_positions import Positions
from cutaway.models.edges import Contributions, EdgeRuns
from cutaway.models.encode import Encoded
from cutaway.models.metric import Metric
from cutaway.models.model import Model

Floats = NDArray[np.float64]
How = Literal["contrast", "mean", "zero", "resample"]
Measure = Literal["kl", "metric"]
HOW = "what edges outside carry: what they do in the contrast, the mean (of the template), zero, or another prompt's"


def other_values(model: Model, encoded: EncodedTask, how: How, seed: int) -> Contributions:
    """What edges outside of a circuit carry.

    Args:
        model: the network.
        encoded: the task.
        how: one of `How`.
        seed: draws the other prompts of `resample`.

    Raises:
        TaskError: contrasts are wanted, and the task has none.
    """
    if how == "zero":
        return edges.zero()
    prompts = Encoded(tuple(encoded.ids))
    if how == "mean":
        groups = [encoded.task.template[i] for i in encoded.kept] if encoded.task.template else None
        return edges.mean(model, prompts, groups)
    if how == "resample":
        return edges.resampled(model, prompts, seed)
    if not encoded.contrast_ids:
        raise TaskError(
            "The task has no contrasts;",
            "edges outside of a circuit can carry the mean, zero, or what they carry in another prompt.",
            'Give how="mean", or a task with contrasts.',
        )
    return edges.of_prompts(model, Encoded(tuple(encoded.contrast_ids)), "the contrasts")


@dataclass(frozen=True, eq=False)
class Runs:
    """Circuits on the prompts of one task; `runs_of` makes it.

    Attributes:
        model, encoded: the network and the task.
        graph: the edges.
        engine: runs sets of changed edges.
        metric: that of the task; the divergence from the whole model where it has no answers.
        divergence: the divergence from the whole model's prediction.
        whole, empty: the metric of the whole model and with all edges changed [prompt].
        notes: what a reader must know.
        positions: labels of the prompts' tokens, where circuits are of edges at positions.
    """

    model: Model
    encoded: EncodedTask
    graph: EdgeGraph
    engine: EdgeRuns
    metric: Metric
    divergence: Metric
    whole: Floats
    empty: Floats
    notes: tuple[str, ...] = ()
    positions: Positions | None = None

    @property
    def exists(self) -> Bools:
        """All edges, of the shape of a circuit: [source, target], or [source, target, position]."""
        if self.positions is None:
            return self.graph.exists
        return np.repeat(self.graph.exists[:, :, None], len(self.positions.names), axis=2)

    def connected(self, mask: Bools, *, from_embed: bool = False) -> Bools:
        """The edges of a circuit that lie on a way to the logits (from the embeddings)."""
        if self.positions is None:
            return self.graph.connected(mask, from_embed=from_embed)
        return connected_at(self.graph, mask, self.positions.order, from_embed=from_embed)

    def of(self, circuits: Sequence[Circuit] | Bools, metric: Metric | None = None) -> Floats:
        """The metric of every prompt with the edges outside of each circuit changed [circuit, prompt]."""
        kept = np.stack([c.edges for c in circuits]) if not isinstance(circuits, np.ndarray) else circuits
        return self.without(self.exists[None] & ~kept, metric)

    def without(self, changed: Bools, metric: Metric | None = None) -> Floats:
        """The metric of every prompt with sets of edges changed [set, source, target] -> [set, prompt]."""
        found = self.engine.scores(changed, metric or self.metric, what="circuits", positions=self.positions)
        return found.double().cpu().numpy()

    def distances(self, changed: Bools, measure: Measure) -> Floats:
        """How far the model moves when sets of edges are changed: mean over prompts [set].

        `kl` is the divergence of the prediction, `metric` the size of the change of the task's metric.
        """
        if measure == "kl":
            return np.asarray(self.without(changed, self.divergence).mean(axis=1))
        return np.asarray(np.abs(self.without(changed) - self.whole[None]).mean(axis=1))

    def faithfulness(self, kept: Bools) -> Floats:
        """The metric of circuits, 0 where all edges are changed and 1 for the whole model: (F(C) - F(∅)) / (F(M) - F(∅)).

        Means over prompts are taken first; a model and a contrast that score alike have no faithfulness (NaN).
        """
        return self.normalised(self.of(kept))

    def normalised(self, scores: Floats) -> Floats:
        """Metrics [..., prompt] as shares of the way from all edges changed to none [...]."""
        span = float(self.whole.mean() - self.empty.mean())
        shares = (scores.mean(axis=-1) - self.empty.mean()) / span if abs(span) > 1e-9 else np.nan
        return np.asarray(shares * np.ones(scores.shape[:-1]))


def runs_of(
    model: Model,
    encoded: EncodedTask,
    how: How = "contrast",
    *,
    seed: int = 0,
    metric: Metric | None = None,
    positions: Positions | None = None,
) -> Runs:
    """Learn what circuits on a task need.

    Args:
        model: the network.
        encoded: the task.
        how: what edges outside of a circuit carry.
        seed: draws the other prompts of `resample`.
        metric: another metric than the task's own.
        positions: labels of the prompts' tokens, for circuits of edges at positions.
    """
    own, notes = (metric, ()) if metric is not None else metric_for(model, encoded)
    assert own is not None
    prompts = Encoded(tuple(encoded.ids))
    engine = edges.prepare(model, prompts, other_values(model, encoded, how, seed))
    graph = engine.graph
    logits = model.run(encoded, logits="last").last_logits
    divergence = Metric(
        "kl", (), reference=(logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)
    )
    ends = np.stack([np.zeros(graph.shape, dtype=bool), graph.exists])
    whole, empty = engine.scores(ends, own).double().cpu().numpy()
    return Runs(model, encoded, graph, engine, own, divergence, whole, empty, (*notes, *graph.notes), positions)
