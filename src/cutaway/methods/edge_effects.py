"""What do sets of edges do to the metric? Effects of edges alone and together, and random sets to compare with.

An effect is the change of the metric, mean over prompts, when the edges of a set carry something else. A control set
has as many edges of the same kinds (from a head to a query, say) as the set that it stands beside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core.edge import ARROW, Bools, Edge, EdgeGraph, as_source, as_target
from cutaway.core.errors import SiteError
from cutaway.core.result import Check
from cutaway.core.site import Site, Span
from cutaway.methods.control import compared, sets_like
from cutaway.models.edges import EdgeRuns

Floats = NDArray[np.float64]


def effects(engine: EdgeRuns, sets: Bools, metric: Callable[[Tensor], Tensor], what: str = "sets of edges") -> Floats:
    """The change of the metric with each set of edges changed [set, prompt].

    Args:
        engine: on the prompts.
        sets: changed edges [set, source, target].
        metric: of logits at the last token.
        what: what progress is reported as.
    """
    nothing = np.zeros((1, *engine.graph.shape), dtype=bool)
    found = engine.scores(np.concatenate([nothing, sets]), metric, what=what).cpu().numpy()
    return np.asarray(found[1:] - found[0])


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


def together_check(
    engine: EdgeRuns,
    edges: Sequence[Edge],
    metric: Callable[[Tensor], Tensor],
    *,
    controls: int,
    seed: int,
    claim: str,
    unit: str,
) -> Check:
    """Do these edges, changed together, move the metric more than random edges of the same kinds?"""
    graph = engine.graph
    drawn = random_sets(graph, edges, controls, seed)
    sets = np.stack([graph.mask(some) for some in (edges, *drawn)])
    sizes = np.abs(effects(engine, sets, metric, "random sets of edges").mean(axis=1))
    how = (
        f"Let all {len(edges)} carry {engine.other.name} at once and measure how far the metric moves; the control takes "
        "as many random edges of the same kinds."
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
        rows = _matching(graph.sources, as_source(Site.parse(source.strip())))
        columns = _matching(graph.targets, as_target(Site.parse(target.strip())))
        mine = [graph.edge(s, t) for t in columns for s in rows if graph.exists[s, t]]
        if not mine:
            raise SiteError(
                f"{part.strip()!r} names no edge of this network.",
                f"It has {len(graph.sources)} sources, such as '{graph.sources[1]}', and {len(graph.targets)} targets, such "
                f"as '{graph.targets[0]}'; an edge goes from an earlier part to a later one.",
                "Write for example 'z[0].head[*] -> logits'.",
            )
        found.update(dict.fromkeys(mine))
    return list(found)


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
