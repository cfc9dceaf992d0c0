"""Which edges at positions lie on a way from the embeddings to the logits, and which circuit grows along such ways?

An edge stays at its position, and so do queries and MLPs. Keys and values are read at one position for what a head writes at
another: at those that come later in some prompt. The logits are read at the last token.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cutaway.core.edge import Bools, EdgeGraph

Floats = NDArray[np.float64]
KEYS = ("k", "v", "attn_in")  # what is read at a position for what is written at later ones


@dataclass(frozen=True, eq=False)
class Order:
    """How the positions of some prompts stand.

    Attributes:
        before: whether in some prompt a token of the one is at, or before, one of the other [position, later position].
        last: which positions have the last token of a prompt [position].
    """

    before: Bools
    last: Bools


def connected_at(graph: EdgeGraph, mask: Bools, order: Order, *, from_embed: bool = False) -> Bools:
    """The edges that lie on a path to the logits; with `from_embed`, on one from the embeddings too.

    Args:
        graph: the network's edges.
        mask: edges at positions [source, target, position].
        order: of the positions.
        from_embed: drop also what gets nothing from the embeddings.
    """
    kept = np.asarray(mask, dtype=bool) & graph.exists[:, :, None]
    sources = np.zeros((graph.shape[0], mask.shape[2]), dtype=bool)
    for target in range(graph.shape[1] - 1, -1, -1):  # later targets first: they decide which sources matter
        used = order.last if graph.targets[target].kind == "logits" else sources[graph.feeds[target]].any(axis=0)
        wanted = (order.before & used[None, :]).any(axis=1) if graph.targets[target].kind in KEYS else used
        kept[:, target] &= wanted
        sources |= kept[:, target]
    return _fed(graph, kept, order) if from_embed else kept


def _fed(graph: EdgeGraph, kept: Bools, order: Order) -> Bools:
    """Without edges out of parts that get nothing from the embeddings."""
    alive = np.zeros((graph.shape[0], kept.shape[2]), dtype=bool)
    alive[[site.kind == "embed" for site in graph.sources]] = True
    for target in range(graph.shape[1]):
        here = np.asarray((kept[:, target] & alive).any(axis=0), dtype=bool)
        if graph.targets[target].kind in KEYS:
            here = np.asarray((order.before & here[:, None]).any(axis=0), dtype=bool)
        alive[graph.feeds[target]] |= here
    return np.asarray(kept & alive[:, None, :], dtype=bool)


def greedy_at(graph: EdgeGraph, scores: Floats, count: int, order: Order) -> Bools:
    """Grow a circuit from the logits: always the edge with the largest score (by size) into a part that is in it.

    Args:
        graph: the network's edges.
        scores: of each edge at each position [source, target, position].
        count: edges of the circuit.
        order: of the positions.
    """
    size, kept = np.abs(np.nan_to_num(scores)), np.zeros(scores.shape, dtype=bool)
    heap: list[tuple[float, int, int, int]] = []
    opened: set[tuple[int, int]] = set()

    def open_up(target: int, positions: list[int]) -> None:
        for at in positions:
            if (target, at) in opened:
                continue
            opened.add((target, at))
            for source in np.flatnonzero(graph.exists[:, target]).tolist():
                heapq.heappush(heap, (-float(size[source, target, at]), source, target, at))

    for target, site in enumerate(graph.targets):
        if site.kind == "logits":
            open_up(target, np.flatnonzero(order.last).tolist())
    taken = 0
    while heap and taken < count:
        _, source, target, at = heapq.heappop(heap)
        kept[source, target, at] = True
        taken += 1
        for feeder in np.flatnonzero(graph.feeds[:, source]).tolist():
            far = graph.targets[feeder].kind in KEYS
            open_up(feeder, np.flatnonzero(order.before[:, at]).tolist() if far else [at])
    return kept
