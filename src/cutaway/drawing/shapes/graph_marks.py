"""What are graphs made of, by layers, at positions, or as trees? The boxes of nodes, and arrows that are thick where strong."""

from __future__ import annotations

import math

from cutaway.drawing.palette import Scale, hexadecimal
from cutaway.drawing.panels import Network
from cutaway.drawing.shapes.marks import Markup, element, fill_of, hint, joined
from cutaway.drawing.words import figure

SIGNS = Scale("diverging", -1, 1)


def box(said: str, x: float, middle: float, wide: float, high: float) -> Markup:
    """A node's box, from its left end and the middle of its height; `said` is shown where it is pointed at."""
    return element(
        "rect",
        hint(said),
        x=x,
        y=middle - high / 2,
        width=wide,
        height=high,
        rx=5,
        fill="#ffffff",
        stroke="#5b646e",
        class_="paper muted-line",
    )


def thickness(weight: float, strongest: float) -> float:
    """How thick an arrow is beside the strongest; one of unknown weight is thin."""
    return 0.8 + 4.2 * min(1.0, abs(_known(weight)) / strongest)


def arrow(panel: Network, index: int, path: str, head: str, thick: float) -> Markup:
    """An arrow of a network: dashed where it is negative.

    Args:
        panel: the network.
        index: of the arrow.
        path: its way, up to its head.
        head: the corners of its head.
        thick: how thick it is.
    """
    weight = float(panel.weights[index])
    negative = _known(weight) < 0
    rgb, name = fill_of(SIGNS, -0.65 if negative else 0.65)
    ends = f"{panel.nodes[panel.sources[index]]} → {panel.nodes[panel.targets[index]]}"
    said = figure(weight, signs=bool((panel.weights < 0).any()))
    curve = element(
        "path",
        hint(f"{ends}\n{panel.weight_name} {said}" if panel.weight_name else ends),
        d=path,
        fill="none",
        stroke=hexadecimal(rgb),
        stroke_width=thick,
        stroke_opacity=0.75,
        stroke_dasharray="6 4" if negative else None,
        class_=f"{name}-line",
    )
    return joined(curve, element("polygon", points=head, fill=hexadecimal(rgb), class_=name))


def _known(weight: float) -> float:
    return 0.0 if math.isnan(weight) else weight
