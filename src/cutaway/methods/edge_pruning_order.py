"""Which edges can go, one after another, without moving the model? The pruning loop of ACDC, and how it is made fast.

For each edge in turn, from the last target to the first and from the latest source to the earliest: the edge is changed
too; where the model then moves by less than the threshold more than before, it stays changed (it is pruned), otherwise
it is kept [@conmy2023]. The same decisions are reached with less work:

- an edge into a part that no kept edge leaves cannot move anything, so it is pruned without a run;
- the next edges are tried as rows of one batch, each row with all earlier ones of the batch pruned as well: as long as
  they are pruned, these are the runs of the loop; at the first kept one the batch starts again after it;
- a run starts at the first layer that the row changes.

`one_by_one` is the loop as it is written down, with a run of the whole model for each edge: tests and the bench compare.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cutaway.core.edge import Bools, EdgeGraph
from cutaway.core.progress import track

Floats = NDArray[np.float64]
Distances = Callable[[Bools], Floats]
FIRST_ROWS, MOST_ROWS = 4, 64


@dataclass(frozen=True)
class Pruned:
    """What is left.

    Attributes:
        kept: edges that were kept [source, target].
        moved: how much further the model moved when each edge was tried [source, target]; 0 where no run was needed.
        distance: how far the pruned model is from the whole one.
        tried: edges that were run.
        rows: rows that were run, those of batches that started again among them.
    """

    kept: Bools
    moved: Floats
    distance: float
    tried: int
    rows: int


def order_of(graph: EdgeGraph) -> list[tuple[int, int]]:
    """The edges from the last target to the first, and for each from the latest source to the earliest."""
    sources, targets = graph.shape
    pairs = ((s, t) for t in range(targets - 1, -1, -1) for s in range(sources - 1, -1, -1))
    return [(s, t) for s, t in pairs if graph.exists[s, t]]


def one_by_one(graph: EdgeGraph, distances: Distances, threshold: float) -> Pruned:
    """The loop as it is written down: one run for each edge.

    Args:
        graph: the network's edges.
        distances: sets of changed edges [set, source, target] -> how far each moves the model [set].
        threshold: an edge whose removal moves the model by less than this is pruned.
    """
    changed, moved = np.zeros(graph.shape, dtype=bool), np.zeros(graph.shape)
    before = float(distances(changed[None])[0])
    order = order_of(graph)
    for source, target in order:
        changed[source, target] = True
        after = float(distances(changed[None])[0])
        moved[source, target] = after - before
        if after - before < threshold:
            before = after
        else:
            changed[source, target] = False
    return Pruned(graph.exists & ~changed, moved, before, len(order), len(order) + 1)


def pruned(graph: EdgeGraph, distances: Distances, threshold: float) -> Pruned:
    """The edges that `one_by_one` keeps, with less work.

    Args:
        graph: the network's edges.
        distances: as in `one_by_one`.
        threshold: as in `one_by_one`.
    """
    state = _State(graph, distances, threshold)
    for target in track(range(graph.shape[1] - 1, -1, -1), "targets of edges", total=graph.shape[1]):
        sources = [s for s in range(graph.shape[0] - 1, -1, -1) if graph.exists[s, target]]
        if state.reaches(target):
            state.try_all(sources, target)
        else:
            state.changed[sources, target] = True
    return Pruned(graph.exists & ~state.changed, state.moved, state.before, state.tried, state.rows)


class _State:
    def __init__(self, graph: EdgeGraph, distances: Distances, threshold: float) -> None:
        self.graph, self.distances, self.threshold = graph, distances, threshold
        self.changed = np.zeros(graph.shape, dtype=bool)
        self.live = np.zeros(graph.shape[1], dtype=bool)  # targets whose part reaches the logits
        self.moved = np.zeros(graph.shape)
        self.before, self.tried, self.rows, self.size = 0.0, 0, 0, FIRST_ROWS
        self.before = float(self.run(self.changed[None])[0])

    def run(self, sets: Bools) -> Floats:
        """Distances of sets; edges into parts that reach nothing are left alone, as they cannot show."""
        self.rows += len(sets)
        return self.distances(sets & self.live[None, None, :])

    def reaches(self, target: int) -> bool:
        """Whether a kept edge leaves a part that the target feeds."""
        kept = self.graph.exists & ~self.changed
        fed = self.graph.feeds[target]
        ends = self.graph.targets[target].kind == "logits"
        self.live[target] = ends or bool((kept[fed] & self.live[None, :]).any())
        return bool(self.live[target])

    def try_all(self, sources: list[int], target: int) -> None:
        """Decide the edges into one target, several rows at a time."""
        place = 0
        while place < len(sources):
            some = sources[place : place + self.size]
            sets = np.repeat(self.changed[None], len(some), axis=0)
            for row, source in enumerate(some):
                sets[row:, source, target] = True
            place += self._decide(some, target, self.run(sets))

    def _decide(self, some: list[int], target: int, found: Floats) -> int:
        """Prune up to the first edge that is kept; how many edges are decided."""
        for row, source in enumerate(some):
            rise = float(found[row]) - self.before
            self.moved[source, target] = rise
            self.tried += 1
            if not rise < self.threshold:
                self.size = max(FIRST_ROWS, min(self.size, 2 * row + FIRST_ROWS))
                return row + 1
            self.changed[source, target] = True
            self.before = float(found[row])
        self.size = min(MOST_ROWS, 2 * self.size)
        return len(some)
