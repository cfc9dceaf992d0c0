from __future__ import annotations

import math
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from cutaway.core import view as views
from cutaway.core.result import Check, Result
from cutaway.drawing.palette import hexadecimal, steps
from cutaway.drawing.shapes.axes import labelled, ticks
from cutaway.drawing.shapes.layers import layered, without_circles
from cutaway.drawing.shapes.lists import wrapped
from cutaway.drawing.shapes.ruler import ruler
from cutaway.drawing.svg import draw

SVG = "{http://www.w3.org/2000/svg}"


def parsed(result: Result, index: int = 0) -> ElementTree.Element:
    return ElementTree.fromstring(draw(result, result.views[index]))


def hints(root: ElementTree.Element) -> list[str]:
    return [title.text or "" for title in root.iter(f"{SVG}title")][1:]


def test_a_heat_map_has_a_cell_for_each_value_in_its_colour(result: Result) -> None:
    root = parsed(result, 2)
    cells = [rect for rect in root.iter(f"{SVG}rect") if rect.find(f"{SVG}title") is not None]
    values = result.data["effect"].values
    assert len(cells) == values.size
    reach = np.abs(values).max()
    for rect, value in zip(cells, values.ravel().tolist()):
        step = round((value + reach) / (2 * reach) * 32)
        assert rect.get("fill") == hexadecimal(steps("diverging")[step])
        assert rect.get("class") == f"d{step}"
    assert "layer 3\ntoken ·Mary\neffect" in " ".join(hints(root))


def test_the_whole_word_is_in_the_hint_of_a_cell_that_cuts_it(result: Result) -> None:
    root = parsed(result, 1)
    assert any(text.text == "<|im_…" for text in root.iter(f"{SVG}text"))
    assert any(hint.startswith("<|im_start|>\nlayer") for hint in hints(root))


def test_the_drawing_lies_inside_its_frame(result: Result) -> None:
    for index, view in enumerate(result.views):
        root = parsed(result, index)
        width, height = float(root.get("width", 0)), float(root.get("height", 0))
        for rect in root.iter(f"{SVG}rect"):
            assert float(rect.get("x", 0)) >= -0.5, view.title
            assert float(rect.get("x", 0)) + float(rect.get("width", 0)) <= width + 1, view.title
            assert float(rect.get("y", 0)) + float(rect.get("height", 0)) <= height + 1, view.title


def test_axes_are_labelled(result: Result) -> None:
    for index, needed in {
        2: ["layer", "token", "effect"],
        3: ["query (attends)", "key (is attended to)"],
    }.items():
        said = [text.text for text in parsed(result, index).iter(f"{SVG}text")]
        assert all(name in said for name in needed)


def test_a_large_heat_map_is_shown_in_blocks_and_keeps_its_peak() -> None:
    values = np.zeros((300, 2000))
    values[123, 1717] = 7.0
    data = xr.Dataset({"v": (("layer", "position"), values)})
    drawing = draw(Result(data, views=(view := views.heatmap(value="v", x="position", y="layer"),)), view)
    assert "300 × 2000 cells are shown as 75 × 118: each is the value farthest from zero of 4 × 17." in drawing
    assert "v 7.00" in drawing  # no sign, for none is below zero
    assert len(drawing) < 3_000_000


def test_long_curves_keep_their_spikes() -> None:
    values = np.zeros(100_000)
    values[77_777] = 5.0
    data = xr.Dataset({"v": (("x",), values)})
    view = views.curves(value="v", x="x")
    drawing = draw(Result(data, views=(view,)), view)
    assert len(drawing) < 100_000
    path = next(ElementTree.fromstring(drawing).iter(f"{SVG}path")).get("d", "")
    heights = [float(step.split()[1]) for step in path.replace("M", "L").split("L")[1:]]
    assert min(heights) < max(heights) - 200


def test_missing_values_break_a_curve() -> None:
    data = xr.Dataset({"v": (("x",), [0.0, 1.0, np.nan, 1.0, 0.0])})
    view = views.curves(value="v", x="x")
    path = next(ElementTree.fromstring(draw(Result(data, views=(view,)), view)).iter(f"{SVG}path"))
    assert path.get("d", "").count("M") == 2


def test_curves_differ_in_more_than_colour(result: Result) -> None:
    paths = [path for path in parsed(result, 4).iter(f"{SVG}path") if path.get("stroke-width") == "1.8"]
    assert len({path.get("stroke-dasharray") for path in paths}) == 3
    assert len({path.get("stroke") for path in paths}) == 3


def test_many_numbered_curves_take_a_scale() -> None:
    values = np.arange(20)[:, None] + np.arange(5.0)
    view = views.curves(value="v", x="x", series="layer")
    root = parsed(Result(xr.Dataset({"v": (("layer", "x"), values)}), views=(view,)))
    curves = [path for path in root.iter(f"{SVG}path") if path.get("stroke-width") == "1.8"]
    places = [int(path.get("class", "s0-line")[1:].removesuffix("-line")) for path in curves]
    assert len(places) == 20
    assert places == sorted(places)
    assert places[0] >= 6  # the palest steps are hard to see
    said = [text.text for text in root.iter(f"{SVG}text")]
    assert said[-3:] == ["0", "19", "layer"]  # the key has the ends of the series, not of the scale


def test_negative_arrows_are_dashed_and_thick_ones_are_strong(result: Result) -> None:
    arrows = {path[0].text: path for path in parsed(result, 9).iter(f"{SVG}path")}
    assert arrows["mlp3 → a9.h9\nweight -0.400"].get("stroke-dasharray")
    assert not arrows["a9.h9 → logits\nweight +2.10"].get("stroke-dasharray")
    widths = {name.split()[-1]: float(path.get("stroke-width", 0)) for name, path in arrows.items() if name}
    assert max(widths, key=lambda name: widths[name]) == "+2.10"


edges = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=24)


@given(edges)
def test_arrows_point_to_later_layers_unless_they_close_a_circle(drawn: list[tuple[int, int]]) -> None:
    nodes = list(range(8))
    layers = layered(nodes, drawn)
    depth = {node: i for i, layer in enumerate(layers.order) for node in layer}
    assert sorted(node for node in depth if node >= 0) == nodes
    forward = without_circles(nodes, drawn)
    for source, target in forward:
        assert depth[source] < depth[target]
        stops = layers.stops[source, target]
        assert [depth[stop] for stop in stops] == list(range(depth[source] + 1, depth[target]))
    assert set(layers.stops) == set(forward)


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)).map(lambda e: (min(e), max(e) + 1)), max_size=24))
def test_no_arrow_of_a_graph_without_circles_is_turned(drawn: list[tuple[int, int]]) -> None:
    assert without_circles(range(9), drawn) == drawn


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_round_and_inside(low: float, size: float) -> None:
    places = ticks(low, low + size)
    assert 2 <= len(places) <= 12
    assert all(low - size * 1e-6 <= at <= low + size * (1 + 1e-6) for at in places)
    step = places[1] - places[0]
    digits = f"{step:.6e}"[0]
    assert digits in "125" or math.isclose(step, 10 ** round(math.log10(step)), rel_tol=1e-4)
    assert len({said for _, said in labelled(places)}) == len(places) or size < abs(low) * 1e-3


@given(st.text(st.sampled_from("ab \n"), max_size=60), st.integers(1, 20))
def test_wrapping_loses_no_letter(text: str, width: int) -> None:
    lines = wrapped(text, width)
    assert all(len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "").replace("\n", "")


def test_the_ruler_draws_interval_control_and_measured_in_their_places() -> None:
    drawn = ruler(Check("c", "h", 3.0, 1.0, (0.5, 2.0), 9, True))
    assert drawn
    root = ElementTree.fromstring(f"<svg>{drawn.body}</svg>")
    bar, dot = next(root.iter("rect")), next(root.iter("circle"))
    start, end = float(bar.get("x", 0)), float(bar.get("x", 0)) + float(bar.get("width", 0))
    assert start < end < float(dot.get("cx", 0))
    assert math.isclose((float(dot.get("cx", 0)) - start) / (end - start), 2.5 / 1.5, rel_tol=0.01)


@pytest.mark.parametrize(
    ("kind", "size", "said"),
    [
        ("tokens", 1600, "1500 of 1600 words are shown."),
        ("bars", 100, "80 of 100 bars are shown: the ones farthest from zero."),
        ("graph", 150, "120 of 150 arrows are drawn: the strongest."),
        ("table", 100, "60 of 100 rows are shown."),
        ("text", 100, "The first 80 lines are shown."),
    ],
)
def test_what_is_left_out_is_said(make: Callable[..., Result], kind: str, size: int, said: str) -> None:
    assert said in "".join(parsed(make(kind, size, 1.0)).itertext())


def test_nodes_that_are_sites_stand_by_layer_and_others_by_depth() -> None:
    from cutaway.drawing.shapes.layers import layered
    from cutaway.drawing.shapes.network import site_columns

    names = ["embed", "z[3].head[1]", "z[0].head[2]", "mlp_contrib[0]", "z[0].head[0]", "logits"]
    columns = site_columns(names)
    assert columns == {0: 0, 2: 1, 4: 1, 3: 2, 1: 3, 5: 4}
    # A shortcut from the embeddings to the last layer does not move that layer to the front.
    made = layered(range(6), [(0, 1), (1, 5), (0, 3)], columns=columns)
    assert [sorted(node for node in layer if node >= 0) for layer in made.order] == [[0], [2, 4], [3], [1], [5]]
    assert len(made.stops[0, 1]) == 2
    assert site_columns(["embed", "a head"]) is None
    assert site_columns(["z[*]"]) is None
