"""What do sets of edges do to the metric? Effects of edges alone and together, and random sets to compare with.

An effect is the change of the metric, mean over prompts, when the edges of a set carry something else. A control set
has as many edges of the same kinds (from a head to a query, say) as the set that it stands beside; where edges are changed
at positions, of the same kinds at the same positions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core.edge import ARROW, Bools, Edge, EdgeGraph, as_source, as_target, position_of
from cutaway.core.errors import ParameterError, SiteError
from cutaway.core.result import Check
from cutaway.core.site import Site, Span
from cutaway.core.task import EncodedTask
from cutaway.methods.control import compared, sets_like
from cutaway.models.edge_positions import Positions, named, token_by_token
from cutaway.models.edges import EdgeRuns

Floats = NDArray[np.float64]
AT_ONCE = 64


def effects(
    engine: EdgeRuns,
    sets: Bools,
    metric: Callable[[Tensor], Tensor],
    what: str = "sets of edges",
    positions: Positions | None = None,
) -> Floats:
    """The change of the metric with each set of edges changed [set, prompt].

    Args:
        engine: on the prompts.
        sets: changed edges [set, source, target]; with positions [set, source, target, label].
        metric: of logits at the last token.
        what: what progress is reported as.
        positions: labels of the prompts' tokens, where edges are changed at some of them.
    """
    nothing = np.zeros((1, *sets.shape[1:]), dtype=bool)
    found = engine.scores(np.concatenate([nothing, sets]), metric, what=what, positions=positions).cpu().numpy()
    return np.asarray(found[1:] - found[0])


def effects_alone(
    engine: EdgeRuns, edges: Sequence[Edge], metric: Callable[[Tensor], Tensor], positions: Positions | None = None
) -> Floats:
    """The change of the metric with each edge changed alone [edge, prompt]."""
    what = "edges one by one"
    if positions is None:
        return effects(engine, singles(engine.graph, edges), metric, what)
    found = []
    for start in range(0, len(edges), AT_ONCE):  # a set with positions is as large as one for each of them
        sets = np.stack([engine.graph.mask([edge], positions.names) for edge in edges[start : start + AT_ONCE]])
        found.append(effects(engine, sets, metric, what, positions))
    return np.concatenate(found)


def singles(graph: EdgeGraph, edges: Sequence[Edge]) -> Bools:
    """Each edge as a set of its own [edge, source, target]."""
    found = np.zeros((len(edges), *graph.shape), dtype=bool)
    for place, edge in enumerate(edges):
        found[(place, *graph.number(edge))] = True
    return found


def random_sets(graph: EdgeGraph, edges: Sequence[Edge], count: int, seed: int) -> list[list[Edge]]:
    """Random sets with as many edges of each kind (kinds of source and target) as a set has."""
    kinds = {(edge.source.kind, edge.target.kind) for edge in edges}
    sources, targets = (
        np.array([site.kind for site in sites], dtype=object) for sites in (graph.sources, graph.targets)
    )
    pool = np.zeros(graph.shape, dtype=bool)
    for source, target in kinds:
        pool |= np.outer(sources == source, targets == target)
    return sets_like(edges, graph.edges(pool), count, seed, sort=lambda edge: (edge.source.kind, edge.target.kind))


def random_sets_at(graph: EdgeGraph, edges: Sequence[Edge], count: int, seed: int) -> list[list[Edge]]:
    """Random sets with as many edges of each kind (kinds of source and target) at each position as a set has."""
    random = np.random.default_rng(seed)
    sorts: dict[tuple[str, str, int | str | None], list[tuple[int, int]]] = {}
    for edge in edges:
        sort = (edge.source.kind, edge.target.kind, edge.position)
        sorts.setdefault(sort, []).append(graph.number(edge.everywhere))
    found: list[list[Edge]] = [[] for _ in range(count)]
    for (source, target, position), mine in sorts.items():
        pool = graph.exists & np.outer(
            [site.kind == source for site in graph.sources], [site.kind == target for site in graph.targets]
        )
        others = pool.copy()
        others[tuple(np.array(mine).T)] = False
        places = np.argwhere(others if int(others.sum()) >= len(mine) else pool)
        for some in found:
            drawn = places[random.choice(len(places), len(mine), replace=False)].tolist()
            some += [replace(graph.edge(*place), position=position) for place in drawn]
    return found


def together_check(
    engine: EdgeRuns,
    edges: Sequence[Edge],
    metric: Callable[[Tensor], Tensor],
    *,
    controls: int,
    seed: int,
    claim: str,
    unit: str,
    positions: Positions | None = None,
) -> Check:
    """Do these edges, changed together, move the metric more than random edges of the same kinds (at the same positions)?"""
    graph = engine.graph
    drawn = (random_sets if positions is None else random_sets_at)(graph, edges, controls, seed)
    names = () if positions is None else positions.names
    sets = np.stack([graph.mask(some, names) for some in (edges, *drawn)])
    sizes = np.abs(effects(engine, sets, metric, "random sets of edges", positions).mean(axis=1))
    how = (
        f"Let all {len(edges)} carry {engine.other.name} at once and measure how far the metric moves; the control takes "
        f"as many random edges of the same kinds{' at the same positions' if positions is not None else ''}."
    )
    return compared(float(sizes[0]), sizes[1:].tolist(), claim=claim, how=how, unit=unit)


def layer_map(graph: EdgeGraph, scores: Floats) -> xr.Dataset:
    """The sum of the sizes of all edges' scores from each layer to each other one [from_layer, to_layer]."""
    labels = ["embed", *map(str, range(graph.n_layers)), "logits"]
    sums = np.zeros((len(labels), len(labels)))
    rows, columns = np.nonzero(graph.exists)
    np.add.at(sums, (graph.source_layer[rows] + 1, graph.target_layer[columns] + 1), np.abs(scores[rows, columns]))
    return xr.Dataset(
        {"score_between_layers": (("from_layer", "to_layer"), sums[:-1, 1:])},
        coords={"from_layer": labels[:-1], "to_layer": labels[1:]},
    )


def edges_named(graph: EdgeGraph, text: str) -> list[Edge]:
    """The edges that a text names: `SOURCE -> TARGET` with commas between, where layers and heads may be `*` or slices.

    An edge at a position keeps it, as `SOURCE -> TARGET@POSITION` says it.

    Raises:
        SiteError: what is no edge, or names none of this network.
    """
    found: dict[Edge, None] = {}
    for part in re.split(r",(?![^\[]*\])", text):
        if not part.strip():
            continue
        source, arrow, target = part.partition(ARROW)
        if not arrow:
            Edge.parse(part)  # says what an edge looks like
        ends = Site.parse(source.strip()), Site.parse(target.strip())
        position = position_of(*ends)
        if isinstance(position, Span):
            raise SiteError(
                f"{part.strip()!r} names several positions:",
                "an edge has one, or none for all.",
                "Name each on its own.",
            )
        rows = _matching(graph.sources, as_source(ends[0]))
        columns = _matching(graph.targets, as_target(ends[1]))
        mine = [replace(graph.edge(s, t), position=position) for t in columns for s in rows if graph.exists[s, t]]
        if not mine:
            raise SiteError(
                f"{part.strip()!r} names no edge of this network.",
                f"It has {len(graph.sources)} sources, such as '{graph.sources[1]}', and {len(graph.targets)} targets, such "
                f"as '{graph.targets[0]}'; an edge goes from an earlier part to a later one.",
                "Write for example 'z[0].head[*] -> logits'.",
            )
        found.update(dict.fromkeys(mine))
    return list(found)


def labels_for(encoded: EncodedTask, edges: Sequence[Edge]) -> tuple[list[Edge], Positions | None]:
    """The labels of the tokens at which edges are, and the edges at them; None where all are at all positions.

    Raises:
        ParameterError: some edges are at names and others at numbers.
        TaskError: edges are at numbers, and the prompts are not equally long.
    """
    places = {edge.position for edge in edges} - {None}
    if not places:
        return list(edges), None
    names = sorted(str(place) for place in places if isinstance(place, str))
    numbers = sorted(place for place in places if isinstance(place, int))
    if names and numbers:
        raise ParameterError(
            f"edges are at the named position '{names[0]}' and at token {numbers[0]};",
            "positions are all names of the task, or all numbers of tokens.",
            "Write all of them in one way.",
        )
    if names:
        return list(edges), named(encoded)
    labels = token_by_token(encoded)
    length = len(labels.names)
    beyond = [number for number in numbers if not -length <= number < length]
    if beyond:
        raise ParameterError(
            f"an edge is at token {beyond[0]};", f"the prompts have {length}, 0 to {length - 1} (or -{length} to -1)."
        )
    at = [edge if edge.position is None else replace(edge, position=int(edge.position) % length) for edge in edges]
    return list(dict.fromkeys(at)), labels


def _matching(sites: Sequence[Site], pattern: Site) -> list[int]:
    def fits(value: object, wanted: object, size: int) -> bool:
        return value in wanted.indices(size) if isinstance(wanted, Span) else value == wanted

    layers = 1 + max((site.layer for site in sites if isinstance(site.layer, int)), default=0)
    heads = 1 + max((site.head for site in sites if isinstance(site.head, int)), default=0)
    return [
        number
        for number, site in enumerate(sites)
        if site.kind == pattern.kind
        and fits(site.layer, pattern.layer, layers)
        and fits(site.head, pattern.head, heads)
    ]
