"""How do words and grids look in a terminal? As coloured cells, or as numbers where there are no colours.

Words along the columns are written downwards where the cells are narrow. A grid that does not fit is shown
in blocks (see `panels.shrunk`).
Limits: at most `MOST_ROWS` rows and `MOST_WORDS` words.
"""

from __future__ import annotations

import numpy as np
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.style import Style
from rich.text import Text

from cutaway.drawing.characters.ink import QUIET, Room, digit, fitted, legend
from cutaway.drawing.palette import Scale
from cutaway.drawing.panels import Grid, Strip, shrunk
from cutaway.drawing.words import figure, number, shortened

MOST_ROWS = 48
MOST_WORDS = 400
_NARROW, _WIDE = 2, 9
_TALLEST = 9  # characters of a word that is written downwards


def strip(panel: Strip, room: Room) -> RenderableType:
    """Words in a row, each with its value as colour, or behind it."""
    if not panel.words:
        return Text("  no words", style=QUIET)
    text = Text()
    for word, value in list(zip(panel.words, panel.values.tolist()))[:MOST_WORDS]:
        text.append(word, room.cell(panel.scale, value))
        text.append(" " if room.colourful else f"[{_short(value, panel.scale)}] ")
    missing = bool(np.isnan(panel.values).any())
    lines: list[RenderableType] = [text, legend(room, panel.scale, panel.value_name, missing=missing)]
    if len(panel.words) > 1:
        lines.append(_farthest(panel))
    if len(panel.words) > MOST_WORDS:
        lines.append(_said(f"{MOST_WORDS} of {len(panel.words)} words are shown."))
    return Group(*lines)


def grid(panel: Grid, room: Room) -> RenderableType:
    """Values in rows and columns, as colours, numbers or digits, whatever there is room for."""
    if not panel.values.size:
        height, width = panel.values.shape
        return Text(f"  no cells ({height} × {width})", style=QUIET)
    left = min(max(map(cell_len, panel.rows)), max(6, room.width // 4))
    space = room.width - left - 1
    small = shrunk(panel, MOST_ROWS, max(1, space // _NARROW))
    width = _cell_width(small, space)
    written = _written(small, width, room)
    sides = f"{small.row_name} ↓  {small.column_name} →"
    lines: list[RenderableType] = [Text(f"  {shortened(sides, room.width - 2)}", style=QUIET)]
    lines += _heads(small, left, width)
    for name, values, cells in zip(small.rows, small.values.tolist(), written):
        line = Text(fitted(name, left, right=True) + " ")
        for value, cell in zip(values, cells):
            line.append(cell, room.cell(small.scale, value))
        lines.append(line)
    digits = _as_digits(small, width, room)
    missing = bool(np.isnan(small.values).any())
    hidden = bool(small.texts) and width >= 4 and not digits and not room.colourful
    lines.append(legend(room, small.scale, small.value_name, digits=digits, missing=missing, hidden=hidden))
    if small.left_out:
        lines.append(_said(small.left_out))
    return Group(*lines)


def _cell_width(panel: Grid, space: int) -> int:
    most = max(_NARROW, space // len(panel.columns))
    longest = max((cell_len(text) for row in panel.texts or () for text in row), default=0)
    heads = max(map(cell_len, panel.columns)) if panel.words_on_columns else 0
    wanted = (
        max(longest + 1, heads + 1, len(_short(_reach(panel), panel.scale)) + 2) if panel.texts else max(7, heads + 1)
    )
    return min(most, max(_NARROW, min(wanted, 14 if panel.texts else _WIDE)))


def _written(panel: Grid, width: int, room: Room) -> list[list[str]]:
    if panel.texts and width >= 4:
        return _words(panel, width, room)
    if _as_digits(panel, width, room):
        cells = [[digit(panel.scale, value) for value in row] for row in panel.values.tolist()]
    elif (places := _places(panel, width)) is not None:
        cells = [[_fixed(value, places) for value in row] for row in panel.values.tolist()]
    else:
        cells = [["×" if value != value else "" for value in row] for row in panel.values.tolist()]
    return [[fitted(cell, width, right=True) for cell in row] for row in cells]


def _words(panel: Grid, width: int, room: Room) -> list[list[str]]:
    if _as_digits(panel, width, room):
        values = panel.values.tolist()
        both = [zip(texts, row) for texts, row in zip(panel.texts or (), values)]
        return [[f"{fitted(text, width - 3)}{digit(panel.scale, v):>2} " for text, v in row] for row in both]
    return [[fitted(f" {text}" if width > 4 else text, width) for text in row] for row in panel.texts or ()]


def _as_digits(panel: Grid, width: int, room: Room) -> bool:
    """Whether values are written as digits: without colours, where there is no room for numbers."""
    if room.colourful:
        return False
    return width >= 7 if panel.texts and width >= 4 else _places(panel, width) is None


def _places(panel: Grid, width: int) -> int | None:
    """Decimal places with which all values fit and the largest has two digits; None if none do."""
    known = panel.values[np.isfinite(panel.values)]
    for places in (3, 2, 1, 0) if width >= 5 else ():
        if all(len(f"{value:.{places}f}") < width for value in known):
            return places if _reach(panel) == 0 or _reach(panel) >= 10.0 ** (1 - places) else None
    return None


def _fixed(value: float, places: int) -> str:
    if value != value:
        return "×"
    text = f"{value:.{places}f}"
    return (text if float(text) else text.lstrip("-")) if np.isfinite(value) else number(value)


def _reach(panel: Grid) -> float:
    known = np.abs(panel.values[np.isfinite(panel.values)])
    return float(known.max()) if known.size else 0.0


def _heads(panel: Grid, left: int, width: int) -> list[Text]:
    """Labels of the columns: on one line where they fit, downwards where they do not."""
    longest = max(map(cell_len, panel.columns))
    if longest < width or (panel.texts and width >= 6):
        cells = [fitted(f" {name}" if panel.texts else name, width, right=not panel.texts) for name in panel.columns]
        return [Text(" " * (left + 1) + "".join(cells))]
    if not panel.words_on_columns:
        return [Text(" " * (left + 1) + _every_few(panel.columns, width))]
    usual = sorted(map(len, panel.columns))[len(panel.columns) * 4 // 5]  # one long word must not take all lines
    tall = min(longest, _TALLEST, max(5, usual))
    down = [shortened(name, tall).rjust(tall) for name in panel.columns]
    rows = ("".join(fitted(name[i], width, right=True) for name in down) for i in range(tall))
    return [Text(" " * (left + 1) + row) for row in rows]


def _every_few(names: tuple[str, ...], width: int) -> str:
    """As many of the labels as have room, each at its column."""
    line = ""
    for index, name in enumerate(names):
        end = (index + 1) * width
        if len(line) + len(name) + (1 if line else 0) <= end:
            line = line.ljust(end - len(name)) + name
    return line


def _farthest(panel: Strip) -> Text:
    order = sorted(
        (i for i, value in enumerate(panel.values.tolist()) if value == value),
        key=lambda i: -abs(panel.values[i]),
    )[:5]
    parts = [f"{panel.words[i]} {_short(float(panel.values[i]), panel.scale)}" for i in order]
    return Text("  farthest from zero: " + ", ".join(parts), style=QUIET)


def _short(value: float, scale: Scale) -> str:
    return "×" if value != value else figure(value, signs=scale.name == "diverging")


def _said(sentence: str) -> Text:
    return Text(f"  {sentence}", style=Style(italic=True))
