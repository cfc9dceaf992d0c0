"""How does a tree of shares look as shapes? Each branch with its share, and the likeliest way as a straight line.

A graph is such a tree where one node is the root, one arrow leads to each other node, and no branch has more than the
one that it grows from, as with the probabilities of the ways in which a text can go on. Each leaf has a row of its own;
what branches stands in the row of its largest branch.

Limits: the `MOST_BRANCHES` largest branches are drawn, and it is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cutaway.drawing.palette import Scale, hexadecimal
from cutaway.drawing.panels import Network
from cutaway.drawing.shapes.graph_marks import box
from cutaway.drawing.shapes.marks import WIDTH, Drawing, Markup, element, fill_of, hint, joined, room_for, words
from cutaway.drawing.words import number

MOST_BRANCHES = 120
_ROW, _HIGH, _SIZE = 26.0, 22.0, 11.0
_SCALE = Scale("sequential", 0, 1)


@dataclass(frozen=True)
class Tree:
    """A graph known to be a tree of shares.

    Attributes:
        root: the node that nothing leads to.
        parents: node -> what it grows from; the root has none.
        children: node -> its branches, the largest first.
        shares: node -> its share; the root has none.
        depth: node -> how many branches lead to it.
    """

    root: int
    parents: Mapping[int, int]
    children: Mapping[int, tuple[int, ...]]
    shares: Mapping[int, float]
    depth: Mapping[int, int]


def tree_of(panel: Network) -> Tree | None:
    """The tree that a graph is; None where it is no tree of shares, or has one level only."""
    nodes = range(len(panel.nodes))
    if len(nodes) < 3 or len(panel.sources) != len(nodes) - 1 or len(set(panel.targets)) != len(panel.targets):
        return None
    shares = {target: float(weight) for target, weight in zip(panel.targets, panel.weights)}
    if not all(share > 0 for share in shares.values()):
        return None
    below: dict[int, list[int]] = {node: [] for node in nodes}
    for source, target in zip(panel.sources, panel.targets):
        below[source].append(target)
    children = {node: tuple(sorted(each, key=lambda child: (-shares[child], child))) for node, each in below.items()}
    (root,) = set(nodes) - set(panel.targets)
    depth, reached = {root: 0}, [root]
    for node in reached:
        for child in children[node]:
            if shares[child] > shares.get(node, np.inf):
                return None
            depth[child] = depth[node] + 1
            reached.append(child)
    if len(reached) < len(nodes) or max(depth.values()) < 2:
        return None
    return Tree(root, dict(zip(panel.targets, panel.sources)), children, shares, depth)


def tree(panel: Network, grown: Tree) -> Drawing:
    """Branches from left to right, each with its share."""
    largest = sorted(grown.shares, key=lambda node: (-grown.shares[node], grown.depth[node], node))[:MOST_BRANCHES]
    rows = _rows(grown, {grown.root, *largest})
    own = {node: _own(panel.nodes, grown, node) for node in rows}
    said = {node: number(grown.shares[node], 2) if node in grown.shares else "" for node in rows}
    wide = max(room_for(own[node], _SIZE, mono=True) + room_for(said[node], _SIZE) for node in rows) + 24
    columns = max(grown.depth[node] for node in rows) + 1
    gap = max(18.0, min(90.0, (WIDTH - wide * columns) / max(1, columns - 1)))
    places = {node: (1 + grown.depth[node] * (wide + gap), row * _ROW + _ROW / 2) for node, row in rows.items()}
    top = max(grown.shares.values())
    parts = [
        _branch(panel, child, places[child], (places[parent][0] + wide, places[parent][1]), grown.shares[child] / top)
        for child, parent in grown.parents.items()
        if child in rows
    ]
    parts += [_box(panel.nodes[node], own[node], said[node], places[node], wide) for node in rows]
    height = (max(rows.values()) + 1) * _ROW
    note = f"The number is {panel.weight_name or 'the share'}; so is the thickness."
    if len(largest) < len(grown.shares):
        note += f" {len(largest)} of {len(grown.shares)} branches are drawn: the largest."
    parts.append(words(0, height + 14, note, size=11, colour="muted"))
    return Drawing(columns * (wide + gap) - gap + 2, height + 20, joined(*parts))


def _rows(grown: Tree, kept: set[int]) -> dict[int, int]:
    """The row of each kept node: its first branch's, or the next free one."""
    rows: dict[int, int] = {}
    free = 0

    def place(node: int) -> int:
        nonlocal free
        below = [place(child) for child in grown.children[node] if child in kept]
        if not below:
            free += 1
        rows[node] = below[0] if below else free - 1
        return rows[node]

    place(grown.root)
    return rows


def _own(names: Sequence[str], grown: Tree, node: int) -> str:
    """What its name says that its parent's does not."""
    parent = grown.parents.get(node)
    return names[node] if parent is None else names[node].removeprefix(f"{names[parent]}-")


def _branch(panel: Network, child: int, end: tuple[float, float], start: tuple[float, float], share: float) -> Markup:
    """The way to a node; `share` is its part of the largest share."""
    arrow = panel.targets.index(child)
    rgb, name = fill_of(_SCALE, 0.35 + 0.5 * share)
    middle = (start[0] + end[0]) / 2
    ends = f"{panel.nodes[panel.sources[arrow]]} → {panel.nodes[child]}"
    return element(
        "path",
        hint(f"{ends}\n{panel.weight_name} {number(float(panel.weights[arrow]))}"),
        d=f"M{start[0]:.1f} {start[1]:.1f}C{middle:.1f} {start[1]:.1f} {middle:.1f} {end[1]:.1f} {end[0]:.1f} {end[1]:.1f}",
        fill="none",
        stroke=hexadecimal(rgb),
        stroke_width=1 + 6 * share,
        class_=f"{name}-line",
    )


def _box(name: str, own: str, said: str, place: tuple[float, float], wide: float) -> Markup:
    x, middle = place
    return joined(
        box(f"{name} {said}".strip(), x, middle, wide, _HIGH),
        words(x + 8, middle + 4, own, size=_SIZE, mono=True, bold=True),
        words(x + wide - 8, middle + 4, said, size=_SIZE, anchor="end", colour="muted"),
    )
