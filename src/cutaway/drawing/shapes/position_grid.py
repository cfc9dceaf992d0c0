"""How does a graph of parts at positions look as shapes? A grid: layers are rows, from below to above, positions columns.

Arrows within a column go up; thin dashed lines between columns are attention, from what is read at one position to what a
head writes at another. Nodes that share a row and a column stand beside each other.

Limits: the `MOST_EDGES` strongest arrows are drawn, and it is said; of more than `FEW_COLUMNS` positions those without a
node are left out; a line can pass behind a node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cutaway.drawing.panels import Network, farthest
from cutaway.drawing.positions import Placed
from cutaway.drawing.shapes.graph_marks import arrow, box, thickness
from cutaway.drawing.shapes.marks import (
    Drawing,
    Markup,
    cut,
    element,
    hint,
    joined,
    line,
    room_for,
    words,
)
from cutaway.drawing.words import label

MOST_EDGES, BESIDE, FEW_COLUMNS = 120, 3, 8
_HIGH, _SIZE, _BETWEEN, _ROWS = 20.0, 11.0, 6.0, 30.0
Place = tuple[float, float]


@dataclass(frozen=True)
class _Grid:
    """Middles of nodes, of rows and of columns; `middles`: whether a node is left (-1) or right (1) of its column's middle."""

    nodes: Mapping[int, Place]
    middles: Mapping[int, int]
    rows: Sequence[float]
    columns: Mapping[int, float]
    ends: Sequence[float]
    wide: float
    width: float
    height: float


def position_grid(panel: Network, places: Placed) -> Drawing:
    """Nodes in rows of layers and columns of positions: thick is strong, dashed is negative."""
    edges = [i for i in range(len(panel.sources)) if i not in places.moves]
    kept = [edges[i] for i in farthest(panel.weights[edges], MOST_EDGES)]
    nodes = sorted({end for i in kept for end in (panel.sources[i], panel.targets[i])})
    if not nodes:
        nodes = list(range(len(panel.nodes)))
    grid = _grid(places, nodes)
    strongest = float(np.max(np.abs(np.nan_to_num(panel.weights[kept])), initial=0.0)) or 1.0
    weakest_first = sorted(kept, key=lambda i: abs(float(np.nan_to_num(panel.weights[i]))))
    moves = [i for i in sorted(places.moves) if panel.sources[i] in grid.nodes and panel.targets[i] in grid.nodes]
    parts = [*_frame(places, grid), *(_move(panel, i, grid) for i in moves)]
    parts += [_arrow(panel, i, grid, strongest, turn) for turn, i in enumerate(weakest_first)]
    parts += [_node(panel.nodes[node], places.short[node], grid.nodes[node], grid.wide) for node in nodes]
    said = f"Thickness shows {panel.weight_name}; dashed is negative." if panel.weight_name else ""
    said += " Thin dashed lines are attention." if moves else ""
    if len(kept) < len(edges):
        said += f" {len(kept)} of {len(edges)} arrows are drawn: the strongest."
    if said:
        parts.append(words(0, grid.height + 14, said.strip(), size=11, colour="muted"))
    return Drawing(max(grid.width, 420 if said else 0), grid.height + (20 if said else 0), joined(*parts))


def _grid(places: Placed, nodes: Sequence[int]) -> _Grid:
    cells: dict[tuple[int, int], list[int]] = {}
    for node in sorted(nodes, key=lambda node: [(len(word), word) for word in places.short[node].split()]):
        cells.setdefault((places.rows[node], places.columns[node]), []).append(node)
    wide = max(room_for(places.short[node], _SIZE, mono=True) for node in nodes) + 12
    used = sorted({row for row, _ in cells})
    lines = {row: max(-(-len(some) // BESIDE) for (r, _), some in cells.items() if r == row) for row in used}
    left = max(room_for(places.layers[row], 11) for row in used) + 14
    columns: dict[int, float] = {}
    ends, x = [], left
    for column, heading in enumerate(places.headings):
        most = max((min(BESIDE, len(some)) for (_, c), some in cells.items() if c == column), default=0)
        if not most and len(places.headings) > FEW_COLUMNS:
            continue
        room = max(most * (wide + _BETWEEN), min(120.0, room_for(label(heading), 11))) + 18
        columns[column] = x + room / 2
        x += room
        ends.append(x)
    rows, y = {}, 26.0
    for row in reversed(used):
        high = lines[row] * (_HIGH + _BETWEEN) + _ROWS
        rows[row] = y + high / 2
        y += high
    found: dict[int, Place] = {}
    middles: dict[int, int] = {}
    for (row, column), some in cells.items():
        for i, node in enumerate(some):
            beside = min(BESIDE, len(some) - i // BESIDE * BESIDE)
            across = (i % BESIDE - (beside - 1) / 2) * (wide + _BETWEEN)
            down = (i // BESIDE - (-(-len(some) // BESIDE) - 1) / 2) * (_HIGH + _BETWEEN)
            found[node] = (columns[column] + across, rows[row] + down)
            middles[node] = int(np.sign(round(across)))
    every = [rows.get(row, -1.0) for row in range(len(places.layers))]
    return _Grid(found, middles, every, columns, ends, wide, x + 2, y)


def _frame(places: Placed, grid: _Grid) -> list[Markup]:
    """The positions above their columns, the layers beside their rows, and thin lines between columns."""
    parts = [line(end, 22, end, grid.height) for end in grid.ends[:-1]]
    for column, middle in grid.columns.items():
        said = cut(label(places.headings[column]), 11, 120)
        parts.append(words(middle, 14, said, size=11, anchor="middle", mono=True))
    seen: dict[str, list[float]] = {}
    for layer, y in zip(places.layers, grid.rows):
        if y >= 0:
            seen.setdefault(layer, []).append(y)
    parts += [words(0, sum(ys) / len(ys) + 4, layer, size=11, colour="muted") for layer, ys in seen.items()]
    return parts


def _node(name: str, said: str, place: Place, wide: float) -> Markup:
    x, y = place
    text = words(x, y + 4, said, size=_SIZE, anchor="middle", mono=True)
    return joined(box(name, x - wide / 2, y, wide, _HIGH), text)


def _move(panel: Network, index: int, grid: _Grid) -> Markup:
    source, target = panel.sources[index], panel.targets[index]
    (x1, y1), (x2, y2) = grid.nodes[source], grid.nodes[target]
    return element(
        "path",
        hint(f"attention: {panel.nodes[source]} → {panel.nodes[target]}"),
        d=_upward((x1, y1 - _HIGH / 2), (x2, y2 + _HIGH / 2), 0.0),
        fill="none",
        stroke="#5b646e",
        stroke_width=1.1,
        stroke_dasharray="2 3",
        class_="muted-line",
    )


def _arrow(panel: Network, index: int, grid: _Grid, strongest: float, turn: int) -> Markup:
    thick = thickness(float(panel.weights[index]), strongest)
    source, target = panel.sources[index], panel.targets[index]
    (x1, y1), (x2, y2) = grid.nodes[source], grid.nodes[target]
    bottom, back, half = y2 + _HIGH / 2, 5 + thick, 3 + thick * 0.7
    far = abs(y1 - y2) > _HIGH + _BETWEEN + _ROWS + 2
    aside = grid.middles[source] or grid.middles[target] or (1 if turn % 2 else -1)
    bow = aside * (grid.wide * 0.7 + 10 + 5 * (turn % 3)) if far else 0.0  # past the nodes between
    path = _upward((x1, y1 - _HIGH / 2), (x2, bottom + back), bow)
    head = f"{x2:.1f} {bottom:.1f} {x2 - half:.1f} {bottom + back + 1:.1f} {x2 + half:.1f} {bottom + back + 1:.1f}"
    return arrow(panel, index, path, head, thick)


def _upward(start: Place, end: Place, bow: float) -> str:
    """A path that leaves and arrives upright."""
    (x1, y1), (x2, y2) = start, end
    bend = max(12.0, (y1 - y2) * (0.45 if not bow else 0.3))
    return f"M{x1:.1f} {y1:.1f}C{x1 + bow:.1f} {y1 - bend:.1f} {x2 + bow:.1f} {y2 + bend:.1f} {x2:.1f} {y2:.1f}"
