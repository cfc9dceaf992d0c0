"""Where do numbers stand on paper? Two axes with round numbers: the frame of curves, points and counts.

Limits: linear axes only.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cutaway.drawing.palette import share, widened
from cutaway.drawing.panels import Numbers
from cutaway.drawing.shapes.marks import WIDTH, Markup, cut, joined, line, room_for, words
from cutaway.drawing.words import number

LEFT, TOP, HEIGHT = 62.0, 10.0, 250.0
_LARGEST = sys.float_info.max


@dataclass(frozen=True)
class Axes:
    """A plane from `x` to `y`, in pixels from LEFT to LEFT + `width` and from TOP to TOP + `height`."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: float = WIDTH - LEFT - 16
    height: float = HEIGHT

    def across(self, value: float) -> float:
        """Pixels from the left."""
        return LEFT + share(value, *self.x) * self.width

    def down(self, value: float) -> float:
        """Pixels from the top."""
        return TOP + (1 - share(value, *self.y)) * self.height


def span(values: Numbers, *, room: float = 0.04) -> tuple[float, float] | None:
    """The ends of an axis that shows all finite values, with some room; None when there are none."""
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    low, high = float(known.min()), float(known.max())
    if low == high:
        return widened(low, high)
    extra = high * room - low * room
    start = 0.0 if 0 <= low < extra else max(low - extra, -_LARGEST)  # room below zero would look like values
    return start, 0.0 if -extra < high <= 0 else min(high + extra, _LARGEST)


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers between the ends.

    >>> ticks(0, 11), ticks(-0.4, 2.1)
    ([0.0, 2.0, 4.0, 6.0, 8.0, 10.0], [0.0, 0.5, 1.0, 1.5, 2.0])
    """
    rough = high / about - low / about
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 and math.isfinite(rough) else 0.0
    if not power:
        return [low]
    step = next((power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.8), power * 10)
    first = math.ceil(low / step)
    return [round(i * step, 12) if step > 1e-9 else i * step for i in range(first, math.floor(high / step) + 1)]


def labelled(places: Sequence[float]) -> list[tuple[float, str]]:
    """The places with their numbers, all with the same decimal places.

    >>> labelled([0.0, 0.5, 1.0])
    [(0.0, '0.0'), (0.5, '0.5'), (1.0, '1.0')]
    """
    largest = max(map(abs, places), default=0.0)
    decimals = max((len(f"{at:.6f}".rstrip("0").partition(".")[2]) for at in places), default=0)
    if largest >= 1e6 or 0 < largest < 1e-3:
        return [(at, number(at)) for at in places]
    return [(at, f"{at:,.{decimals}f}") for at in places]


def frame(axes: Axes, x_name: str, y_name: str, labels: Sequence[str] | None = None) -> tuple[Markup, float]:
    """Axes with their numbers, or with words under x; and the height of all of it."""
    bottom = TOP + axes.height
    parts = [line(LEFT, axes.down(at), LEFT + axes.width, axes.down(at)) for at in ticks(*axes.y)]
    parts += [words(LEFT - 8, axes.down(at) + 4, said, size=11, anchor="end") for at, said in labelled(ticks(*axes.y))]
    if axes.y[0] < 0 < axes.y[1]:
        parts.append(line(LEFT, axes.down(0), LEFT + axes.width, axes.down(0), colour="muted"))
    parts.append(line(LEFT, bottom, LEFT + axes.width, bottom, colour="muted"))
    below, names = _under(axes, labels)
    parts += names
    parts.append(words(LEFT + axes.width / 2, bottom + below + 16, x_name, anchor="middle", colour="muted"))
    parts.append(
        words(12, TOP + axes.height / 2, cut(y_name, 12, axes.height), anchor="middle", colour="muted", turn=-90)
    )
    return joined(*parts), bottom + below + 22


def _under(axes: Axes, labels: Sequence[str] | None) -> tuple[float, list[Markup]]:
    bottom = TOP + axes.height
    if labels is None:
        shown = labelled(ticks(*axes.x, about=8))
        return 18, [words(axes.across(at), bottom + 16, said, size=11, anchor="middle") for at, said in shown]
    longest = max((room_for(name, 11, mono=True) for name in labels), default=0)
    apart = axes.width / max(1, len(labels))
    every = max(1, math.ceil(14 / apart))
    turned = longest > apart - 4
    parts = [
        words(
            axes.across(index) + (4 if turned else 0),
            bottom + 16,
            cut(name, 11, 110, mono=True),
            size=11,
            anchor="end" if turned else "middle",
            mono=True,
            turn=-45 if turned else 0,
        )
        for index, name in enumerate(labels)
        if index % every == 0
    ]
    return (min(longest, 110) * 0.71 + 14 if turned else 18), parts
