"""A graph of parts at positions is laid out by layer and position, and says what is attention."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from cutaway.core import view as views
from cutaway.core.result import Result
from cutaway.drawing.characters.ink import Room
from cutaway.drawing.characters.lists import network as listed
from cutaway.drawing.framing import panel as framed
from cutaway.drawing.panels import Network
from cutaway.drawing.positions import placed
from cutaway.drawing.shapes.network import network
from cutaway.drawing.shapes.position_grid import MOST_EDGES

ARROWS = (
    ("embed@s1", "v[0].head[0]@s1", 1.0),
    ("embed@s1", "mlp_contrib[0]@s1", -0.5),
    ("v[0].head[0]@s1", "z[0].head[1]@end", np.nan),
    ("v[0].head[0]@s1", "z[0].head[0]@end", np.nan),
    ("z[0].head[1]@end", "logits@end", 2.0),
    ("z[0].head[0]@end", "logits@end", 0.25),
)
NAMES = ("s1", "s2", "end")


def panel(arrows=ARROWS, positions=NAMES, headings=()):
    nodes = list(dict.fromkeys(end for arrow in arrows for end in arrow[:2]))
    return Network(
        tuple(nodes),
        tuple(nodes.index(source) for source, _, _ in arrows),
        tuple(nodes.index(target) for _, target, _ in arrows),
        np.array([weight for _, _, weight in arrows]),
        "score",
        positions=positions,
        headings=headings,
    )


def test_rows_are_layers_and_columns_positions():
    found = placed(panel())
    assert found is not None
    place = dict(zip(panel().nodes, zip(found.rows, found.columns, found.short, strict=True), strict=True))
    assert place == {
        "embed@s1": (0, 0, "embed"),
        "v[0].head[0]@s1": (1, 0, "v 0"),
        "z[0].head[1]@end": (2, 2, "head 1"),
        "z[0].head[0]@end": (2, 2, "head 0"),
        "mlp_contrib[0]@s1": (3, 0, "mlp"),
        "logits@end": (4, 2, "logits"),
    }
    assert found.layers == ("embed", "layer 0", "layer 0", "layer 0", "logits")
    assert found.moves == {2, 3}
    assert placed(panel(headings=("3 Mary", "9", "13 to"))).headings == ("3 Mary", "9", "13 to")


@pytest.mark.parametrize(
    "other",
    [
        panel(positions=()),
        panel((*ARROWS, ("a", "b", 1.0))),
        panel((*ARROWS, ("embed@s9", "logits@end", 1.0))),
        panel((*ARROWS, ("embed", "logits@end", 1.0))),
    ],
)
def test_other_graphs_are_laid_out_as_ever(other):
    assert placed(other) is None


def test_arrows_go_up_within_their_column_and_attention_is_thin():
    drawn = network(panel(headings=("s1", "s2", " end")))
    root = ElementTree.fromstring(f"<svg>{drawn.body}</svg>")
    said = [text.text for text in root.iter("text")]
    assert {"s1", "s2", "·end", "layer 0", "logits", "head 1", "v 0"} <= set(said)
    paths = {path[0].text: path for path in root.iter("path")}
    assert len(paths) == 6
    attention = [path for name, path in paths.items() if name.startswith("attention: v[0].head[0]@s1 → z[0].head")]
    assert len(attention) == 2 and all(float(path.get("stroke-width", 9)) < 1.2 for path in attention)
    assert paths["z[0].head[1]@end → logits@end\nscore +2.00"].get("stroke-width") == "5"
    assert paths["embed@s1 → mlp_contrib[0]@s1\nscore -0.500"].get("stroke-dasharray") == "6 4"
    boxes = {box[0].text: (float(box.get("x", 0)), float(box.get("y", 0))) for box in root.iter("rect")}
    heights = [boxes[name][1] for name in ("embed@s1", "v[0].head[0]@s1", "z[0].head[1]@end", "mlp_contrib[0]@s1")]
    assert heights == sorted(heights, reverse=True)
    assert boxes["z[0].head[0]@end"][1] == boxes["z[0].head[1]@end"][1]
    assert boxes["z[0].head[0]@end"][0] < boxes["z[0].head[1]@end"][0]
    assert boxes["embed@s1"][0] < boxes["logits@end"][0]
    assert "Thin dashed lines are attention." in said[-1]


def test_of_many_positions_those_with_nodes_are_shown():
    many = tuple(map(str, range(20)))
    drawn = network(panel((("embed@3", "mlp_contrib[0]@3", 1.0), ("embed@9", "logits@9", 1.0)), many))
    said = [text.text for text in ElementTree.fromstring(f"<svg>{drawn.body}</svg>").iter("text")]
    assert said[:2] == ["3", "9"] and "4" not in said
    assert drawn.width < 430


def test_attention_is_drawn_where_both_its_ends_are():
    many = [("embed@s1", f"z[{i}].head[0]@s1", 10.0 + i) for i in range(MOST_EDGES)]
    drawn = network(panel((*many, *ARROWS)))
    text = "".join(ElementTree.fromstring(f"<svg>{drawn.body}</svg>").itertext())
    assert f"{MOST_EDGES} of {MOST_EDGES + 4} arrows are drawn: the strongest." in text
    assert "attention:" not in text


def test_lists_and_pages_show_the_arrows_that_are_edges():
    source, target, weight = zip(*ARROWS, strict=True)
    data = xr.Dataset(
        {
            "source": ("arrow", list(source)),
            "target": ("arrow", list(target)),
            "score": ("arrow", list(weight)),
            "name": ("column", list(NAMES)),
        }
    )
    view = views.graph(source="source", target="target", weight="score", position="name", heading="name")
    result = Result(data, views=(view,))
    console = Console(width=100)
    with console.capture() as held:
        console.print(listed(framed(result, view), Room(width=100, colourful=False)))
    lines = [line for line in held.get().splitlines() if "▶" in line]
    assert len(lines) == 4 and not any("missing" in line for line in lines)
