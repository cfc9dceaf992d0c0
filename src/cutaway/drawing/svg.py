"""How does a picture get into a paper? As SVG: sharp at any size, dark on light, every text escaped.

`draw` gives one picture with its title; the renderer puts all pictures of a result below each other, with
its figures, checks and notes.
Limits: fonts are named, not carried; a viewer without them uses its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from cutaway.core.method import renderer
from cutaway.core.result import Check, Result, view_at
from cutaway.core.view import View
from cutaway.drawing.framing import panel
from cutaway.drawing.panels import Bars, Counts, Grid, Lines, Network, Panel, Points, Strip, Table, Texts
from cutaway.drawing.shapes import cells, lists, network, plots
from cutaway.drawing.shapes.marks import SANS, WIDTH, Drawing, Markup, element, escaped, joined, placed, words
from cutaway.drawing.shapes.ruler import ruler
from cutaway.drawing.words import (
    controlled,
    measured,
    number,
    origin,
    standing,
    verdict,
    visible_text,
)
from cutaway.drawing.words import (
    placed as place_in_words,
)

MARGIN = 20.0


@renderer("svg", asks="How do I put the pictures into a paper?")
def svg(result: Result, view: int | None = None) -> str:
    """All pictures of a result, or one of them, with its figures, checks and notes, as one SVG.

    Args:
        result: what to draw.
        view: index of the one view to draw; all when None.
    """
    views = result.views if view is None else (view_at(result, view),)
    parts = [titled(result, each) for each in views]
    parts += [_figures(result)] if view is None and result.metrics else []
    parts += [_check(check) for check in result.checks]
    parts.append(_lines([f"Note: {visible_text(note)}" for note in result.notes] + [origin(result)]))
    title = views[0].title if len(views) == 1 else str(result.provenance.get("method", "result"))
    return framed(_stacked(parts, 26), title)


def draw(result: Result, view: View) -> str:
    """One picture with its title as a whole SVG document."""
    return framed(titled(result, view), view.title)


def titled(result: Result, view: View) -> Drawing:
    """One picture under its title, and over its note."""
    parts = [words(0, 16, visible_text(view.title), size=16, bold=True)]
    top = 26.0
    where = standing(view, result.data)
    if where:
        parts.append(words(0, 34, where, size=12, colour="muted"))
        top = 44.0
    picture = shape(panel(result, view))
    parts.append(placed(picture, 0, top + 6))
    height = top + 6 + picture.height
    for piece in lists.wrapped(visible_text(view.note), 110) if view.note else ():
        height += 18
        parts.append(words(0, height, piece, size=12, colour="muted"))
    return Drawing(picture.width, height + 6, joined(*parts))


def shape(content: Panel) -> Drawing:
    """The panel as shapes, without a title."""
    match content:
        case Strip():
            return cells.strip(content)
        case Grid():
            return cells.grid(content)
        case Lines():
            return plots.lines(content)
        case Points():
            return plots.points(content)
        case Counts():
            return plots.counts(content)
        case Bars():
            return lists.bars(content)
        case Network():
            return network.network(content)
        case Table():
            return lists.table(content)
        case Texts():
            return lists.texts(content)


def framed(drawing: Drawing, title: str, *, margin: float = MARGIN) -> str:
    """The drawing as a whole SVG document on white paper."""
    width, height = max(drawing.width, WIDTH) + 2 * margin, drawing.height + 2 * margin
    ground = element("rect", width=width, height=height, fill="#ffffff", class_="paper")
    return bare(Drawing(width, height, joined(ground, placed(drawing, margin, margin))), title)


def bare(drawing: Drawing, title: str) -> Markup:
    """The drawing as an SVG element, without paper."""
    return element(
        "svg",
        element("title", escaped(visible_text(title))),
        drawing.body,
        xmlns="http://www.w3.org/2000/svg",
        width=drawing.width,
        height=drawing.height,
        viewBox=f"0 0 {drawing.width:.1f} {drawing.height:.1f}",
        font_family=SANS,
        role="img",
        aria_label=visible_text(title),
    )


def _stacked(parts: Sequence[Drawing], gap: float) -> Drawing:
    body, y = [], 0.0
    for part in parts:
        body.append(placed(part, 0, y))
        y += part.height + gap
    return Drawing(max(part.width for part in parts), max(0.0, y - gap), joined(*body))


def _figures(result: Result) -> Drawing:
    parts = []
    for row, (name, value) in enumerate(result.metrics.items()):
        said = visible_text(value) if isinstance(value, str) else number(value)
        parts.append(words(0, 14 + row * 20, visible_text(name), colour="muted"))
        parts.append(words(240, 14 + row * 20, said, bold=True))
    return Drawing(WIDTH, len(result.metrics) * 20, joined(*parts))


def _check(check: Check) -> Drawing:
    parts = [words(0, 14, f"{verdict(check)}: {visible_text(check.claim)}", size=13, bold=True)]
    said = _lines(
        [
            visible_text(check.how),
            f"Measured {measured(check)}; control {controlled(check)};",
            place_in_words(check) + ".",
        ]
    )
    parts.append(placed(said, 0, 20))
    height = 20 + said.height
    drawn = ruler(check)
    if drawn:
        parts.append(placed(drawn, 0, height + 4))
        height += 4 + drawn.height
    return Drawing(WIDTH, height, joined(*parts))


def _lines(sentences: Sequence[str]) -> Drawing:
    pieces = [piece for sentence in sentences for piece in lists.wrapped(sentence, 110)]
    rows = [words(0, 14 + row * 17, piece, size=12, colour="muted") for row, piece in enumerate(pieces)]
    return Drawing(WIDTH, len(rows) * 17, joined(*rows))
