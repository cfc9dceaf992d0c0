"""What is an SVG picture made of? Elements whose every text is escaped, and colours that a page may exchange.

Text reaches the picture only through `element`, which escapes it and replaces what XML forbids, so no
prompt can become markup. Colours are written twice, as attributes (so that the picture stands alone, dark
on light) and as classes, by which a page gives them the colours of its own theme.
Limits: widths of texts are estimated, since no font is measured; labels get some room to spare.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NewType
from xml.sax.saxutils import escape, quoteattr

from rich.cells import cell_len

from cutaway.drawing.palette import BINS, MISSING, Rgb, Scale, class_colour, hexadecimal, ink_on, steps
from cutaway.drawing.words import readable, tick

Markup = NewType("Markup", str)

WIDTH = 720
SANS = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
MONO = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
INK, MUTED, RULE, PAPER = "#1b1f24", "#5b646e", "#d5dae0", "#ffffff"
_COLOURS = {"ink": INK, "muted": MUTED, "rule": RULE, "paper": PAPER}
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Drawing:
    """A finished part of a picture and the room that it takes."""

    width: float
    height: float
    body: Markup


def element(tag: str, *children: Markup, **attributes: str | float | None) -> Markup:
    """An element; in names of attributes `_` is written `-` and `__` is `:`; None leaves one out."""
    written = "".join(
        f" {name.rstrip('_').replace('__', ':').replace('_', '-')}={quoteattr(clean(_plain(value)))}"
        for name, value in attributes.items()
        if value is not None
    )
    inside = "".join(children)
    return Markup(f"<{tag}{written}>{inside}</{tag}>" if inside else f"<{tag}{written}/>")


def escaped(text: str) -> Markup:
    """Text as it stands between tags."""
    return Markup(escape(clean(text)))


def clean(text: str) -> str:
    """The text without what XML forbids, which is replaced by U+FFFD."""
    return _FORBIDDEN.sub("\ufffd", text)


def joined(*parts: Markup) -> Markup:
    """Markup after each other."""
    return Markup("".join(parts))


def placed(drawing: Drawing, x: float, y: float) -> Markup:
    """The drawing with its corner at x, y."""
    return element("g", drawing.body, transform=f"translate({_plain(x)} {_plain(y)})")


def words(
    x: float,
    y: float,
    text: str,
    *,
    size: float = 12,
    anchor: str | None = None,
    colour: str = "ink",
    mono: bool = False,
    bold: bool = False,
    turn: float = 0,
) -> Markup:
    """A line of text with its baseline at y; `turn` rotates it about its start, in degrees."""
    return element(
        "text",
        escaped(text),
        x=x,
        y=y,
        font_size=size,
        text_anchor=anchor,
        font_family=MONO if mono else None,
        font_weight="bold" if bold else None,
        fill=_COLOURS[colour],
        class_=colour,
        transform=f"rotate({_plain(turn)} {_plain(x)} {_plain(y)})" if turn else None,
        xml__space="preserve" if "  " in text else None,
    )


def line(x1: float, y1: float, x2: float, y2: float, *, colour: str = "rule", width: float = 1) -> Markup:
    """A straight line."""
    return element(
        "line",
        x1=x1,
        y1=y1,
        x2=x2,
        y2=y2,
        stroke=_COLOURS[colour],
        stroke_width=width,
        class_=f"{colour}-line",
    )


def hint(text: str) -> Markup:
    """What a reader sees who points at the element."""
    return element("title", escaped(readable(text)))


def cell(x: float, y: float, width: float, height: float, scale: Scale, value: float, said: str) -> Markup:
    """A rectangle in the colour of its value."""
    rgb, name = fill_of(scale, value)
    return element("rect", hint(said), x=x, y=y, width=width, height=height, fill=hexadecimal(rgb), class_=name)


def ink_in(scale: Scale, value: float) -> dict[str, str]:
    """Colour and class of text that stands on the colour of a value."""
    rgb, name = fill_of(scale, value)
    return {"fill": hexadecimal(ink_on(rgb)), "class_": f"on-{name}"}


def fill_of(scale: Scale, value: float) -> tuple[Rgb, str]:
    """The colour of a value and the name of its class."""
    step = scale.bin(value)
    if step is None:
        return MISSING["light"], "none"
    return steps(scale.name)[step], f"{scale.name[0]}{step}"


def class_fill(index: int) -> dict[str, str]:
    """Colour and class of something filled that belongs to this class."""
    return {"fill": hexadecimal(class_colour(index)), "class_": f"k{index % 8}"}


def class_stroke(index: int) -> dict[str, str]:
    """Colour and class of a line that belongs to this class."""
    return {"stroke": hexadecimal(class_colour(index)), "class_": f"k{index % 8}-line"}


def legend(
    scale: Scale, name: str, *, missing: bool = False, start: float | None = None, width: float = 160
) -> Drawing:
    """A bar of colours with the numbers at its ends; from `start` on where a part of the scale is used."""
    first = scale.bin(start) or 0 if start is not None else 0
    ends = [tick(scale.low if start is None else start), tick(scale.high)]
    left = room_for(ends[0], 11) + 6
    wide = width / (BINS - first)
    parts = [words(left - 6, 10, ends[0], size=11, anchor="end", colour="muted")]
    for step in range(first, BINS):
        overlap = 0.5 if step < BINS - 1 else 0  # or hair lines show between the steps
        place = {"x": left + (step - first) * wide, "y": 0.0, "width": wide + overlap, "height": 12.0}
        fill = hexadecimal(steps(scale.name)[step])
        parts.append(element("rect", **place, fill=fill, class_=f"{scale.name[0]}{step}"))
    right = left + width + 6
    parts.append(words(right, 10, ends[1], size=11, colour="muted"))
    right += room_for(ends[1], 11) + 12
    parts.append(words(right, 10, name, size=11))
    right += room_for(name, 11)
    if missing:
        fill = hexadecimal(MISSING["light"])
        parts.append(element("rect", x=right + 14, y=0, width=12, height=12, fill=fill, class_="none"))
        parts.append(words(right + 30, 10, "missing", size=11, colour="muted"))
        right += 30 + room_for("missing", 11)
    return Drawing(right, 14, joined(*parts))


def room_for(text: str, size: float, *, mono: bool = False) -> float:
    """About how wide a text is."""
    return cell_len(text) * size * (0.61 if mono else 0.62)


def cut(text: str, size: float, room: float, *, mono: bool = False) -> str:
    """The text, or as much of it as has room, and `…`."""
    if room_for(text, size, mono=mono) <= room + 0.1:
        return text
    while text and room_for(text + "…", size, mono=mono) > room:
        text = text[:-1]
    return text + "…"


def _plain(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
