"""How do curves, points and counts look as shapes? In a plane with axes.

Curves of classes differ in colour and in the dashes of their lines, so that they are told apart without
colour; curves of a numbered series (such as layers) take the colours of a scale.
Limits: a curve is drawn with at most `MOST_PLACES` places, each the farthest of its block.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cutaway.drawing.palette import Scale, hexadecimal
from cutaway.drawing.panels import Counts, Line, Lines, Numbers, Points
from cutaway.drawing.shapes.axes import LEFT, TOP, Axes, frame, span
from cutaway.drawing.shapes.cells import nothing
from cutaway.drawing.shapes.marks import (
    WIDTH,
    Drawing,
    Markup,
    class_fill,
    class_stroke,
    element,
    fill_of,
    hint,
    joined,
    legend,
    placed,
    room_for,
    words,
)
from cutaway.drawing.words import figure, number, tick

MOST_PLACES = 1500
MOST_POINTS = 4000
MOST_NAMES = 60
_DASHES = (None, "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "1 2", "6 2 1 2")


def lines(panel: Lines) -> Drawing:
    """Curves over one x, with bands where there are intervals, and points where there are few places."""
    every_y = [part for line in panel.lines for part in (line.y, line.low, line.high) if part is not None]
    x_span = span(np.concatenate([line.x for line in panel.lines] or [np.zeros(0)]), room=0.02)
    y_span = span(np.concatenate(every_y or [np.zeros(0)]))
    if x_span is None or y_span is None:
        return nothing("no points")
    axes = Axes(x_span, y_span)
    paint, key = _paints(panel)
    around, height = frame(axes, panel.x_name, panel.value_name, panel.x_labels)
    bands = [_band(axes, line, paint(i)) for i, line in enumerate(panel.lines)]
    curves = [_curve(axes, panel, line, paint(i), i) for i, line in enumerate(panel.lines)]
    parts = [around, *bands, *curves]
    if key is not None:
        parts.append(placed(key, LEFT, height + 6))
        height += key.height + 8
    return Drawing(WIDTH, height, joined(*parts))


def points(panel: Points) -> Drawing:
    """Points in a plane; a name where it covers no other."""
    known = np.flatnonzero(np.isfinite(panel.x) & np.isfinite(panel.y))
    x_span, y_span = span(panel.x[known], room=0.06), span(panel.y[known], room=0.06)
    if x_span is None or y_span is None:
        return nothing("no points")
    shown = known[:: -(-known.size // MOST_POINTS)]
    axes = Axes(x_span, y_span, height=320)
    around, height = frame(axes, panel.x_name, panel.y_name)
    parts = [around, *(_point(axes, panel, int(i)) for i in shown), *_names(axes, panel, shown)]
    if panel.scale and panel.values is not None:
        missing = bool(np.isnan(panel.values[shown]).any())
        key = legend(panel.scale, panel.value_name, missing=missing)
        parts.append(placed(key, LEFT, height + 8))
        height += key.height + 10
    if shown.size < panel.x.size:
        parts.append(words(LEFT, height + 14, f"{shown.size} of {panel.x.size} points are shown.", size=11))
        height += 18
    return Drawing(WIDTH, height, joined(*parts))


def counts(panel: Counts) -> Drawing:
    """Columns over the bins; groups lie over each other, with outlines."""
    if not panel.counts.sum():
        return nothing("no values")
    axes = Axes((float(panel.edges[0]), float(panel.edges[-1])), (0.0, float(panel.counts.max()) * 1.05))
    around, height = frame(axes, panel.value_name, "how many")
    parts = [around, *(_columns(axes, panel, group) for group in range(len(panel.counts)))]
    if panel.groups:
        key = _key(panel.groups, lambda i: {**class_stroke(i), "stroke_dasharray": _DASHES[i % len(_DASHES)]})
        parts.append(placed(key, LEFT, height + 6))
        height += key.height + 8
    if panel.left_out:
        parts.append(words(LEFT, height + 14, panel.left_out, size=11, colour="muted"))
        height += 18
    return Drawing(WIDTH, height, joined(*parts))


Paint = dict[str, str | None]


def _paints(panel: Lines) -> tuple[Callable[[int], Paint], Drawing | None]:
    """How each curve is drawn, and the key to it."""
    places = [line.place for line in panel.lines if line.place is not None]
    if len(places) == len(panel.lines) > 8:
        spread = max(places) - min(places)
        scale = Scale("sequential", min(places) - spread / 3, max(places))  # the palest third is hard to see
        key = legend(scale, panel.series_name, start=min(places))

        def by_value(index: int) -> Paint:
            rgb, name = fill_of(scale, places[index])
            return {"stroke": hexadecimal(rgb), "class_": f"{name}-line"}

        return by_value, key

    def by_class(index: int) -> Paint:
        return {**class_stroke(index), "stroke_dasharray": _DASHES[index % len(_DASHES)]}

    names = [line.name for line in panel.lines]
    return by_class, _key(names, by_class, panel.series_name) if len(names) > 1 else None


def _key(names: tuple[str, ...] | list[str], paint: Callable[[int], Paint], title: str = "") -> Drawing:
    """Pieces of the lines with their names, in as many rows as they need."""
    parts, x, y = [], 0.0, 10.0
    if title:
        parts.append(words(0, y, title, size=11, colour="muted"))
        x = room_for(title, 11) + 14
    for index, name in enumerate(names):
        wide = 34 + room_for(name, 11) + 16
        if x and x + wide > WIDTH - LEFT:
            x, y = 0.0, y + 18
        parts.append(element("line", x1=x, y1=y - 4, x2=x + 26, y2=y - 4, stroke_width=2, **paint(index)))
        parts.append(words(x + 32, y, name, size=11))
        x += wide
    return Drawing(WIDTH - LEFT, y + 6, joined(*parts))


def _curve(axes: Axes, panel: Lines, line: Line, paint: Paint, index: int) -> Markup:
    x, y = _thinned(line.x, line.y)
    path = _path(axes, x, y)
    said = f"{panel.series_name} {line.name}".strip() or panel.value_name
    parts = [element("path", hint(said), d=path, fill="none", stroke_width=1.8, stroke_linejoin="round", **paint)]
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() * len(panel.lines) <= 400:
        paint = {name: value for name, value in paint.items() if name != "stroke_dasharray"}
        for a, b in zip(x[known].tolist(), y[known].tolist()):
            place = panel.x_labels[int(a)] if panel.x_labels else tick(a)
            note = hint(f"{said}\n{panel.x_name} {place}\n{panel.value_name} {number(b)}")
            dot = {"cx": axes.across(a), "cy": axes.down(b), "r": 2.2}
            parts.append(element("circle", note, **dot, fill="#ffffff", stroke_width=1.6, **_with(paint, "dot")))
    return joined(*parts)


def _with(paint: Paint, name: str) -> Paint:
    return {**paint, "class_": f"{paint['class_']} {name}"}


def _band(axes: Axes, line: Line, paint: Paint) -> Markup:
    """The interval as an area; where only one end is known, as a thin line."""
    if line.low is not None and line.high is not None:
        known = np.isfinite(line.x) & np.isfinite(line.low) & np.isfinite(line.high)
        x, low, high = line.x[known], line.low[known], line.high[known]
        there = [f"{axes.across(a):.2f} {axes.down(b):.2f}" for a, b in zip(x, high)]
        back = [f"{axes.across(a):.2f} {axes.down(b):.2f}" for a, b in zip(x[::-1], low[::-1])]
        colour = {"fill": paint["stroke"], "class_": str(paint["class_"]).removesuffix("-line")}
        return element("polygon", points=" ".join(there + back), fill_opacity=0.16, **colour) if there else Markup("")
    end = line.low if line.low is not None else line.high
    if end is None:
        return Markup("")
    path = _path(axes, *_thinned(line.x, end))
    return element("path", d=path, fill="none", stroke_width=0.8, stroke_opacity=0.7, **paint)


def _path(axes: Axes, x: Numbers, y: Numbers) -> str:
    """The curve, broken where values are missing."""
    steps, joined_on = [], False
    for a, b in zip(x.tolist(), y.tolist()):
        if not np.isfinite([a, b]).all():
            joined_on = False
            continue
        steps.append(f"{'L' if joined_on else 'M'}{axes.across(a):.2f} {axes.down(b):.2f}")
        joined_on = True
    return "".join(steps)


def _thinned(x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    if x.size <= MOST_PLACES:
        return x, y
    blocks = np.array_split(np.arange(x.size), MOST_PLACES // 2)
    both = [sorted({int(b[np.nanargmin(y[b])]), int(b[np.nanargmax(y[b])])}) for b in blocks if np.isfinite(y[b]).any()]
    kept = np.array([i for pair in both for i in pair], dtype=int)
    return x[kept], y[kept]


def _point(axes: Axes, panel: Points, index: int) -> Markup:
    x, y = float(panel.x[index]), float(panel.y[index])
    said = [f"{panel.x_name} {number(x)}", f"{panel.y_name} {number(y)}"]
    paint: Paint = dict(class_fill(0))
    if panel.labels:
        said.insert(0, panel.labels[index])
    if panel.scale and panel.values is not None:
        value = float(panel.values[index])
        rgb, name = fill_of(panel.scale, value)
        paint = {"fill": hexadecimal(rgb), "class_": name}
        said.append(f"{panel.value_name} {figure(value, signs=panel.scale.name == 'diverging')}")
    paint["class_"] = f"{paint['class_']} ringed"
    place = {"cx": axes.across(x), "cy": axes.down(y), "r": 4.0}
    return element("circle", hint("\n".join(said)), **place, stroke="#5b646e", stroke_width=0.7, **paint)


def _names(axes: Axes, panel: Points, shown: NDArray[np.int64]) -> list[Markup]:
    """Names beside their points; one that would cover another point or name is left to the hint."""
    if not panel.labels:
        return []
    places = [(axes.across(panel.x[i]), axes.down(panel.y[i])) for i in shown]
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    parts = []
    for own, (i, (x, y)) in enumerate(zip(shown, places)):
        wide = room_for(panel.labels[i], 10)
        for start in (x + 7, x - 7 - wide):
            box = (start, y - 6, start + wide, y + 6)
            inside = start >= LEFT and box[2] <= WIDTH and y > TOP
            if inside and not any(_overlap(box, other) for j, other in enumerate(taken) if j != own):
                taken.append(box)
                parts.append(words(start, y + 3.5, panel.labels[i], size=10))
                break
        if len(parts) >= MOST_NAMES:
            break
    return parts


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _columns(axes: Axes, panel: Counts, group: int) -> Markup:
    parts, outline, floor = [], [], axes.down(0)
    for low, high, count in zip(panel.edges, panel.edges[1:], panel.counts[group].tolist()):
        x, wide, y = axes.across(low), axes.across(high) - axes.across(low), axes.down(count)
        outline.append(f"{x:.2f} {y:.2f} {x + wide:.2f} {y:.2f}")
        who = f"{panel.groups[group]}\n" if panel.groups else ""
        note = hint(f"{who}{number(float(low))} to {number(float(high))}\n{number(count)} values")
        paint: Paint = dict(class_fill(group))
        opacity = 0.22 if panel.groups else 0.85
        parts.append(element("rect", note, x=x, y=y, width=wide, height=floor - y, fill_opacity=opacity, **paint))
    if panel.groups:
        first, last = axes.across(panel.edges[0]), axes.across(panel.edges[-1])
        ends = f"{first:.2f} {floor:.2f} {' '.join(outline)} {last:.2f} {floor:.2f}"
        dash = _DASHES[group % len(_DASHES)]
        parts.append(
            element(
                "polyline",
                points=ends,
                fill="none",
                stroke_width=1.5,
                stroke_dasharray=dash,
                **class_stroke(group),
            )
        )
    return joined(*parts)
