"""Is a tree of shares drawn as one, and nothing else?"""

from __future__ import annotations

import re

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from cutaway.core import view as views
from cutaway.core.result import Result
from cutaway.drawing.panels import Network
from cutaway.drawing.shapes.network import network
from cutaway.drawing.shapes.tree import MOST_BRANCHES, tree, tree_of
from cutaway.drawing.svg import svg

NODES = ("(start)", "A", "A-B", "A-B-C", "D")


def graph(arrows: list[tuple[int, int, float]], nodes: tuple[str, ...] = NODES) -> Network:
    sources, targets, weights = zip(*arrows)
    return Network(nodes, sources, targets, np.array(weights), "share")


SPELLING = [(0, 4, 0.2), (0, 1, 0.5), (1, 2, 0.4), (2, 3, 0.4)]


def test_a_tree_has_its_largest_branch_first() -> None:
    found = tree_of(graph(SPELLING))
    assert found is not None
    assert (found.root, found.children[0], found.depth[3]) == (0, (1, 4), 3)


@pytest.mark.parametrize(
    "arrows",
    [
        [(0, 4, 0.2), (0, 1, 0.3), (1, 2, 0.4), (2, 3, 0.4)],  # a branch larger than what it grows from
        [(0, 4, 0.2), (0, 1, 0.5), (1, 2, 0.4), (1, 2, 0.4)],  # two ways to a node
        [(0, 4, 0.2), (0, 1, 0.5), (1, 2, -0.4), (2, 3, 0.4)],  # less than nothing
        [(0, 4, 0.2), (0, 1, 0.5), (1, 2, float("nan")), (2, 3, 0.4)],
        [(0, 4, 0.2), (1, 2, 0.4), (2, 3, 0.4), (3, 1, 0.4)],  # a circle beside it
        [(0, 1, 0.5), (0, 2, 0.5), (0, 3, 0.5), (0, 4, 0.5)],  # one level: nothing to follow
        [*SPELLING, (3, 4, 0.1)],
    ],
)
def test_other_graphs_are_no_trees(arrows: list[tuple[int, int, float]]) -> None:
    assert tree_of(graph(arrows)) is None


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(0.1, 1)), min_size=2, max_size=40))
def test_whatever_grows_from_one_root_is_a_tree_in_which_no_two_leaves_share_a_row(
    drawn: list[tuple[int, float]],
) -> None:
    shares, arrows = {0: 1.0}, []
    for node, (place, part) in enumerate(drawn, 1):
        parent = place % node
        shares[node] = shares[parent] * part
        arrows.append((parent, node, shares[node]))
    panel = graph(arrows, tuple(f"n{i}" for i in range(len(drawn) + 1)))
    found = tree_of(panel)
    if all(parent == 0 for parent, _, _ in arrows):
        assert found is None
        return
    assert found is not None
    for node, below in found.children.items():
        assert [found.shares[child] for child in below] == sorted(
            (found.shares[child] for child in below), reverse=True
        )
        assert all(found.depth[child] == found.depth[node] + 1 for child in below)
    boxes = re.findall(r'<rect [^>]*?x="([\d.]+)" y="([\d.]+)"', tree(panel, found).body)
    assert len(boxes) == len(set(boxes)) == len(panel.nodes)


def test_the_likeliest_way_is_a_straight_line_with_its_shares() -> None:
    drawn = network(graph(SPELLING))
    rows = re.findall(r'<rect [^>]*?y="([\d.]+)"[^>]*><title>([^<]*)</title>', drawn.body)
    assert {name.split(" ")[0] for y, name in rows if y == rows[0][0]} == {"(start)", "A", "A-B", "A-B-C"}
    assert ">0.4</text>" in drawn.body.replace("0.40<", "0.4<")
    assert ">B</text>" in drawn.body and ">A-B</text>" not in drawn.body


def test_what_is_left_out_is_said() -> None:
    count = MOST_BRANCHES + 30
    arrows = [(0, 1, 1.0), *((1, node, 0.5 / node) for node in range(2, count + 1))]
    drawn = network(graph(arrows, tuple(f"n{i}" for i in range(count + 1))))
    assert f"{MOST_BRANCHES} of {count} branches are drawn: the largest." in drawn.body
    assert drawn.body.count("<rect") == MOST_BRANCHES + 1


def test_a_result_is_drawn_with_it() -> None:
    data = xr.Dataset(
        {
            "source": (("edge",), np.array(["(start)", "A", "A-B"], dtype=object)),
            "target": (("edge",), np.array(["A", "A-B", "A-B-C"], dtype=object)),
            "weight": (("edge",), np.array([0.5, 0.4, 0.1]), {"long_name": "probability of the branch"}),
        }
    )
    drawn = svg(Result(data, views=(views.graph(source="source", target="target", weight="weight"),)))
    assert "The number is probability of the branch" in drawn
