"""How do bars, tables and texts look as shapes? Line by line, with numbers beside the bars.

Limits: the longest lists are cut, bars to the ones farthest from zero, and the cut is said.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from cutaway.drawing.palette import Scale, hexadecimal, share
from cutaway.drawing.panels import Bars, Table, Texts, farthest
from cutaway.drawing.shapes.cells import nothing
from cutaway.drawing.shapes.marks import (
    WIDTH,
    Drawing,
    Markup,
    class_fill,
    cut,
    element,
    fill_of,
    hint,
    joined,
    line,
    room_for,
    words,
)
from cutaway.drawing.words import figure, number, readable, shortened

MOST_BARS = 80
MOST_ROWS = 60
MOST_LINES = 80
_SIGNS = Scale("diverging", -1, 1)


def bars(panel: Bars) -> Drawing:
    """A bar a line, to the right above zero and to the left below, with a whisker for its interval."""
    flat = [(i, j) for i in range(panel.values.shape[0]) for j in range(panel.values.shape[1])]
    if not flat:
        return nothing("no bars")
    kept = [flat[i] for i in farthest(np.array([panel.values[c] for c in flat]), MOST_BARS)]
    left = min(200.0, max(room_for(panel.labels[i], 12, mono=True) for i, _ in kept)) + 10
    ends = [side[c] for side in (panel.values, panel.low, panel.high) if side is not None for c in kept]
    known = [float(end) for end in ends if np.isfinite(end)]
    low, high = min(0.0, *known, 0.0), max(0.0, *known, 0.0)
    ending = max(room_for(_said(panel, c), 11) for c in kept) + 10
    field = _Field(left, WIDTH - left - ending, low, high if high > low else low + 1)
    high_of = 18.0 if len(panel.groups) < 2 or panel.classes is not None else 13.0
    parts, y, last = [], 24.0, -1
    parts.append(words(left, 12, panel.value_name, size=12, colour="muted"))
    for i, j in kept:
        if i != last:
            y += 6 if last >= 0 else 0
            name = cut(panel.labels[i], 12, left - 10, mono=True)
            parts.append(words(left - 8, y + high_of / 2 + 4, name, anchor="end", mono=True))
        parts.append(_bar(panel, (i, j), field, (y, high_of - 3)))
        y, last = y + high_of, i
    parts.append(line(field.at(0), 20, field.at(0), y + 2, colour="muted"))
    y += 12
    if len(panel.groups) > 1:
        key, y = _key(panel.groups, left, y)
        parts.append(key)
    if len(kept) < len(flat):
        said = f"{len(kept)} of {len(flat)} bars are shown: the ones farthest from zero."
        parts.append(words(left, y + 12, said, size=11, colour="muted"))
        y += 18
    return Drawing(WIDTH, y, joined(*parts))


def table(panel: Table) -> Drawing:
    """Columns of words and numbers, numbers to the right."""
    height = min(len(panel.columns[0]), MOST_ROWS)
    columns = [column[:height] for column in panel.columns]
    sizes = [
        min(300.0, max(room_for(text, 12, mono=True) for text in (name, *column))) + 24
        for name, column in zip(panel.names, columns)
    ]
    starts = [0.0, *itertools.accumulate(sizes)]
    parts = [line(0, 24, starts[-1], 24, colour="muted")]
    for start, wide, name, column, numeric in zip(starts, sizes, panel.names, columns, panel.numeric):
        x, anchor = (start + wide - 12, "end") if numeric else (start + 4, None)
        parts.append(words(x, 16, cut(name, 12, wide - 12), anchor=anchor, bold=True))
        for row, text in enumerate(column):
            shown = cut(text, 12, wide - 12, mono=True)
            parts.append(words(x, 42 + row * 20, shown, anchor=anchor, mono=True))
    parts += [line(0, 48 + row * 20, starts[-1], 48 + row * 20) for row in range(height)]
    below = 52.0 + height * 20
    left_out = f"{height} of {len(panel.columns[0])} rows are shown." if height < len(panel.columns[0]) else ""
    if left_out or not height:
        parts.append(words(4, below, left_out or "no rows", size=11, colour="muted"))
        below += 8
    return Drawing(starts[-1], below, joined(*parts))


def texts(panel: Texts) -> Drawing:
    """Texts below each other, broken at spaces, each under its label."""
    parts: list[Markup] = []
    y = 0.0
    for name, text in zip(panel.labels, panel.texts):
        if name:
            y += 18
            parts.append(words(0, y, name, size=12, bold=True))
        for piece in wrapped(readable(text), 96):
            y += 18
            parts.append(words(0, y, piece, size=12, mono=True))
        y += 8
        if len(parts) > MOST_LINES:
            parts = parts[:MOST_LINES]
            parts.append(words(0, y + 10, f"The first {MOST_LINES} lines are shown.", size=11, colour="muted"))
            return Drawing(WIDTH, y + 16, joined(*parts))
    return Drawing(WIDTH, y + 4, joined(*parts)) if parts else nothing("no texts")


def wrapped(text: str, width: int) -> list[str]:
    """The lines of a text, broken at spaces where they are longer than so many characters."""
    lines: list[str] = []
    for whole in text.split("\n"):
        rest = whole
        while len(rest) > width:
            at = rest.rfind(" ", 1, width + 1)
            at = at if at > 0 else width
            lines.append(rest[:at])
            rest = rest[at:].removeprefix(" ")
        lines.append(rest)
    return lines


@dataclass(frozen=True)
class _Field:
    """The room in which bars lie, from `low` to `high`."""

    left: float
    width: float
    low: float
    high: float

    def at(self, value: float) -> float:
        """Pixels from the left; values beyond the ends lie at the ends."""
        inside = min(self.high, max(self.low, value))
        return self.left + share(inside, self.low, self.high) * self.width


def _bar(panel: Bars, place: tuple[int, int], field: _Field, size: tuple[float, float]) -> Markup:
    i, j = place
    y, high = size
    value = float(panel.values[place])
    group = (panel.classes[i] if panel.classes is not None else j) if panel.groups else None
    said = [panel.labels[i], f"{panel.value_name} {_said(panel, place)}"]
    if group is not None:
        said.insert(1, panel.groups[group])
    low, high_end = (None if side is None else float(side[place]) for side in (panel.low, panel.high))
    if low is not None or high_end is not None:
        said.append(f"interval {' to '.join('' if end is None else number(end) for end in (low, high_end))}")
    parts = []
    if value == value:
        start, end = sorted((field.at(0), field.at(value)))
        paint = _paint(panel, group, value)
        parts.append(
            element("rect", hint("\n".join(said)), x=start, y=y, width=end - start, height=high, rx=1.5, **paint)
        )
    ends = [end for end in (low, high_end) if end is not None and np.isfinite(end)]
    parts += _whisker(field, [*ends, value] if len(ends) == 1 else ends, y + high / 2)
    beyond = max([field.at(0), field.at(value) if value == value else 0.0, *(field.at(end) for end in ends)])
    parts.append(words(beyond + 6, y + high / 2 + 4, _said(panel, place), size=11, colour="muted"))
    return joined(*parts)


def _said(panel: Bars, place: tuple[int, int]) -> str:
    return figure(float(panel.values[place]), signs=bool((panel.values < 0).any()))


def _paint(panel: Bars, group: int | None, value: float) -> dict[str, str]:
    if group is None and bool((panel.values < 0).any()):
        rgb, name = fill_of(_SIGNS, 0.65 if value >= 0 else -0.65)
        return {"fill": hexadecimal(rgb), "class_": name}
    return class_fill(group or 0)


def _whisker(field: _Field, ends: list[float], y: float) -> list[Markup]:
    if len(ends) != 2:
        return []
    start, end = (field.at(value) for value in sorted(ends))
    caps = [line(x, y - 3.5, x, y + 3.5, colour="ink", width=1.2) for x in (start, end)]
    return [line(start, y, end, y, colour="ink", width=1.2), *caps]


def _key(groups: tuple[str, ...], left: float, y: float) -> tuple[Markup, float]:
    parts, x = [], left
    for index, name in enumerate(groups):
        wide = 18 + room_for(shortened(name, 40), 11) + 16
        if x > left and x + wide > WIDTH:
            x, y = left, y + 18
        parts.append(element("rect", x=x, y=y, width=12, height=12, rx=1.5, **class_fill(index)))
        parts.append(words(x + 18, y + 10, shortened(name, 40), size=11))
        x += wide
    return joined(*parts), y + 20
