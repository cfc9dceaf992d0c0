"""Which edges carry a behaviour? A `Circuit`: a set of edges of one network, their scores, and what they were found for.

    circuit = Circuit.of_edges(graph, ["embed -> q[1].head[0]", ...], found={"model": ..., "task": ...})
    circuit.n_edges, circuit.parts, circuit.connected()
    circuit.artifact().save("ioi.safetensors");  Circuit.from_artifact(graph, Artifact.load("ioi.safetensors"))
    circuit.diff(other)
    Circuit.of_edges(graph, ["embed -> q[1].head[0]@end", ...], positions=("s1", "end", "elsewhere"))

A circuit belongs to the graph of its network (`cutaway.models.edges.graph_of(model)`): an artifact names its edges as
text, and is refused by a network that does not have them. A circuit of nodes is the one of all edges between them.
A circuit can also hold edges at positions [@haklay2025]: named ones of a task, or token numbers; its arrays then have a third
dimension.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cutaway.core import view as views
from cutaway.core.artifact import Artifact
from cutaway.core.circuit_picture import dataset, to_views
from cutaway.core.edge import Bools, Edge, EdgeGraph
from cutaway.core.errors import MethodError, SiteError
from cutaway.core.site import Site

Floats = NDArray[np.float64]
KIND = "circuit"


@dataclass(frozen=True)
class Difference:
    """What two circuits share, and what only one of them has."""

    both: tuple[Edge, ...]
    only_first: tuple[Edge, ...]
    only_second: tuple[Edge, ...]

    @property
    def overlap(self) -> float:
        """Edges that both have, as a share of those that either has; 1 for two empty circuits."""
        all_edges = len(self.both) + len(self.only_first) + len(self.only_second)
        return len(self.both) / all_edges if all_edges else 1.0


@dataclass(frozen=True, eq=False)
class Circuit:
    """A set of edges.

    Attributes:
        graph: the network's edges.
        edges: which of them are in the circuit [source, target]; with positions [source, target, position].
        scores: how much each edge of the network matters, of the same shape; NaN where that is not known.
        found: what for and how: model, task, method, parameters; JSON values.
        positions: names of positions, in the order in which they stand in the prompts; empty: edges are at all of them.

    Raises:
        MethodError: arrays of another shape than the graph, or edges that the network does not have.
    """

    graph: EdgeGraph
    edges: Bools
    scores: Floats
    found: Mapping[str, Any] = field(default_factory=dict)
    positions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wanted = (*self.graph.shape, len(self.positions)) if self.positions else self.graph.shape
        for name in ("edges", "scores"):
            if getattr(self, name).shape != wanted:
                labels = f", and the circuit {len(self.positions)} positions" if self.positions else ""
                raise MethodError(
                    f"the {name} of a circuit have the shape {getattr(self, name).shape};",
                    f"this network has {self.graph.shape[0]} sources and {self.graph.shape[1]} targets{labels}.",
                )
        if bool((self.anywhere & ~self.graph.exists).any()):
            source, target = np.argwhere(self.anywhere & ~self.graph.exists)[0]
            raise MethodError(
                f"the circuit holds '{self.graph.sources[source]} -> {self.graph.targets[target]}',",
                "which this network does not have.",
            )

    def __repr__(self) -> str:
        places = f" at {len(self.positions)} positions" if self.positions else ""
        return f"Circuit({self.n_edges} of {self.most_edges} edges{places}, {len(self.parts)} parts)"

    # --- making one ----------------------------------------------------------------------------------------------

    @staticmethod
    def of_edges(
        graph: EdgeGraph,
        edges: Iterable[Edge | str] | Bools,
        scores: Floats | None = None,
        found: Mapping[str, Any] | None = None,
        positions: Sequence[str] = (),
    ) -> Circuit:
        """A circuit of named edges, or of a boolean matrix [source, target]; with positions [source, target, position]."""
        mask = edges.astype(bool) if isinstance(edges, np.ndarray) else graph.mask(edges, positions)
        exists = graph.exists[:, :, None] if positions else graph.exists
        known = np.full(mask.shape, np.nan) if scores is None else np.where(exists, scores, np.nan)
        return Circuit(graph, mask, known.astype(float), dict(found or {}), tuple(positions))

    @staticmethod
    def of_nodes(graph: EdgeGraph, nodes: Iterable[Site | str], found: Mapping[str, Any] | None = None) -> Circuit:
        """The circuit of all edges between some nodes.

        Args:
            graph: the network's edges.
            nodes: sources: `embed`, `z[l].head[h]`, `mlp_contrib[l]`; `embed` and `logits` are always among them.
            found: what for and how.
        """
        kept = np.array([source.kind == "embed" for source in graph.sources])
        for node in nodes:
            kept[source_row(graph, node)] = True
        return Circuit.of_edges(graph, between(graph, kept), found=found)

    # --- what it is ----------------------------------------------------------------------------------------------

    @property
    def n_edges(self) -> int:
        """Number of edges; one at two positions counts twice."""
        return int(self.edges.sum())

    @property
    def most_edges(self) -> int:
        """How many edges there are to choose from: those of the network, at each position."""
        return self.graph.n_edges * max(1, len(self.positions))

    @property
    def share(self) -> float:
        """The edges of the circuit as a share of all edges."""
        return self.n_edges / self.most_edges

    @cached_property
    def anywhere(self) -> Bools:
        """The edges that the circuit has at any position [source, target]."""
        return np.asarray(self.edges.any(axis=2), dtype=bool) if self.positions else self.edges

    @cached_property
    def sources(self) -> Bools:
        """Which sources the circuit uses [source]: those with an edge out of them."""
        return np.asarray(self.anywhere.any(axis=1), dtype=bool)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts (heads, MLPs, `embed`) with an edge out of them, as sites."""
        return tuple(str(site) for site, used in zip(self.graph.sources, self.sources, strict=True) if used)

    def edge_list(self) -> list[Edge]:
        """The edges, those with the largest scores first."""
        rows = np.argwhere(self.edges)
        size = -np.abs(np.nan_to_num(self.scores[tuple(rows.T)]))
        return [self._edge(*map(int, place)) for place in rows[np.argsort(size, kind="stable")]]

    def everywhere(self) -> Circuit:
        """The circuit of the same edges at all positions; the score of each is the sum over its positions."""
        if not self.positions:
            return self
        known = np.where(np.isnan(self.scores).all(axis=2), np.nan, np.nansum(self.scores, axis=2))
        return Circuit(self.graph, self.anywhere, known, self.found)

    def require_all_positions(self, what: str) -> None:
        """Refuse a circuit whose edges are at positions, where `what` takes edges at all of them."""
        if self.positions:
            raise MethodError(
                f"the circuit has edges at {len(self.positions)} positions ({', '.join(self.positions[:6])}"
                f"{', …' if len(self.positions) > 6 else ''});",
                f"{what} takes edges at all positions.",
                "Take circuit.everywhere(), the same edges at all of them.",
            )

    def connected(self) -> tuple[Circuit, int]:
        """The circuit without edges that lie on no way from `embed` to `logits`, and how many these were."""
        self.require_all_positions("cutting a circuit to what is connected")
        kept = self.graph.connected(self.edges, from_embed=True)
        return replace(self, edges=kept), self.n_edges - int(kept.sum())

    def diff(self, other: Circuit) -> Difference:
        """What this circuit and another one of the same network share, and what only one of them has."""
        if self.graph.sources != other.graph.sources or self.graph.targets != other.graph.targets:
            raise MethodError("the circuits belong to different networks;", "circuits of one network are compared.")
        if self.positions != other.positions:
            said = [", ".join(one.positions) or "all positions" for one in (self, other)]
            raise MethodError(
                f"one circuit is at {said[0]}, the other at {said[1]};",
                "circuits at the same positions are compared.",
                "Compare circuit.everywhere() of both.",
            )
        masks = (self.edges & other.edges, self.edges & ~other.edges, other.edges & ~self.edges)
        return Difference(*(tuple(self._edges(mask)) for mask in masks))

    def _edges(self, mask: Bools) -> list[Edge]:
        """The edges of an array of the circuit's shape, target by target."""
        order = np.argwhere(np.swapaxes(mask, 0, 1))
        return [self._edge(int(source), int(target), *map(int, place)) for target, source, *place in order]

    def _edge(self, source: int, target: int, position: int | None = None) -> Edge:
        edge = self.graph.edge(source, target)
        if position is None:
            return edge
        name = self.positions[position]
        return replace(edge, position=int(name) if name.lstrip("-").isdigit() else name)

    # --- keeping -------------------------------------------------------------------------------------------------

    def artifact(self) -> Artifact:
        """The circuit as something to keep: edges, scores, and the names of sources and targets."""
        import torch

        about = {
            "sources": [str(site) for site in self.graph.sources],
            "targets": [str(site) for site in self.graph.targets],
            "n_edges": self.n_edges,
            "found": dict(self.found),
        } | ({"positions": list(self.positions)} if self.positions else {})
        tensors = {"edges": torch.from_numpy(self.edges.copy()), "scores": torch.from_numpy(self.scores.copy())}
        return Artifact(KIND, tensors, about)

    @staticmethod
    def from_artifact(graph: EdgeGraph, artifact: Artifact) -> Circuit:
        """The circuit in an artifact, on the network with this graph.

        Raises:
            MethodError: it is another kind of artifact, or belongs to a network with other parts.
        """
        if artifact.kind != KIND:
            raise MethodError(f"the artifact is a {artifact.kind};", "a circuit is wanted.")
        names = [[str(site) for site in ends] for ends in (graph.sources, graph.targets)]
        kept = [list(artifact.about["sources"]), list(artifact.about["targets"])]
        if names != kept:
            raise MethodError(
                f"the circuit was found in a network of {len(kept[0])} sources and {len(kept[1])} targets;",
                f"this one has {len(names[0])} and {len(names[1])}, or others.",
                "Open the model that it was found in.",
            )
        edges, scores = (artifact.tensors[name].numpy() for name in ("edges", "scores"))
        positions = tuple(artifact.about.get("positions", ()))
        return Circuit(graph, edges.astype(bool), scores.astype(float), dict(artifact.about["found"]), positions)

    # --- pictures ------------------------------------------------------------------------------------------------

    def dataset(self, most: int = 400, headings: Sequence[str] = ()) -> xr.Dataset:
        """Arrows for a graph: `circuit_source`, `circuit_target`, `circuit_score` and `circuit_edge` along `arrow`.

        Nodes are parts, named by what they write. An edge into keys that several heads share is an arrow to each of
        those heads that the circuit uses. The `most` edges with the largest scores are taken.

        Where the circuit has positions, nodes are parts at positions, and keys and values are nodes of their own: an arrow
        without a score leads from them to what attention writes at another position. `circuit_position` and
        `circuit_heading` are the columns: the names of the positions, and what is written above them.

        Args:
            most: how many edges.
            headings: words for the positions, such as their tokens; by default their names.
        """
        return dataset(self, most, headings)

    def to_views(self, title: str = "The circuit") -> tuple[views.View, ...]:
        """The graph and the table of the arrows in `dataset()`."""
        return to_views(self, title)


def source_row(graph: EdgeGraph, node: Site | str) -> int:
    """The row of a node; `SiteError` where the network has no such node."""
    from cutaway.core.edge import as_source

    site = as_source(Site.parse(node) if isinstance(node, str) else node)
    if site not in graph.source_number:
        raise SiteError(f"'{node}' is no node of this network's graph:", "nodes are embed, heads (z) and MLPs.")
    return graph.source_number[site]


def between(graph: EdgeGraph, nodes: Bools) -> Bools:
    """All edges between some nodes and into `logits` [source, target].

    Args:
        graph: the network's edges.
        nodes: which sources are kept [source].
    """
    fed = np.asarray((graph.feeds & nodes[None, :]).any(axis=1), dtype=bool)
    ends = np.array([target.kind == "logits" for target in graph.targets])
    kept: Bools = graph.exists & nodes[:, None] & (fed | ends)[None, :]
    return kept


def largest(graph: EdgeGraph, scores: Floats, count: int) -> Bools:
    """The `count` edges (at positions) with the largest scores, in their shape; equal scores go by their order."""
    exists = graph.exists if scores.ndim == 2 else np.repeat(graph.exists[:, :, None], scores.shape[2], axis=2)
    flat = np.nan_to_num(scores, nan=-np.inf).reshape(-1)
    order = np.lexsort((np.arange(flat.size), -flat, ~exists.reshape(-1)))  # edges that exist first
    chosen = order[: min(count, int(exists.sum()))]
    mask = np.zeros(flat.shape, dtype=bool)
    mask[chosen] = True
    kept: Bools = mask.reshape(scores.shape) & exists
    return kept


def sizes_of(graph: EdgeGraph, shares: Sequence[float]) -> list[int]:
    """Shares of all edges as numbers of edges, at least one each."""
    return [max(1, round(share * graph.n_edges)) for share in shares]
