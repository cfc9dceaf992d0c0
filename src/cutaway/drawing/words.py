"""How are numbers, tokens and verdicts put into words? One way for all pictures.

A token in a picture is shown so that every character of it can be seen: a space is `·`, a line break `↵`, a character
that would steer the screen or the reading direction is written as its name. A space between two words can be seen as it
is. Sentences quote tokens, and there too the space that a token begins or ends with is a `·`. The data keep the true
strings.
Limits: a token that holds a middle dot looks like one with a space.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from cutaway.core.result import Check, Result
from cutaway.core.view import View

_SHOWN = {" ": "·", "\n": "↵", "\t": "⇥"}
_BETWEEN = re.compile(r"(?<=[^ ]) ")  # the first space after something else
_AT_QUOTES = re.compile(r"(?<=“) +| +(?=”)")
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
_JOINERS = "\u200c\u200d"  # of Persian words and of emoji; harmless


def visible(token: str) -> str:
    """The token with every character to be seen.

    >>> visible(" to\\n\\x00")
    '·to↵⟨U+0000⟩'
    """
    return "".join(_SHOWN.get(c) or (_by_code(c) if unicodedata.category(c) == "Zs" else _printable(c)) for c in token)


def readable(text: str) -> str:
    """The text with its spaces and line breaks as they are, and all else to be seen."""
    return "".join(c if c in " \n" else "    " if c == "\t" else _printable(c) for c in text)


def number(value: Any, digits: int = 3) -> str:
    """A number with so many significant digits; whole numbers in full.

    >>> number(0.12345), number(12345.6), number(7), number(float("nan"))
    ('0.123', '12,346', '7', 'missing')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if math.isnan(value):
        return "missing"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    value = value or 0.0  # no minus before nothing
    size = abs(value)
    if size != 0 and (size < 1e-4 or size >= 1e7):
        return f"{value:.{digits - 1}e}"
    places = max(0, digits - 1 - math.floor(math.log10(size))) if size else 0
    return f"{value:,.{min(places, digits + 3)}f}"


def tick(value: float) -> str:
    """A number on an axis: whole ones without decimal places."""
    return number(int(value)) if math.isfinite(value) and value == int(value) else number(value)


def column(values: Sequence[float]) -> list[str]:
    """Numbers below each other, with the same decimal places where that loses none of them.

    >>> column([12.345, 0.5, -3.0]), column([12.0, 3.0])
    (['12.35', '0.50', '-3.00'], ['12', '3'])
    """
    sizes = [abs(value) for value in values if math.isfinite(value) and value]
    if all(value == int(value) for value in values if math.isfinite(value)) and max(sizes, default=0) < 1e7:
        return [tick(value) for value in values]
    places = max(0, 3 - math.floor(math.log10(max(sizes))))
    if places > 6 or min(sizes) < 10.0**-places or max(sizes) >= 1e7:
        return [number(value, 4) for value in values]
    return [f"{value:,.{places}f}" if math.isfinite(value) else number(value) for value in values]


def signed(value: float, digits: int = 3) -> str:
    """A number with its sign."""
    return f"+{number(value, digits)}" if value > 0 else number(value, digits)


def figure(value: float, *, signs: bool) -> str:
    """A value of a picture: with its sign where the picture has both signs, and plain where it has not.

    >>> figure(0.923, signs=False), figure(0.923, signs=True)
    ('0.923', '+0.923')
    """
    return signed(value) if signs else number(value)


def label(value: Any) -> str:
    """A label of an axis: a token, a name, or a number. Spaces that could be overlooked are `·`.

    >>> label(" Mary"), label("head 23.3"), label("9  John")
    ('·Mary', 'head 23.3', '9 ·John')
    """
    if not isinstance(value, str):
        return number(value, 4)
    inner = value.strip(" ")
    shown = " ".join(map(visible, _BETWEEN.split(inner)))
    before = len(value) - len(value.lstrip(" "))
    return visible(value) if not inner else "·" * before + shown + "·" * (len(value) - before - len(inner))


def shortened(text: str, length: int) -> str:
    """The text, or its beginning and `…`."""
    return text if len(text) <= length else text[: max(0, length - 1)] + "…"


def named(variable: Any) -> str:
    """What a variable is called: its long name or its name, with its unit."""
    name = str(variable.attrs.get("long_name") or variable.name).replace("_", " ")
    units = variable.attrs.get("units")
    return visible_text(f"{name} ({units})" if units else name)


def visible_text(text: str) -> str:
    """The text on one line, with spaces as they are, but those at the ends of quoted words to be seen.

    >>> visible_text("It says “ Mary”.\\n")
    'It says “·Mary”.↵'
    """
    return readable(_AT_QUOTES.sub(lambda spaces: "·" * len(spaces[0]), text.replace("\n", "↵")))


def standing(view: View, data: xr.Dataset) -> str:
    """Where the picture stands in the dimensions that it does not show and that have other places: `layer 3, head 5`."""
    return ", ".join(
        f"{named(data[dim]) if dim in data.variables else dim} {visible_text(str(place))}"
        for dim, place in view.at.items()
        if data.sizes.get(dim, 0) != 1
    )


def verdict(check: Check) -> str:
    """The outcome with a sign and in words."""
    return f"{'✓' if check.passed else '✗'} {check.verdict}"


def measured(check: Check) -> str:
    """The figure of a check in words.

    >>> measured(Check("a", "b", 3.2, 0.4, (0.1, 0.9), 50, True, "logits"))
    '3.20 logits'
    """
    return f"{number(check.measured)}{f' {check.unit}' if check.unit else ''}"


def controlled(check: Check) -> str:
    """The control of a check in words."""
    low, high = check.interval
    unit = f" {check.unit}" if check.unit else ""
    return f"{number(check.control)}{unit}, interval {number(low)} to {number(high)} (n = {check.n})"


def placed(check: Check) -> str:
    """Where the measured value lies."""
    return f"measured is {check.place} the interval of the control"


def origin(result: Result) -> str:
    """Method, model, task and time of a result, as far as they are known, on one line."""
    record = result.provenance
    parts = [str(record[key]) for key in ("method",) if record.get(key)]
    for key, fields in (("model", ("name", "dtype", "device")), ("task", ("name", "n", "seed"))):
        about = record.get(key)
        if isinstance(about, Mapping):
            said = [
                f"{field} {about[field]}" if field in ("n", "seed") else str(about[field])
                for field in fields
                if about.get(field) is not None
            ]
            parts.append(f"{key} {', '.join(said)}")
    if isinstance(record.get("seconds"), int | float):
        parts.append(f"{number(float(record['seconds']))} s")
    return visible_text(" · ".join([*parts, f"id {result.id[:12]}"]))


def _printable(character: str) -> str:
    code = ord(character)
    nothing = code & 0xFFFE == 0xFFFE  # two code points of each plane are promised never to be characters
    if character in _JOINERS or not (nothing or unicodedata.category(character) in _HIDDEN):
        return character
    return _by_code(character)


def _by_code(character: str) -> str:
    return f"⟨U+{ord(character):04X}⟩"
