"""How do curves and points look in a terminal? As dots finer than a character, or as letters without colours.

A braille character holds two dots across and four down, so 60 columns show 120 places. Without colours each
curve is drawn with a letter of its own instead, since dots of several curves could not be told apart.
Limits: as many curves as there are letters; intervals are drawn as sparse dots.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.style import Style
from rich.text import Text

from cutaway.drawing.characters.ink import QUIET, Room, digit, fitted, legend
from cutaway.drawing.palette import Scale, share, widened
from cutaway.drawing.panels import Line, Lines, Numbers, Points
from cutaway.drawing.words import shortened, tick

HEIGHT = 14
_MARKS = string.ascii_lowercase + string.ascii_uppercase
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_MOST_POINTS = 4000
_MOST_NAMES = 30


@dataclass
class Canvas:
    """Characters being drawn; places go from 0 to 1, to the right and up."""

    width: int
    height: int
    dots: dict[tuple[int, int], int] = field(default_factory=dict)
    marks: dict[tuple[int, int], str] = field(default_factory=dict)
    styles: dict[tuple[int, int], Style] = field(default_factory=dict)

    def dot(self, across: float, up: float, style: Style) -> None:
        """A dot, finer than a character."""
        x, y = round(across * (self.width * 2 - 1)), round((1 - up) * (self.height * 4 - 1))
        cell = (y // 4, x // 2)
        self.dots[cell] = self.dots.get(cell, 0) | _DOTS[y % 4][x % 2]
        self.styles[cell] = style

    def mark(self, across: float, up: float, mark: str, style: Style) -> tuple[int, int]:
        """A character; gives its row and column."""
        cell = (round((1 - up) * (self.height - 1)), round(across * (self.width - 1)))
        self.marks[cell] = mark
        self.styles[cell] = style
        return cell

    def rows(self) -> Iterator[Text]:
        """The lines from top to bottom."""
        for row in range(self.height):
            line = Text()
            for column in range(self.width):
                cell = (row, column)
                mark = self.marks.get(cell) or (chr(0x2800 + self.dots[cell]) if cell in self.dots else " ")
                line.append(mark, self.styles.get(cell))
            yield line


def lines(panel: Lines, room: Room) -> RenderableType:
    """Curves over one x, each with its colour or letter."""
    drawn = panel.lines[: len(_MARKS)]
    spread = [
        _span(np.concatenate([p for line in drawn for p in pieces(line)] or [np.zeros(0)])) for pieces in (_x, _y)
    ]
    if any(span is None for span in spread):
        return Text("  no points", style=QUIET)
    (x_span, y_span) = (span for span in spread if span)
    left = max(len(tick(end)) for end in y_span)
    canvas = Canvas(room.width - left - 3, HEIGHT)
    letters = not room.colourful and len(drawn) > 1
    style_of = _styles(drawn, room)
    for index, line in enumerate(drawn):
        _draw(canvas, line, (x_span, y_span), style_of(index), _MARKS[index] if letters else "")
    parts: list[RenderableType] = [Text(f"  {panel.value_name}", style=QUIET)]
    parts += _framed(canvas, left, (x_span, y_span), panel.x_name, panel.x_labels)
    if len(drawn) > 1:
        parts.append(_names(panel, drawn, style_of, letters=letters))
    if len(drawn) < len(panel.lines):
        parts.append(Text(f"  {len(drawn)} of {len(panel.lines)} curves are shown.", style="italic"))
    return Group(*parts)


def points(panel: Points, room: Room) -> RenderableType:
    """Points in a plane, with names where there is room."""
    known = np.flatnonzero(np.isfinite(panel.x) & np.isfinite(panel.y))
    x_span, y_span = _span(panel.x[known]), _span(panel.y[known])
    if x_span is None or y_span is None:
        return Text("  no points", style=QUIET)
    shown = known[:: -(-known.size // _MOST_POINTS)]
    left = max(len(tick(end)) for end in y_span)
    canvas = Canvas(room.width - left - 3, HEIGHT + 4)
    cells = [_point(canvas, panel, int(i), (x_span, y_span), room) for i in shown]
    for i, cell in list(zip(shown, cells))[:_MOST_NAMES] if panel.labels else ():
        _name(canvas, cell, panel.labels[i] if panel.labels else "")
    parts: list[RenderableType] = [Text(f"  {panel.y_name}", style=QUIET)]
    parts += _framed(canvas, left, (x_span, y_span), panel.x_name, None)
    if panel.scale and panel.values is not None:
        missing = bool(np.isnan(panel.values[shown]).any())
        parts.append(legend(room, panel.scale, panel.value_name, digits=True, missing=missing))
    if shown.size < panel.x.size:
        parts.append(Text(f"  {shown.size} of {panel.x.size} points are shown.", style="italic"))
    return Group(*parts)


def _x(line: Line) -> list[Numbers]:
    return [line.x]


def _y(line: Line) -> list[Numbers]:
    return [part for part in (line.y, line.low, line.high) if part is not None]


def _span(values: Numbers) -> tuple[float, float] | None:
    """The ends of the finite values, with some room where they are all equal."""
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    low, high = float(known.min()), float(known.max())
    return widened(low, high)


def _place(value: float, span: tuple[float, float]) -> float:
    return share(value, *span)


def _styles(drawn: tuple[Line, ...], room: Room) -> Callable[[int], Style]:
    """Many numbered curves get the colours of a scale, others those of classes."""
    places = [line.place for line in drawn]
    known = [place for place in places if place is not None]
    if len(known) == len(places) > 8:
        scale = Scale("sequential", min(known) - (max(known) - min(known)) / 4, max(known))
        return lambda index: room.along(scale, known[index])
    return room.of_class


def _draw(
    canvas: Canvas,
    line: Line,
    spans: tuple[tuple[float, float], tuple[float, float]],
    style: Style,
    letter: str,
) -> None:
    for values, sparse in ((line.low, True), (line.high, True), (line.y, False)):
        if values is None:
            continue
        for step, (across, up) in enumerate(_along(line.x, values, spans, canvas.width * 2)):
            if sparse and step % 4:
                continue
            if letter and not sparse:
                canvas.mark(across, up, letter, style)
            else:
                canvas.dot(across, up, style)


def _along(
    x: Numbers, y: Numbers, spans: tuple[tuple[float, float], tuple[float, float]], steps: int
) -> Iterator[tuple[float, float]]:
    """Places along the straight pieces between neighbouring known points."""
    order = np.argsort(x, kind="stable")
    known = np.isfinite(x) & np.isfinite(y)
    places = [(_place(x[i], spans[0]), _place(y[i], spans[1])) if known[i] else None for i in order]
    yield from (place for place in places if place)
    for start, end in itertools.pairwise(places):
        if start and end:
            run, rise = end[0] - start[0], end[1] - start[1]
            count = max(1, round(max(abs(run) * steps, abs(rise) * HEIGHT * 4)))
            yield from ((start[0] + run * k / count, start[1] + rise * k / count) for k in range(1, count))


def _framed(
    canvas: Canvas,
    left: int,
    spans: tuple[tuple[float, float], tuple[float, float]],
    x_name: str,
    x_labels: tuple[str, ...] | None,
) -> Iterator[Text]:
    """The canvas with its axes: ends in numbers, or words where x is words."""
    (x_low, x_high), (y_low, y_high) = spans
    marks = {0: tick(y_high), canvas.height - 1: tick(y_low)}
    if y_low < 0 < y_high:
        marks.setdefault(round(y_high / (y_high - y_low) * (canvas.height - 1)), "0")
    for row, line in enumerate(canvas.rows()):
        yield Text(f"{marks.get(row, ''):>{left}} {'┤' if row in marks else '│'} ").append_text(line)
    yield Text(" " * left + " └" + "─" * (canvas.width + 1))
    ends = (tick(x_low), tick(x_high))
    if x_labels:
        yield Text(" " * (left + 3) + _spread(x_labels, canvas.width))
        ends = ("", "")
    room = canvas.width - len(ends[0]) - len(ends[1])
    yield Text(" " * (left + 3) + ends[0] + shortened(x_name, max(0, room - 2)).center(max(0, room)) + ends[1])


def _spread(labels: tuple[str, ...], width: int) -> str:
    """As many labels as fit, each under its place."""
    line = ""
    for index, name in enumerate(labels):
        middle = round(index / max(1, len(labels) - 1) * (width - 1)) if len(labels) > 1 else width // 2
        start = min(max(0, middle - cell_len(name) // 2), max(0, width - cell_len(name)))
        if cell_len(line) + (1 if line else 0) <= start:
            line = fitted(line, start) + name
    return line


def _names(panel: Lines, drawn: tuple[Line, ...], style_of: Callable[[int], Style], *, letters: bool) -> Text:
    text = Text(f"  {panel.series_name}: ")
    for index, line in enumerate(drawn):
        text.append(f"{_MARKS[index]} = " if letters else "━━ ", style_of(index))
        text.append(f"{line.name}  ")
    return text


def _point(
    canvas: Canvas,
    panel: Points,
    index: int,
    spans: tuple[tuple[float, float], tuple[float, float]],
    room: Room,
) -> tuple[int, int]:
    across, up = _place(panel.x[index], spans[0]), _place(panel.y[index], spans[1])
    if panel.values is None or panel.scale is None:
        return canvas.mark(across, up, "●", room.of_class(0))
    value = float(panel.values[index])
    mark = "●" if room.colourful else digit(panel.scale, value)[-1]
    return canvas.mark(across, up, mark, room.along(panel.scale, value))


def _name(canvas: Canvas, cell: tuple[int, int], name: str) -> None:
    """Write the name to the right of its point, or to the left, where nothing stands yet."""
    row, column = cell
    text = shortened(name, 16)
    for start in (column + 2, column - 1 - len(text)):
        place = [(row, start + i) for i in range(-1, len(text) + 1)]
        inside = start >= 0 and start + len(text) <= canvas.width
        if inside and not any(p in canvas.marks for p in place if p != cell):
            for i, character in enumerate(text):
                canvas.marks[row, start + i] = character
                canvas.styles.pop((row, start + i), None)
            return
