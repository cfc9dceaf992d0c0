"""How do bars, counts, graphs, tables and texts look in a terminal? Line by line.

Limits: the longest lists are cut, bars and arrows to the ones farthest from zero, and the cut is said.
"""

from __future__ import annotations

import itertools

import numpy as np
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.style import Style
from rich.table import Table as RichTable
from rich.text import Text

from cutaway.drawing.characters.ink import QUIET, STRONG, Room, fitted
from cutaway.drawing.palette import share
from cutaway.drawing.panels import Bars, Counts, Network, Table, Texts, farthest
from cutaway.drawing.positions import placed
from cutaway.drawing.words import figure, number, readable

MOST_BARS = 40
MOST_ROWS = 50
MOST_BINS = 20
MOST_CHARACTERS = 6000
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def bars(panel: Bars, room: Room) -> RenderableType:
    """A bar a line, to the right above zero and to the left below, with its value and interval in numbers."""
    flat = [(i, j) for i in range(panel.values.shape[0]) for j in range(panel.values.shape[1])]
    if not flat:
        return Text("  no bars", style=QUIET)
    kept = farthest(np.array([panel.values[cell] for cell in flat]), MOST_BARS)
    cells = [flat[index] for index in kept]
    values = np.array([panel.values[cell] for cell in cells])
    ends = [_figure(panel, cell) for cell in cells]
    groups = [_group(panel, cell) for cell in cells]
    left = min(max(cell_len(panel.labels[i]) for i, _ in cells), room.width // 3)
    middle = min(max((cell_len(panel.groups[g]) for g in groups if g is not None), default=-1), 16) + 1
    width = max(8, room.width - left - middle - max(map(len, ends)) - 4)
    lines: list[RenderableType] = [Text(f"  {panel.value_name} for each {panel.label_name}", style=QUIET)]
    for cell, value, end, group in zip(cells, values.tolist(), ends, groups):
        line = Text(fitted(panel.labels[cell[0]], left, right=True) + " ")
        if middle > 1:
            line.append(fitted(panel.groups[group] if group is not None else "", middle), room.of_class(group or 0))
        style = room.of_sign(value) if group is None and values.min() < 0 else room.of_class(group or 0)
        line.append(_bar(value, values, width), style)
        lines.append(line.append(f" {end}"))
    if len(cells) < len(flat):
        lines.append(_said(f"{len(cells)} of {len(flat)} bars are shown: the ones farthest from zero."))
    return Group(*lines)


def counts(panel: Counts, room: Room) -> RenderableType:
    """A line a bin, with a bar for each group."""
    edges, table = _merged(panel)
    names = panel.groups or ("",)
    ends = [f"{number(float(low))} to {number(float(high))}" for low, high in itertools.pairwise(edges)]
    left = max(map(len, ends))
    figures = max(len(number(int(count))) for count in table.ravel())
    width = max(4, (room.width - left - 2) // len(names) - figures - 3)
    most = max(1, int(table.max()))
    lines: list[RenderableType] = [Text(f"  how many have this {panel.value_name}", style=QUIET)]
    if panel.groups:
        heads = "".join(fitted(name, width + figures + 3) for name in names)
        lines.append(Text(" " * (left + 2) + heads, style=STRONG))
    for row, end in enumerate(ends):
        line = Text(f"{end:>{left}}  ")
        for group in range(len(names)):
            count = int(table[group, row])
            line.append(fitted(_blocks(count / most * width), width), room.of_class(group))
            line.append(f" {number(count):>{figures}}  ")
        lines.append(line)
    return Group(*lines, *([_said(panel.left_out)] if panel.left_out else []))


def network(panel: Network, room: Room) -> RenderableType:
    """The arrows by strength, an arrow a line; without those of attention between positions, which have none."""
    if not panel.sources:
        return Text(f"  no arrows between {len(panel.nodes)} nodes", style=QUIET)
    places = placed(panel)
    edges = [i for i in range(len(panel.sources)) if places is None or i not in places.moves]
    kept = [edges[i] for i in farthest(panel.weights[edges], MOST_BARS)]
    order = sorted(kept, key=lambda i: -abs(float(np.nan_to_num(panel.weights[i]))))
    table = RichTable.grid(padding=(0, 1))
    for index in order:
        weight = float(panel.weights[index])
        ends = [Text(panel.nodes[side[index]]) for side in (panel.sources, panel.targets)]
        row = [ends[0], Text("──▶"), ends[1]]
        if panel.weight_name:
            bar = Text(_bar(weight, panel.weights[order], 24), room.of_sign(weight))
            row += [Text(figure(weight, signs=bool((panel.weights < 0).any())), justify="right"), bar]
        table.add_row(*row)
    lines: list[RenderableType] = [Padding(table, (0, 0, 0, 2))]
    if panel.weight_name:
        lines.insert(0, Text(f"  arrows by {panel.weight_name}", style=QUIET))
    if len(order) < len(edges):
        lines.append(_said(f"{len(order)} of {len(edges)} arrows are shown: the strongest."))
    return Group(*lines)


def table(panel: Table, room: Room) -> RenderableType:
    """Columns of words and numbers."""
    height = len(panel.columns[0])
    drawn = RichTable(box=None, pad_edge=True, header_style=STRONG)
    for name, numeric in zip(panel.names, panel.numeric):
        drawn.add_column(Text(name), justify="right" if numeric else "left", overflow="fold")
    for row in range(min(height, MOST_ROWS)):
        drawn.add_row(*(Text(column[row]) for column in panel.columns))
    if not height:
        return Group(drawn, Text("  no rows", style=QUIET))
    if height > MOST_ROWS:
        return Group(drawn, _said(f"{MOST_ROWS} of {height} rows are shown."))
    return drawn


def texts(panel: Texts, room: Room) -> RenderableType:
    """Texts below each other, each under its label."""
    lines: list[RenderableType] = []
    for name, text in list(zip(panel.labels, panel.texts))[:MOST_ROWS]:
        if name:
            lines.append(Text(f"  {name}", style=STRONG))
        lines.append(Padding(Text(readable(text[:MOST_CHARACTERS])), (0, 0, 0, 2)))
        if len(text) > MOST_CHARACTERS:
            lines.append(_said(f"{MOST_CHARACTERS} of {len(text)} characters are shown."))
    if len(panel.texts) > MOST_ROWS:
        lines.append(_said(f"{MOST_ROWS} of {len(panel.texts)} texts are shown."))
    return Group(*lines) if lines else Text("  no texts", style=QUIET)


def _figure(panel: Bars, cell: tuple[int, int]) -> str:
    value = number(float(panel.values[cell]))
    if panel.low is None and panel.high is None:
        return value
    ends = ("" if side is None else number(float(side[cell])) for side in (panel.low, panel.high))
    return f"{value} [{' to '.join(ends)}]"


def _group(panel: Bars, cell: tuple[int, int]) -> int | None:
    if not panel.groups:
        return None
    return panel.classes[cell[0]] if panel.classes is not None else cell[1]


def _bar(value: float, among: np.ndarray, width: int) -> str:
    """The bar of a value in so many columns, where zero stands at the same place for all of `among`."""
    known = among[np.isfinite(among)]
    low, high = min(0.0, float(known.min(initial=0.0))), max(0.0, float(known.max(initial=0.0)))
    if value != value or high == low:
        return fitted("×" if value != value else "", width)
    zero = share(0.0, low, high) * width
    length = share(min(high, max(low, value)), low, high) * width - zero
    left = round(zero)
    if value < 0:
        halves = min(2 * left, round(-length * 2))
        drawn = ("▐" if halves % 2 else "") + "█" * (halves // 2)
        return fitted(drawn, left, right=True) + " " * (width - left)
    return " " * left + fitted(_blocks(min(width - left, length)), width - left)


def _blocks(length: float) -> str:
    eighths = round(length * 8)
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def _merged(panel: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Neighbouring bins together, until they fit on a screen."""
    bins = panel.counts.shape[1]
    step = -(-bins // MOST_BINS)
    starts = list(range(0, bins, step))
    edges = np.append(panel.edges[starts], panel.edges[-1])
    return edges, np.add.reduceat(panel.counts, starts, axis=1)


def _said(sentence: str) -> Text:
    return Text(f"  {sentence}", style=Style(italic=True))
