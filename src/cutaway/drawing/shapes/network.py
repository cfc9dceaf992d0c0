"""How does a graph look as shapes? Boxes in layers from left to right, and arrows that pass beside them.

Nodes that are sites of a model stand in a column for their layer and kind, in the order in which the model computes them.
A tree of shares is drawn as one (`tree.py`), and a graph of sites at positions by layer and position (`position_grid.py`).

Limits: the `MOST_EDGES` strongest arrows are drawn, and it is said.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from cutaway.core.errors import SiteError
from cutaway.core.site import KINDS, Site
from cutaway.drawing.panels import Network, farthest
from cutaway.drawing.positions import placed
from cutaway.drawing.shapes.cells import nothing
from cutaway.drawing.shapes.graph_marks import arrow, box, thickness
from cutaway.drawing.shapes.layers import Layers, layered
from cutaway.drawing.shapes.marks import (
    WIDTH,
    Drawing,
    Markup,
    cut,
    joined,
    room_for,
    words,
)
from cutaway.drawing.shapes.position_grid import position_grid
from cutaway.drawing.shapes.tree import tree, tree_of

MOST_EDGES = 120
_HIGH, _SIZE = 22.0, 11.0
_ROOM_OF_NODE, _ROOM_OF_STOP = 34.0, 12.0
Place = tuple[float, float]


def network(panel: Network) -> Drawing:
    """Nodes in layers and arrows between them: thick is strong, dashed is negative."""
    if not panel.nodes:
        return nothing("no nodes")
    grid = placed(panel)
    if grid is not None:
        return position_grid(panel, grid)
    columns = site_columns(panel.nodes)
    grown = tree_of(panel) if columns is None else None
    if grown is not None:
        return tree(panel, grown)
    kept = farthest(panel.weights, MOST_EDGES)
    edges = [(panel.sources[i], panel.targets[i]) for i in kept]
    all_drawn = len(kept) == len(panel.sources)
    nodes = list(range(len(panel.nodes))) if all_drawn else sorted({end for edge in edges for end in edge})
    layers = layered(nodes, edges, columns=columns)
    wide = min(150.0, max(room_for(panel.nodes[node], _SIZE, mono=True) for node in nodes) + 16)
    places, width, height = _places(layers, wide)
    strongest = float(np.max(np.abs(np.nan_to_num(panel.weights[kept])), initial=0.0)) or 1.0
    weakest_first = sorted(kept, key=lambda i: abs(float(np.nan_to_num(panel.weights[i]))))
    parts = [_arrow(panel, i, _way(panel, i, layers, places, wide), strongest) for i in weakest_first]
    parts += [_node(panel.nodes[node], places[node], wide) for node in nodes]
    said = f"Thickness shows {panel.weight_name}; dashed is negative." if panel.weight_name else ""
    if not all_drawn:
        said += f" {len(kept)} of {len(panel.sources)} arrows are drawn: the strongest."
    if said:
        parts.append(words(0, height + 14, said.strip(), size=11, colour="muted"))
        height += 20
    return Drawing(width, height, joined(*parts))


def site_columns(names: Sequence[str]) -> Mapping[int, int] | None:
    """A column for each kind of site of each layer, in the order of computation; None where a node is no site."""
    keys: list[tuple[float, int]] = []
    for name in names:
        try:
            site = Site.parse(name)
        except SiteError:
            return None
        if site.is_pattern or site.kind not in KINDS:
            return None
        ends = math.inf if site.kind in ("final", "logits") else -1
        layer = site.layer if isinstance(site.layer, int) else ends
        keys.append((layer, list(KINDS).index(site.kind)))
    order = sorted(set(keys))
    return {node: order.index(key) for node, key in enumerate(keys)}


def _places(layers: Layers, wide: float) -> tuple[Mapping[int, Place], float, float]:
    """Left ends of nodes and stops, at half their height."""
    rooms = [[_ROOM_OF_NODE if node >= 0 else _ROOM_OF_STOP for node in layer] for layer in layers.order]
    height = max(map(sum, rooms)) + 10
    count = len(layers.order)
    gap = max(40.0, min(120.0, (WIDTH - wide * count) / max(1, count - 1)))
    places: dict[int, Place] = {}
    for index, (layer, room) in enumerate(zip(layers.order, rooms)):
        spare = (height - sum(room)) / len(layer)
        ends = itertools.accumulate(each + spare for each in room)
        for node, end, each in zip(layer, ends, room):
            places[node] = (1 + index * (wide + gap), end - (each + spare) / 2)
    return places, count * (wide + gap) - gap + 2, height


def _way(panel: Network, index: int, layers: Layers, places: Mapping[int, Place], wide: float) -> list[Place]:
    """The points that an arrow passes: out of its source, past the layers between, into its target."""
    source, target = panel.sources[index], panel.targets[index]
    start = (places[source][0] + wide, places[source][1])
    stops = [places[stop] for stop in layers.stops.get((source, target), ())]
    past = [point for x, y in stops for point in ((x, y), (x + wide, y))]
    return [start, *past, places[target]]


def _node(name: str, place: Place, wide: float) -> Markup:
    x, middle = place
    shown = cut(name, _SIZE, wide - 8, mono=True)
    text = words(x + wide / 2, middle + 4, shown, size=_SIZE, anchor="middle", mono=True)
    return joined(box(name, x, middle, wide, _HIGH), text)


def _arrow(panel: Network, index: int, way: list[Place], strongest: float) -> Markup:
    thick = thickness(float(panel.weights[index]), strongest)
    tip, level = way[-1]
    back, half = tip - 5 - thick, 3 + thick * 0.7
    head = f"{tip:.1f} {level:.1f} {back - 1:.1f} {level - half:.1f} {back - 1:.1f} {level + half:.1f}"
    return arrow(panel, index, _curved([*way[:-1], (back, level)]), head, thick)


def _curved(way: Sequence[Place]) -> str:
    """A path that is level at every point of the way."""
    pieces = [f"M{way[0][0]:.1f} {way[0][1]:.1f}"]
    for (x1, y1), (x2, y2) in itertools.pairwise(way):
        bend = (x2 - x1) / 2 if x2 > x1 else 70.0  # an arrow that points back leaves and arrives in a loop
        drop = 0.0 if x2 > x1 else 40.0
        pieces.append(f"C{x1 + bend:.1f} {y1 + drop:.1f} {x2 - bend:.1f} {y2 + drop:.1f} {x2:.1f} {y2:.1f}")
    return "".join(pieces)
