"""What may a picture in the terminal use? So many columns, and colours or not.

Where there are no colours (a pipe, NO_COLOR, a terminal of 16 colours) everything that colour would say is
written.
Limits: a terminal does not say whether it is light or dark; dark is assumed unless COLORFGBG says
otherwise.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions
from rich.style import Style
from rich.text import Text

from cutaway.drawing.palette import Rgb, Scale, Theme, class_colour, colour, ink_on, lightness, steps
from cutaway.drawing.words import number

QUIET = "dim"
STRONG = "bold"
_GREY: Rgb = (125, 133, 144)


@dataclass(frozen=True)
class Room:
    """Columns to draw in, whether colours can be told apart, and on which ground they stand."""

    width: int
    colourful: bool
    theme: Theme = "dark"

    def cell(self, scale: Scale, value: float) -> Style:
        """The style of a cell with this value."""
        return filled(colour(scale, value, self.theme)) if self.colourful else Style()

    def of_class(self, index: int) -> Style:
        """The style of a line or bar of this class."""
        return Style(color=_css(class_colour(index, self.theme))) if self.colourful else Style()

    def along(self, scale: Scale, value: float) -> Style:
        """The style of a line or point whose colour says a value; grey where that would not be seen."""
        chosen = colour(scale, value, self.theme)
        hidden = lightness(chosen) < 0.45 if self.theme == "dark" else lightness(chosen) > 0.85
        return Style(color=_css(_GREY if hidden else chosen)) if self.colourful else Style()

    def of_sign(self, value: float) -> Style:
        """The style of a bar or arrow of this sign, in the colours of the diverging scale."""
        return self.along(Scale("diverging", -1, 1), 0.7 if value > 0 else -0.7)


def room_of(console: Console, options: ConsoleOptions) -> Room:
    """What this console offers."""
    enough = console.color_system in ("256", "truecolor", "windows") and not console.no_color
    ground = os.environ.get("COLORFGBG", "").rpartition(";")[2]
    return Room(max(20, options.max_width), enough, "light" if ground in ("7", "15") else "dark")


def filled(background: Rgb) -> Style:
    """Text on this background, in black or white."""
    return Style(color=_css(ink_on(background)), bgcolor=_css(background))


def fitted(text: str, width: int, *, right: bool = False) -> str:
    """The text in exactly so many columns of the terminal, cut with `…` when it is longer."""
    size = cell_len(text)
    if size > width:
        return set_cell_size(text, max(0, width - 1)) + "…" if width > 0 else ""
    return " " * (width - size) + text if right else text + " " * (width - size)


def legend(
    room: Room, scale: Scale, name: str, *, digits: bool = False, missing: bool = False, hidden: bool = False
) -> Text:
    """One line that says which colour, or which digit, is which value of `name`.

    Args:
        room: where it is drawn.
        scale: how values become colours.
        name: what the values are.
        digits: without colours, values are written as digits.
        missing: there are missing values.
        hidden: without colours, there is no room to write values.
    """
    text = Text("  ")
    if room.colourful:
        text.append(f"{number(scale.low)} ")
        for step in steps(scale.name, room.theme)[:: 2 if room.width > 60 else 4]:
            text.append(" ", Style(bgcolor=_css(step)))
        middle = ", the middle is 0" if scale.name == "diverging" else ""
        text.append(f" {number(scale.high)}  {name}{middle}")
    elif digits:
        text.append(_digits_in_words(scale, name))
    else:
        text.append(f"{name}, from {number(scale.low)} to {number(scale.high)}")
        text.append(" (told by colour only, which this output has not)" if hidden else "")
    if missing:
        text.append("; × is missing")
    return text


def digit(scale: Scale, value: float) -> str:
    """The value as one digit, with a minus sign below zero."""
    if value != value:
        return "×"
    if scale.name == "diverging":
        tenth = round(9 * abs(scale.place(value) - 0.5) * 2)
        return f"-{tenth}" if value < 0 and tenth else str(tenth)
    return str(round(9 * scale.place(value)))


def _digits_in_words(scale: Scale, name: str) -> str:
    if scale.name == "diverging":
        return f"{name}: 0 is 0, 9 is {number(scale.high)}, -9 is {number(scale.low)}"
    return f"{name}: 0 is {number(scale.low)}, 9 is {number(scale.high)}"


def _css(rgb: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)
