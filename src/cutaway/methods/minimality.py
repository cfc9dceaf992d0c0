"""Does each part of a circuit matter to it? Parts taken out alone, and after other parts that may stand in for them.

The change that a part v makes is the largest |F(C∖(K∪v)) - F(C∖K)| over the sets K that were tried [@wang2022]. Of two
heads that do the same, neither is missed while the other is there: with K the one, the other is seen to matter. Sets are
named by the reader, or grown for each part by whichever other part adds most to the change, as long as one does.

A set holds parts (all edges out of them) or single edges. Limits: growing a set runs about as many circuits as there are
pairs of parts, for each size; and a set that is chosen for its large change flatters the part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cutaway.core.circuit import Circuit, source_row
from cutaway.core.edge import ARROW, Bools, EdgeGraph
from cutaway.core.errors import ParameterError
from cutaway.core.progress import track
from cutaway.methods.circuit_measures import parts_in, without_nodes
from cutaway.methods.circuit_runs import Runs

Floats = NDArray[np.float64]
NOTHING = "nothing"


@dataclass(frozen=True, eq=False)
class Minimality:
    """What each part of a circuit does for it.

    Attributes:
        parts: rows of sources.
        changes: the largest change of each, in units of the metric [part].
        before: the set after which it was that large, in words [part].
    """

    parts: tuple[int, ...]
    changes: Floats
    before: tuple[str, ...]


def minimality(runs: Runs, circuit: Circuit, sets: Sequence[str] = ()) -> Minimality:
    """The change that each part makes, alone and after each of some sets.

    Args:
        runs: of the task.
        circuit: whose parts are taken out.
        sets: parts and edges joined by commas, such as `z[9].head[6], z[9].head[9]` or `z[9].head[6] -> logits`.

    Raises:
        SiteError: a part or an edge that the network does not have.
        ParameterError: a set of nothing.
    """
    parts = parts_in(circuit)
    taken = [np.zeros_like(circuit.edges), *(_everywhere(circuit, edges_of(circuit.graph, text)) for text in sets)]
    before = [circuit.edges & ~edges for edges in taken]
    after = [without_nodes(edges, [part]) for part in parts for edges in before]
    scores = runs.of(np.stack([*before, *after])).mean(axis=1)
    changes = np.abs(scores[len(before) :].reshape(len(parts), len(before)) - scores[None, : len(before)])
    names = (NOTHING, *sets)
    best = changes.argmax(axis=1) if parts else []
    return Minimality(tuple(parts), changes.max(axis=1, initial=0.0), tuple(names[int(i)] for i in best))


def greedy_minimality(runs: Runs, circuit: Circuit, largest: int) -> Minimality:
    """The same with a set grown for each part.

    Args:
        runs: of the task.
        circuit: whose parts are taken out.
        largest: parts of a set, at most.
    """
    means = _Means(runs, circuit)
    parts = parts_in(circuit)
    found = [
        _grown(means, part, [other for other in parts if other != part], largest) for part in track(parts, "parts")
    ]
    names = [", ".join(str(circuit.graph.sources[row]) for row in rows) or NOTHING for rows, _ in found]
    return Minimality(tuple(parts), np.array([change for _, change in found]), tuple(names))


def edges_of(graph: EdgeGraph, text: str) -> Bools:
    """The edges [source, target] that a set of parts and edges takes out."""
    found = np.zeros(graph.shape, dtype=bool)
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise ParameterError(
            f"the set {text!r} holds nothing;",
            "a set holds parts and edges, joined by commas.",
            "Write for example 'z[9].head[6], z[9].head[9]'.",
        )
    for word in words:
        if ARROW in word:
            found[graph.number(word)] = True
        else:
            found[source_row(graph, word)] = True
    return found & graph.exists


def _everywhere(circuit: Circuit, edges: Bools) -> Bools:
    return edges[:, :, None] & np.ones(len(circuit.positions), dtype=bool) if circuit.positions else edges


class _Means:
    """The metric of a circuit without sets of parts, averaged over prompts; each set is run once."""

    def __init__(self, runs: Runs, circuit: Circuit) -> None:
        self._runs, self._circuit = runs, circuit
        self._known: dict[frozenset[int], float] = {}

    def without(self, sets: Iterable[frozenset[int]]) -> Floats:
        """[set]."""
        wanted = list(sets)
        new = [rows for rows in dict.fromkeys(wanted) if rows not in self._known]
        if new:
            kept = np.stack([without_nodes(self._circuit.edges, sorted(rows)) for rows in new])
            self._known |= dict(zip(new, self._runs.of(kept).mean(axis=1).tolist(), strict=True))
        return np.array([self._known[rows] for rows in wanted])


def _grown(means: _Means, part: int, others: Sequence[int], largest: int) -> tuple[list[int], float]:
    """The set that makes a part matter most, in the order in which it grew, and the change then."""
    rows: list[int] = []
    change = float(np.abs(np.subtract(*means.without([frozenset(), frozenset({part})]))))
    for _ in range(largest):
        options = [frozenset({*rows, other}) for other in others if other not in rows]
        if not options:
            break
        scores = means.without([*options, *(option | {part} for option in options)]).reshape(2, -1)
        changes = np.abs(scores[0] - scores[1])
        best = int(changes.argmax())
        if changes[best] <= change:
            break
        change = float(changes[best])
        rows += options[best].difference(rows)
    return rows, change
