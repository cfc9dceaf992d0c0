"""How do coloured words and grids look as shapes? As cells with a background and the words on it.

Words along the columns are turned where they would not fit. A grid of more than `MOST_CELLS` cells is shown
in blocks (see `panels.shrunk`).
Limits: words on cells are cut to the cell; the whole word is in the hint of the cell.
"""

from __future__ import annotations

import math

import numpy as np

from cutaway.drawing.palette import Scale
from cutaway.drawing.panels import Grid, Strip, shrunk
from cutaway.drawing.shapes.marks import (
    MONO,
    WIDTH,
    Drawing,
    Markup,
    cell,
    cut,
    element,
    escaped,
    ink_in,
    joined,
    legend,
    placed,
    room_for,
    words,
)
from cutaway.drawing.words import figure

MOST_ROWS, MOST_COLUMNS = 96, 120
MOST_WORDS = 1500
_WORD, _SIZE = 26, 13  # height of a word and of its letters, in pixels


def strip(panel: Strip) -> Drawing:
    """Words in lines like a text, each with its colour, its value below."""
    if not panel.words:
        return nothing("no words")
    parts, x, y = [], 0.0, 0.0
    for word, value in list(zip(panel.words, panel.values.tolist()))[:MOST_WORDS]:
        said = _said(value, panel.scale)
        wide = max(room_for(word, _SIZE, mono=True) + 10, room_for(said, 9) + 4)
        if x and x + wide > WIDTH:
            x, y = 0.0, y + _WORD + 20
        parts.append(_word(x, y, wide, (word, value, said), panel.scale))
        x += wide + 2
    height = y + _WORD + 16
    key = legend(panel.scale, panel.value_name, missing=bool(np.isnan(panel.values).any()))
    parts.append(placed(key, 0, height + 8))
    height += 8 + key.height
    if len(panel.words) > MOST_WORDS:
        parts.append(words(0, height + 16, f"{MOST_WORDS} of {len(panel.words)} words are shown.", size=11))
        height += 20
    return Drawing(WIDTH, height, joined(*parts))


def grid(panel: Grid) -> Drawing:
    """Values in rows and columns, with words on the cells where there are any."""
    if not panel.values.size:
        return nothing(f"no cells ({panel.values.shape[0]} × {panel.values.shape[1]})")
    small = shrunk(panel, MOST_ROWS, MOST_COLUMNS)
    left = min(160.0, max(room_for(name, 11, mono=small.words_on_rows) for name in small.rows)) + 30
    wide, high = _cell_size(small, WIDTH - left)
    across, down = wide * len(small.columns), high * len(small.rows)
    parts = [_cells(small, left, wide, high), _row_names(small, left, high), _row_axis(small.row_name, down)]
    heads, below = _column_names(small, left, wide, down)
    parts.append(heads)
    below += down + 16
    parts.append(words(left + across / 2, below, small.column_name, size=12, anchor="middle", colour="muted"))
    key = legend(small.scale, small.value_name, missing=bool(np.isnan(small.values).any()))
    parts.append(placed(key, left, below + 14))
    below += 14 + key.height
    if small.left_out:
        parts.append(words(left, below + 18, small.left_out, size=11, colour="muted"))
        below += 20
    return Drawing(max(left + across, left + key.width), below, joined(*parts))


def nothing(what: str) -> Drawing:
    """A picture of an empty array says that it is empty."""
    return Drawing(WIDTH / 2, 20, words(0, 14, what, colour="muted"))


def _word(x: float, y: float, wide: float, shown: tuple[str, float, str], scale: Scale) -> Markup:
    word, value, said = shown
    back = cell(x, y, wide, _WORD, scale, value, f"{word}\n{said}").replace("<rect", '<rect rx="3"', 1)
    front = element(
        "text",
        escaped(word),
        x=x + wide / 2,
        y=y + _WORD / 2 + 4.5,
        text_anchor="middle",
        font_size=_SIZE,
        font_family=MONO,
        pointer_events="none",
        **ink_in(scale, value),
    )
    return joined(
        Markup(back),
        front,
        words(x + wide / 2, y + _WORD + 11, said, size=9, anchor="middle", colour="muted"),
    )


def _cell_size(panel: Grid, room: float) -> tuple[float, float]:
    most = room / len(panel.columns)
    if panel.texts:
        longest = max((room_for(text, 10, mono=True) for row in panel.texts for text in row), default=0)
        return min(most, max(24.0, longest + 8)), 20
    square = panel.words_on_rows and panel.words_on_columns
    wide = min(most, 30.0 if square else 40.0)
    return wide, wide if square and wide >= 4 else min(max(wide * 0.7, 5.0), 22.0, 900 / len(panel.rows))


def _cells(panel: Grid, left: float, wide: float, high: float) -> Markup:
    parts = []
    # cells that touch would show hair lines between them where they do not end on whole pixels
    gap = 1 if min(wide, high) >= 8 else -0.3
    for i, (row, values) in enumerate(zip(panel.rows, panel.values.tolist())):
        for j, (column, value) in enumerate(zip(panel.columns, values)):
            word = panel.texts[i][j] if panel.texts else ""
            said = (
                f"{panel.row_name} {row}\n{panel.column_name} {column}\n{panel.value_name} {_said(value, panel.scale)}"
            )
            x, y = left + j * wide, i * high
            parts.append(cell(x, y, wide - gap, high - gap, panel.scale, value, f"{word}\n{said}" if word else said))
            if word:
                parts.append(_written(x, y, (wide - gap, high - gap), word, panel.scale, value))
    return joined(*parts)


def _written(x: float, y: float, size: tuple[float, float], word: str, scale: Scale, value: float) -> Markup:
    return element(
        "text",
        escaped(cut(word, 10, size[0] - 2, mono=True)),
        x=x + size[0] / 2,
        y=y + size[1] / 2 + 3.5,
        text_anchor="middle",
        font_size=10,
        font_family=MONO,
        pointer_events="none",
        **ink_in(scale, value),
    )


def _row_names(panel: Grid, left: float, high: float) -> Markup:
    every = max(1, math.ceil(12 / high))
    return joined(
        *(
            words(
                left - 6,
                (i + 0.5) * high + 4,
                cut(name, 11, left - 30, mono=panel.words_on_rows),
                size=11,
                anchor="end",
                mono=panel.words_on_rows,
            )
            for i, name in enumerate(panel.rows)
            if i % every == 0
        )
    )


def _row_axis(name: str, down: float) -> Markup:
    return words(12, down / 2, cut(name, 12, max(down, 60)), anchor="middle", colour="muted", turn=-90)


def _column_names(panel: Grid, left: float, wide: float, down: float) -> tuple[Markup, float]:
    """The names of the columns below them, and how much room they take."""
    mono = panel.words_on_columns
    longest = max(room_for(name, 11, mono=mono) for name in panel.columns)
    turned = mono and longest > wide - 2
    every = max(1, math.ceil((13 if turned else longest + 6) / wide))
    parts = []
    for j, name in enumerate(panel.columns):
        if j % every:
            continue
        x, y = left + (j + 0.5) * wide, down + 14
        if turned:
            shown = cut(name, 11, 110, mono=mono)
            parts.append(words(x + 4, y - 3, shown, size=11, anchor="end", mono=mono, turn=-45))
        else:
            parts.append(words(x, y, name, size=11, anchor="middle", mono=mono))
    tall = min(longest, 110) * math.sin(math.pi / 4) + 12 if turned else 16
    return joined(*parts), tall


def _said(value: float, scale: Scale) -> str:
    return figure(value, signs=scale.name == "diverging")
