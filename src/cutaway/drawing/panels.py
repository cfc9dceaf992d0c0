"""What exactly is in the picture? The numbers and words of a View, found once for all renderers.

Each kind of picture becomes a panel: arrays in the order they are drawn, labels to be read, the scale, and
sentences about what was left out. Renderers only put panels on a screen, so all of them show the same
thing.
Limits: a panel holds the whole picture; a renderer that has less room makes it smaller with `shrunk`, and
says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cutaway.drawing.palette import Scale

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Strip:
    """Words in a row, each with a value."""

    words: tuple[str, ...]
    values: Numbers
    scale: Scale
    value_name: str
    left_out: str = ""


@dataclass(frozen=True)
class Grid:
    """Values in rows and columns. `texts` are words for the cells."""

    values: Numbers
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_name: str
    column_name: str
    value_name: str
    scale: Scale
    texts: tuple[tuple[str, ...], ...] | None = None
    words_on_rows: bool = False
    words_on_columns: bool = False
    left_out: str = ""


@dataclass(frozen=True)
class Line:
    """One curve. `place` orders it among the others where the series is a number."""

    name: str
    x: Numbers
    y: Numbers
    low: Numbers | None = None
    high: Numbers | None = None
    place: float | None = None


@dataclass(frozen=True)
class Lines:
    """Curves over one x. `x_labels` where x is words, then x counts them."""

    lines: tuple[Line, ...]
    x_name: str
    value_name: str
    series_name: str = ""
    x_labels: tuple[str, ...] | None = None
    left_out: str = ""


@dataclass(frozen=True)
class Bars:
    """Bars, some side by side: `values` [label, group] or [label, 1]; `classes` colours single bars."""

    labels: tuple[str, ...]
    values: Numbers
    value_name: str
    label_name: str
    groups: tuple[str, ...] = ()
    classes: tuple[int, ...] | None = None
    low: Numbers | None = None
    high: Numbers | None = None
    left_out: str = ""


@dataclass(frozen=True)
class Points:
    """Points in a plane, some with names, some with values as colours."""

    x: Numbers
    y: Numbers
    x_name: str
    y_name: str
    labels: tuple[str, ...] | None = None
    values: Numbers | None = None
    value_name: str = ""
    scale: Scale | None = None
    left_out: str = ""


@dataclass(frozen=True)
class Counts:
    """How many values lie between neighbouring edges: `counts` [group, bin]."""

    edges: Numbers
    counts: NDArray[np.int64]
    value_name: str
    groups: tuple[str, ...] = ()
    left_out: str = ""


@dataclass(frozen=True)
class Network:
    """Arrows between nodes: source and target count the nodes; positions are columns, where nodes are sites at them."""

    nodes: tuple[str, ...]
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    weights: Numbers
    weight_name: str
    left_out: str = ""
    positions: tuple[str, ...] = ()
    headings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Cells to be read, column by column."""

    names: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    left_out: str = ""


@dataclass(frozen=True)
class Texts:
    """Words as they are, each text with the label of where it stands."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    left_out: str = ""


Panel = Strip | Grid | Lines | Bars | Points | Counts | Network | Table | Texts


def shrunk(grid: Grid, rows: int, columns: int) -> Grid:
    """The grid in at most so many rows and columns, each cell the value farthest from zero of its block.

    The farthest, and not the mean or every tenth: a peak must not vanish from a picture because it is narrow.
    """
    height, width = grid.values.shape
    down, across = -(-height // max(1, rows)), -(-width // max(1, columns))
    if down <= 1 and across <= 1:
        return grid
    starts_down, starts_across = range(0, height, down), range(0, width, across)
    values = np.array(
        [[_farthest(grid.values[i : i + down, j : j + across]) for j in starts_across] for i in starts_down]
    )
    said = (
        f"{height} × {width} cells are shown as {len(starts_down)} × {len(starts_across)}: "
        f"each is the value farthest from zero of {down} × {across}."
    )
    return replace(
        grid,
        values=values,
        rows=tuple(grid.rows[i] for i in starts_down),
        columns=tuple(grid.columns[j] for j in starts_across),
        texts=None,
        left_out=said,
    )


def _farthest(block: Numbers) -> float:
    known = block[~np.isnan(block)]
    return float(known[np.argmax(np.abs(known))]) if known.size else float("nan")


def farthest(values: Numbers, most: int) -> list[int]:
    """Indices of the values farthest from zero, at most so many, in their own order."""
    if values.size <= most:
        return list(range(values.size))
    strength = np.nan_to_num(np.abs(values), nan=-1.0, posinf=np.inf)
    return sorted(np.argsort(-strength, kind="stable")[:most].tolist())
