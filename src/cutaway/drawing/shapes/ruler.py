"""How is a check shown? The control's interval as a bar, its middle as a tick, the measured value as a dot.

Limits: one line; an infinite value is not drawn, only written.
"""

from __future__ import annotations

import math

from cutaway.core.result import Check
from cutaway.drawing.palette import Scale, hexadecimal
from cutaway.drawing.shapes.axes import labelled, ticks
from cutaway.drawing.shapes.marks import Drawing, Markup, element, fill_of, hint, joined, line, words
from cutaway.drawing.words import controlled, measured

_WIDTH, _LEFT, _MIDDLE = 420.0, 14.0, 14.0
_SIGNS = Scale("diverging", -1, 1)


def ruler(check: Check) -> Drawing | None:
    """The line of a check; None where there is nothing to draw."""
    ends = [check.measured, check.control, *check.interval, 0.0]
    low, high = min(ends), max(ends)
    if not math.isfinite(low) or not math.isfinite(high) or low == high:
        return None
    low, high = low - (high - low) * 0.03, high + (high - low) * 0.03

    def at(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (_WIDTH - 2 * _LEFT)

    places = ticks(low, high, about=5)
    start, end = (at(value) for value in check.interval)
    rgb, name = fill_of(_SIGNS, 0.65)
    parts: list[Markup] = [line(at(low), _MIDDLE, at(high), _MIDDLE)]
    parts += [line(at(place), _MIDDLE - 3, at(place), _MIDDLE + 3) for place in places]
    parts += [
        words(at(place), _MIDDLE + 20, said, size=10, anchor="middle", colour="muted")
        for place, said in labelled(places)
    ]
    parts.append(
        element(
            "rect",
            hint(f"control {controlled(check)}"),
            x=start,
            y=_MIDDLE - 5,
            width=max(1.5, end - start),
            height=10,
            rx=2,
            fill="#5b646e",
            fill_opacity=0.45,
            class_="muted",
        )
    )
    parts.append(line(at(check.control), _MIDDLE - 7, at(check.control), _MIDDLE + 7, colour="ink", width=1.5))
    dot = hint(f"measured {measured(check)}")
    parts.append(
        element(
            "circle",
            dot,
            cx=at(check.measured),
            cy=_MIDDLE,
            r=5.5,
            fill=hexadecimal(rgb),
            class_=f"{name} ringed",
        )
    )
    return Drawing(_WIDTH, _MIDDLE + 26, joined(*parts))
