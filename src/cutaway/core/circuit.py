"""Which edges carry a behaviour? A `Circuit`: a set of edges of one network, their scores, and what they were found for.

    circuit = Circuit.of_edges(graph, ["embed -> q[1].head[0]", ...], found={"model": ..., "task": ...})
    circuit.n_edges, circuit.parts, circuit.connected()
    circuit.artifact().save("ioi.safetensors");  Circuit.from_artifact(graph, Artifact.load("ioi.safetensors"))
    circuit.diff(other)

A circuit belongs to the graph of its network (`cutaway.models.edges.graph_of(model)`): an artifact names its edges as
text, and is refused by a network that does not have them. A circuit of nodes is the one of all edges between them.
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
        edges: which of them are in the circuit [source, target].
        scores: how much each edge of the network matters [source, target]; NaN where that is not known.
        found: what for and how: model, task, method, parameters; JSON values.

    Raises:
        MethodError: arrays of another shape than the graph, or edges that the network does not have.
    """

    graph: EdgeGraph
    edges: Bools
    scores: Floats
    found: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("edges", "scores"):
            if getattr(self, name).shape != self.graph.shape:
                raise MethodError(
                    f"the {name} of a circuit have the shape {getattr(self, name).shape};",
                    f"this network has {self.graph.shape[0]} sources and {self.graph.shape[1]} targets.",
                )
        if bool((self.edges & ~self.graph.exists).any()):
            source, target = np.argwhere(self.edges & ~self.graph.exists)[0]
            raise MethodError(
                f"the circuit holds '{self.graph.sources[source]} -> {self.graph.targets[target]}',",
                "which this network does not have.",
            )

    def __repr__(self) -> str:
        return f"Circuit({self.n_edges} of {self.graph.n_edges} edges, {len(self.parts)} parts)"

    # --- making one ----------------------------------------------------------------------------------------------

    @staticmethod
    def of_edges(
        graph: EdgeGraph,
        edges: Iterable[Edge | str] | Bools,
        scores: Floats | None = None,
        found: Mapping[str, Any] | None = None,
    ) -> Circuit:
        """A circuit of named edges, or of a boolean matrix [source, target]."""
        mask = edges.astype(bool) if isinstance(edges, np.ndarray) else graph.mask(edges)
        known = np.full(graph.shape, np.nan) if scores is None else np.where(graph.exists, scores, np.nan)
        return Circuit(graph, mask, known.astype(float), dict(found or {}))

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
        """Number of edges."""
        return int(self.edges.sum())

    @property
    def share(self) -> float:
        """The edges of the circuit as a share of all edges."""
        return self.n_edges / self.graph.n_edges

    @cached_property
    def sources(self) -> Bools:
        """Which sources the circuit uses [source]: those with an edge out of them."""
        return np.asarray(self.edges.any(axis=1), dtype=bool)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts (heads, MLPs, `embed`) with an edge out of them, as sites."""
        return tuple(str(site) for site, used in zip(self.graph.sources, self.sources, strict=True) if used)

    def edge_list(self) -> list[Edge]:
        """The edges, those with the largest scores first."""
        rows = np.argwhere(self.edges)
        size = -np.abs(np.nan_to_num(self.scores[tuple(rows.T)]))
        return [self.graph.edge(int(s), int(t)) for s, t in rows[np.argsort(size, kind="stable")]]

    def connected(self) -> tuple[Circuit, int]:
        """The circuit without edges that lie on no way from `embed` to `logits`, and how many these were."""
        kept = self.graph.connected(self.edges, from_embed=True)
        return replace(self, edges=kept), self.n_edges - int(kept.sum())

    def diff(self, other: Circuit) -> Difference:
        """What this circuit and another one of the same network share, and what only one of them has."""
        if self.graph.sources != other.graph.sources or self.graph.targets != other.graph.targets:
            raise MethodError("the circuits belong to different networks;", "circuits of one network are compared.")
        masks = (self.edges & other.edges, self.edges & ~other.edges, other.edges & ~self.edges)
        return Difference(*(tuple(self.graph.edges(mask)) if mask.any() else () for mask in masks))

    # --- keeping -------------------------------------------------------------------------------------------------

    def artifact(self) -> Artifact:
        """The circuit as something to keep: edges, scores, and the names of sources and targets."""
        import torch

        about = {
            "sources": [str(site) for site in self.graph.sources],
            "targets": [str(site) for site in self.graph.targets],
            "n_edges": self.n_edges,
            "found": dict(self.found),
        }
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
        return Circuit(graph, edges.astype(bool), scores.astype(float), dict(artifact.about["found"]))

    # --- pictures ------------------------------------------------------------------------------------------------

    def dataset(self, most: int = 400) -> xr.Dataset:
        """Arrows for a graph: `circuit_source`, `circuit_target`, `circuit_score` and `circuit_edge` along `arrow`.

        Nodes are parts, named by what they write. An edge into keys that several heads share is an arrow to each of
        those heads that the circuit uses. The `most` edges with the largest scores are taken.
        """
        arrows = [arrow for edge in self.edge_list()[:most] for arrow in self._arrows(edge)]
        known = np.array([score for _, _, score, _ in arrows], dtype=float)
        columns = {
            "circuit_source": [source for source, _, _, _ in arrows],
            "circuit_target": [target for _, target, _, _ in arrows],
            "circuit_edge": [edge for _, _, _, edge in arrows],
        }
        found = xr.Dataset({name: ("arrow", np.array(column, dtype=object)) for name, column in columns.items()})
        found["circuit_score"] = ("arrow", np.where(np.isnan(known), 1.0, known))
        found["circuit_score"].attrs["long_name"] = "score" if np.isfinite(known).any() else "the circuit"
        found["circuit_edge"].attrs["long_name"] = "edge"
        return found

    def to_views(self, title: str = "The circuit") -> tuple[views.View, ...]:
        """The graph and the table of the arrows in `dataset()`."""
        if not self.n_edges:
            return ()
        note = "Nodes are parts, named by what they write; columns are layers."
        return (
            views.graph(
                source="circuit_source", target="circuit_target", weight="circuit_score", title=title, note=note
            ),
            views.table(columns=["circuit_edge", "circuit_score"], title="Edges of the circuit"),
        )

    def _arrows(self, edge: Edge) -> list[tuple[str, str, float, str]]:
        source, target = self.graph.number(edge)
        score = float(self.scores[source, target])
        fed = [str(site) for site, does in zip(self.graph.sources, self.graph.feeds[target], strict=True) if does]
        used = [name for name in fed if name in set(self.parts)] or fed[:1] or [str(edge.target)]
        return [(str(edge.source), name, score, str(edge)) for name in used]


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
    """The `count` edges with the largest scores [source, target]; equal scores go by their order in the graph."""
    flat = np.nan_to_num(scores, nan=-np.inf).reshape(-1)
    order = np.lexsort((np.arange(flat.size), -flat, ~graph.exists.reshape(-1)))  # edges that exist first
    chosen = order[: min(count, graph.n_edges)]
    mask = np.zeros(flat.shape, dtype=bool)
    mask[chosen] = True
    kept: Bools = mask.reshape(graph.shape) & graph.exists
    return kept


def sizes_of(graph: EdgeGraph, shares: Sequence[float]) -> list[int]:
    """Shares of all edges as numbers of edges, at least one each."""
    return [max(1, round(share * graph.n_edges)) for share in shares]
