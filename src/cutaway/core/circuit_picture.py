"""How is a circuit shown? Its edges as arrows between nodes: parts, or parts at positions.

Nodes are parts, named by what they write. An edge into keys that several heads share is an arrow to each of those heads
that the circuit uses. Where the circuit has positions, keys and values are nodes of their own, and an arrow without a score
leads from them to what attention writes at another position.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from cutaway.core import view as views
from cutaway.core.edge import ELSEWHERE, Edge, position_number
from cutaway.core.edge_paths import KEYS
from cutaway.core.site import Site

if TYPE_CHECKING:
    from cutaway.core.circuit import Circuit

Arrow = tuple[str, str, float, str]  # source, target, score, edge
ATTENTION = "attention"  # stands in the place of an edge where attention moves a value


def dataset(circuit: Circuit, most: int, headings: Sequence[str] = ()) -> xr.Dataset:
    """The arrows of a circuit; `Circuit.dataset` says what they are."""
    listed = circuit.edge_list()[:most]
    arrows = [arrow for edge in listed for arrow in _arrows(circuit, edge)]
    if circuit.positions:
        arrows += attention_arrows(circuit, {target for _, target, _, _ in arrows})
    known = np.array([score for _, _, score, _ in arrows], dtype=float)
    columns = {
        "circuit_source": [source for source, _, _, _ in arrows],
        "circuit_target": [target for _, target, _, _ in arrows],
        "circuit_edge": [edge for _, _, _, edge in arrows],
    }
    found = xr.Dataset({name: ("arrow", np.array(column, dtype=object)) for name, column in columns.items()})
    is_edge = np.array([edge != ATTENTION for _, _, _, edge in arrows], dtype=bool)
    found["circuit_score"] = ("arrow", np.where(np.isnan(known) & is_edge, 1.0, known))
    found["circuit_score"].attrs["long_name"] = "score" if np.isfinite(known).any() else "the circuit"
    found["circuit_edge"].attrs["long_name"] = "edge"
    return found.merge(_columns(circuit, listed, headings)) if circuit.positions else found


def to_views(circuit: Circuit, title: str) -> tuple[views.View, ...]:
    """The graph and the table of the arrows in `dataset`."""
    if not circuit.n_edges:
        return ()
    note, columns = "Nodes are parts, named by what they write; columns are layers.", ["circuit_edge", "circuit_score"]
    position = heading = None
    if circuit.positions:
        note = (
            "Nodes are parts at positions: rows are layers, columns positions. Thin dashed lines are attention, from the "
            "keys and values of a position to what a head writes at another."
        )
        columns = ["edge_at_position", "score_at_position"]
        position, heading = "circuit_position", "circuit_heading"
    drawn = views.graph(
        source="circuit_source",
        target="circuit_target",
        weight="circuit_score",
        position=position,
        heading=heading,
        title=title,
        note=note,
    )
    return drawn, views.table(columns=columns, title="Edges of the circuit")


def _columns(circuit: Circuit, listed: Sequence[Edge], headings: Sequence[str]) -> xr.Dataset:
    """The positions with what is written above them, and the edges without the arrows of attention."""
    names = np.array(circuit.positions, dtype=object)
    above = np.array(list(headings) or list(names), dtype=object)
    scores = np.array([circuit.scores[_place(circuit, edge)] for edge in listed], dtype=float)
    found = xr.Dataset(
        {
            "circuit_position": ("column", names),
            "circuit_heading": ("column", above),
            "edge_at_position": ("listed", np.array(list(map(str, listed)), dtype=object)),
            "score_at_position": ("listed", scores),
        }
    )
    found["edge_at_position"].attrs["long_name"] = "edge"
    found["score_at_position"].attrs["long_name"] = "score"
    return found


def _place(circuit: Circuit, edge: Edge) -> tuple[int, ...]:
    place = circuit.graph.number(edge.everywhere)
    return (*place, position_number(edge, circuit.positions)) if circuit.positions else place


def _arrows(circuit: Circuit, edge: Edge) -> list[Arrow]:
    place = _place(circuit, edge)
    at, score = "" if edge.position is None else f"@{edge.position}", float(circuit.scores[place])
    if at and edge.target.kind in KEYS:
        return [(f"{edge.source}{at}", f"{edge.target}{at}", score, str(edge))]
    used = np.asarray(circuit.edges[:, :, place[2]].any(axis=1), dtype=bool) if at else circuit.sources
    fed = np.flatnonzero(circuit.graph.feeds[place[1]]).tolist()
    rows = [row for row in fed if used[row]] or fed[:1]
    names = [str(circuit.graph.sources[row]) for row in rows] or [str(edge.target)]
    return [(f"{edge.source}{at}", f"{name}{at}", score, str(edge)) for name in names]


def attention_arrows(circuit: Circuit, targets: Iterable[str]) -> list[Arrow]:
    """Where attention carries what keys and values read at a position: to what the circuit uses of their heads, later.

    Args:
        circuit: with positions.
        targets: the nodes that edges lead to, as `k[7].head[0]@s1`.
    """
    graph, found = circuit.graph, []
    written = np.asarray(circuit.edges.any(axis=1), dtype=bool)  # [source, position]
    for name in sorted(targets):
        node = Site.parse(name)
        if node.kind not in KEYS:
            continue
        here = circuit.positions.index(str(node.position))
        # Labels stand in the order of the prompts; tokens without a name may be anywhere.
        first = 0 if circuit.positions[here] == ELSEWHERE else here
        for row in np.flatnonzero(graph.feeds[graph.target_number[node.at(None)]]).tolist():
            later = [circuit.positions[first + place] for place in np.flatnonzero(written[row, first:]).tolist()]
            found += [(name, f"{graph.sources[row]}@{position}", np.nan, ATTENTION) for position in later]
    return found
