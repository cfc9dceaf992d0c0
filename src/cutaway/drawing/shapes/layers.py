"""Where do the nodes of a graph stand? In layers, so that arrows point forwards and cross seldom.

A node stands one layer after the last node that points to it; arrows that would close a circle do not count
for that. An arrow over several layers gets a stop in each layer between, so that it passes beside the nodes
there. Nodes and stops then move towards their neighbours, which undoes most crossings [@sugiyama1981].
Limits: crossings are few, not fewest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Edge = tuple[int, int]


@dataclass(frozen=True)
class Layers:
    """Nodes and stops in layers, in their order.

    Attributes:
        order: layer by layer, the nodes (0 and up) and the stops (below 0).
        stops: arrow -> its stops from source to target; an arrow that points back has none.
    """

    order: tuple[tuple[int, ...], ...]
    stops: Mapping[Edge, tuple[int, ...]]


def layered(
    nodes: Sequence[int], edges: Sequence[Edge], rounds: int = 6, columns: Mapping[int, int] | None = None
) -> Layers:
    """The nodes in layers, such that arrows point to later layers unless they close a circle.

    Args:
        nodes: their numbers.
        edges: source and target of each arrow.
        rounds: how often nodes move towards their neighbours.
        columns: the layer of each node, where it is known.
    """
    if columns is None:
        forward = without_circles(nodes, edges)
        depth = _depths(nodes, forward)
    else:
        places = sorted({columns[node] for node in nodes})
        depth = {node: places.index(columns[node]) for node in nodes}
        forward = [(source, target) for source, target in edges if depth[source] < depth[target]]
    order: list[list[int]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
    for node in nodes:
        order[depth[node]].append(node)
    stops: dict[Edge, tuple[int, ...]] = {}
    steps: list[Edge] = []
    last = 0
    for source, target in dict.fromkeys(forward):
        between = range(depth[source] + 1, depth[target])
        chain = tuple(last - 1 - i for i in range(len(between)))
        last -= len(chain)
        for layer, stop in zip(between, chain):
            order[layer].append(stop)
        stops[source, target] = chain
        steps += zip((source, *chain), (*chain, target))
    for _ in range(rounds):
        order = _uncrossed(order, steps)
    return Layers(tuple(tuple(layer) for layer in order), stops)


def without_circles(nodes: Sequence[int], edges: Sequence[Edge]) -> list[Edge]:
    """The arrows without those that lead back to a node on the way to them."""
    after: dict[int, list[int]] = {node: [] for node in nodes}
    for source, target in edges:
        after[source].append(target)
    kept: set[Edge] = set()
    done: set[int] = set()
    for root in nodes:
        if root not in done:
            _walk(root, after, kept, done)
    return [edge for edge in edges if edge in kept]


def _walk(root: int, after: Mapping[int, Sequence[int]], kept: set[Edge], done: set[int]) -> None:
    """Depth first from the root, without recursion, which a long chain would exhaust."""
    path, on_path = [(root, iter(after[root]))], {root}
    while path:
        node, following = path[-1]
        target = next(following, None)
        if target is None:
            path.pop()
            on_path.discard(node)
            done.add(node)
        elif target not in on_path:
            kept.add((node, target))
            if target not in done:
                path.append((target, iter(after[target])))
                on_path.add(target)


def _depths(nodes: Sequence[int], forward: Sequence[Edge]) -> dict[int, int]:
    """For each node the length of the longest way to it."""
    depth = dict.fromkeys(nodes, 0)
    for _ in nodes:
        moved = False
        for source, target in forward:
            if depth[target] <= depth[source]:
                depth[target], moved = depth[source] + 1, True
        if not moved:
            break
    return depth


def _uncrossed(order: list[list[int]], steps: Sequence[Edge]) -> list[list[int]]:
    """Each layer in the order of the middles of its nodes' neighbours."""
    height = {node: (i + 0.5) / len(layer) for layer in order for i, node in enumerate(layer)}
    near: dict[int, list[int]] = {node: [] for node in height}
    for source, target in steps:
        near[source].append(target)
        near[target].append(source)
    ordered = []
    for layer in order:
        middle = {n: sum(height[m] for m in near[n]) / len(near[n]) if near[n] else height[n] for n in layer}
        ordered.append(sorted(layer, key=lambda node: middle[node]))
        height |= {node: (i + 0.5) / len(layer) for i, node in enumerate(ordered[-1])}
    return ordered
