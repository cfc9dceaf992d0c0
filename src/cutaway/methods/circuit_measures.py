"""Is a circuit the whole story, and nothing but it? Measures of circuits, each a function of runs and circuits.

faithfulness   does the circuit alone do what the model does
completeness   does taking parts out of the circuit do what taking them out of the model does: |F(C∖K) - F(M∖K)| [@wang2022]
minimality     does each part matter: in `minimality.py`
curve          faithfulness of the circuits of growing size that scores give, and its areas: CPR, the area under it, and
               CMD, the area between it and 1 [@mueller2025]
agreement      do scores put the edges of a known circuit first: the area under the ROC curve

Taking a part out of a circuit changes all edges out of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cutaway.core.circuit import Circuit, largest
from cutaway.core.edge import Bools, EdgeGraph
from cutaway.methods.circuit_runs import Runs

Floats = NDArray[np.float64]
# The sizes of the mechanistic interpretability benchmark, as shares of all edges [@mueller2025].
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True, eq=False)
class Completeness:
    """Sets of parts taken out of circuit and model alike.

    Attributes:
        sets: the parts (rows of sources) of each set.
        of_circuit, of_model: the metric without them [set].
    """

    sets: tuple[tuple[int, ...], ...]
    of_circuit: Floats
    of_model: Floats

    @property
    def gaps(self) -> Floats:
        """|F(C∖K) - F(M∖K)| of each set [set]."""
        return np.abs(self.of_circuit - self.of_model)


def without_nodes(edges: Bools, nodes: Sequence[int]) -> Bools:
    """Edges without those out of some sources (rows)."""
    kept = edges.copy()
    kept[list(nodes)] = False
    return kept


def parts_in(circuit: Circuit) -> list[int]:
    """The sources of a circuit (rows) that can be taken out: all but `embed`."""
    return [i for i in np.flatnonzero(circuit.sources).tolist() if circuit.graph.sources[i].kind != "embed"]


def random_parts(circuit: Circuit, count: int, seed: int) -> list[tuple[int, ...]]:
    """Random sets of parts of a circuit, each part with probability one half; the empty set first."""
    random, parts = np.random.default_rng(seed), parts_in(circuit)
    drawn = [tuple(part for part in parts if random.random() < 0.5) for _ in range(count)]
    return [(), *drawn]


def completeness(runs: Runs, circuit: Circuit, sets: Sequence[Sequence[int]]) -> Completeness:
    """Take the same parts out of the circuit and out of the whole model."""
    kept = [without_nodes(edges, nodes) for edges in (circuit.edges, runs.exists) for nodes in sets]
    scores = runs.of(np.stack(kept)).mean(axis=1)
    return Completeness(tuple(map(tuple, sets)), scores[: len(sets)], scores[len(sets) :])


@dataclass(frozen=True, eq=False)
class Curve:
    """Circuits of growing size.

    Attributes:
        shares: size of each as a share of all edges, rising.
        sizes: number of edges, before edges that join nothing are dropped.
        faithfulness: of each.
        divergence: of its prediction from the whole model's, in nats.
        accuracy: prompts on which the circuit predicts what the whole model does, as a share.
    """

    shares: Floats
    sizes: tuple[int, ...]
    faithfulness: Floats
    divergence: Floats
    accuracy: Floats

    @property
    def cpr(self) -> float:
        """The area under faithfulness over the share of edges, from nothing to the whole model."""
        return _area(self.shares, self.faithfulness, 0.0)

    @property
    def cmd(self) -> float:
        """The area between faithfulness and 1: 0 is best."""
        return _area(self.shares, np.abs(1 - self.faithfulness), 1.0)


def _area(shares: Floats, values: Floats, at_nothing: float) -> float:
    x, y = np.concatenate([[0.0], shares]), np.concatenate([[at_nothing], values])
    return float(np.trapezoid(y, x))


def curve(runs: Runs, scores: Floats, shares: Sequence[float] = SHARES) -> Curve:
    """Faithfulness of the circuits of the largest scores.

    Args:
        runs: of the task.
        scores: of each edge [source, target] (at each position); the size counts, not the sign.
        shares: sizes as shares of all edges.
    """
    total = int(runs.exists.sum())
    sizes = [max(1, round(share * total)) for share in shares]
    ranked = np.where(np.isnan(scores), -np.inf, np.abs(scores))
    kept = np.stack([runs.connected(largest(runs.graph, ranked, size)) for size in sizes])
    same = agreement_with_model(runs, kept)
    divergence = runs.of(kept, runs.divergence).mean(axis=1)
    actual = np.array(sizes) / total
    return Curve(actual, tuple(sizes), runs.faithfulness(kept), divergence, same)


def agreement_with_model(runs: Runs, kept: Bools) -> Floats:
    """Share of prompts on which circuits predict the token that the whole model does [circuit]."""
    changed = runs.exists[None] & ~np.concatenate([runs.exists[None], kept])
    best = runs.engine.logits(changed, positions=runs.positions).argmax(dim=-1).cpu().numpy()
    return np.asarray((best[1:] == best[:1]).mean(axis=1), dtype=float)


def auroc(scores: Floats, truth: Bools) -> float:
    """How often a true member has a larger score than another one (ties count half); NaN where there are no two sorts.

    >>> auroc(np.array([3.0, 1.0, 2.0]), np.array([True, False, False]))
    1.0
    """
    right, wrong = scores[truth], scores[~truth]
    if not len(right) or not len(wrong):
        return float("nan")
    above = (right[:, None] > wrong[None, :]).mean()
    ties = (right[:, None] == wrong[None, :]).mean()
    return float(above + ties / 2)


@dataclass(frozen=True)
class Agreement:
    """How well scores find a known circuit: areas under ROC curves, of edges and of nodes."""

    edges: float
    nodes: float


def agreement(graph: EdgeGraph, scores: Floats, known: Bools, left_out: Bools | None = None) -> Agreement:
    """Do scores put the edges (and the nodes) of a known circuit first?

    Args:
        graph: the network's edges.
        scores: of each edge [source, target]; the size counts. NaN is the smallest.
        known: the edges of the known circuit [source, target].
        left_out: edges that are neither right nor wrong, such as those that no contrast can show.
    """
    counted = graph.exists if left_out is None else graph.exists & ~left_out
    size = np.where(np.isnan(scores), 0.0, np.abs(scores))
    each = np.where(counted, size, -1.0)
    nodes = np.asarray(counted.any(axis=1), dtype=bool)
    true_nodes = np.asarray((known & counted).any(axis=1), dtype=bool)
    unknown = np.zeros_like(nodes) if left_out is None else (left_out.any(axis=1) & ~true_nodes)
    judged = nodes & ~unknown
    return Agreement(
        auroc(size[counted], known[counted]),
        auroc(each.max(axis=1)[judged], true_nodes[judged]),
    )
