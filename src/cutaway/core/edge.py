"""Through which path? An `Edge` carries what one part writes into the stream to what another part reads from it.

    z[3].head[2] -> q[7].head[1]     what head 2 of layer 3 writes, as the queries of head 1 of layer 7 see it
    embed -> mlp_in[0]               the embeddings, as the MLP of layer 0 sees them
    mlp_contrib[4] -> logits         what the MLP of layer 4 writes, as the logits see it
    z[3].head[2] -> k[7].head[0]@s1  the same at one position: what is written and read at the token `s1` [@haklay2025]

Sources are `embed` (the stream that enters layer 0: token and position embeddings), `z[l].head[h]` (a head),
`attn_contrib[l]` (a whole attention branch, where its heads do not add up to it) and `mlp_contrib[l]`. Targets are
`q[l].head[h]`, `k[l].head[g]`, `v[l].head[g]` (g counts key/value heads: heads that share keys share that target),
`attn_in[l]` (a whole branch, where its heads cannot be told apart), `mlp_in[l]` and `logits`. `mlp_out[l]` and
`attn_out[l]` are read as the contributions, `final` as `logits`.

The *residual view* [@elhage2021]: what a part reads is the sum of what all earlier parts wrote, so a network is a
graph with an edge from every source to every later target, and an edge can be changed alone. A set of edges is a
boolean matrix [source, target]: `EdgeGraph` numbers both; a set of edges at positions is one [source, target, position].
An edge stays at its position: what moves between positions does so inside a head, from its key and value to its query.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cutaway.core.errors import SiteError, nearest
from cutaway.core.site import Site, Span

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

SOURCES = ("embed", "z", "attn_contrib", "mlp_contrib")
TARGETS = ("q", "k", "v", "attn_in", "mlp_in", "logits")
ARROW = "->"
ELSEWHERE = "elsewhere"  # the position of all tokens that have no other
_AS_SOURCE = {"mlp_out": "mlp_contrib", "attn_out": "attn_contrib", "resid_pre": "embed"}
_AS_TARGET = {"final": "logits"}


@dataclass(frozen=True)
class Edge:
    """From what a part writes to what a later part reads; see the module's examples.

    Attributes:
        source: `embed`, `z[l].head[h]`, `attn_contrib[l]` or `mlp_contrib[l]`.
        target: `q[l].head[h]`, `k[l].head[g]`, `v[l].head[g]`, `attn_in[l]`, `mlp_in[l]` or `logits`.
        position: the one token at which it is written and read: a number, or a task's named position; None for all.

    Raises:
        SiteError: a site that is no source, or no target.
    """

    source: Site
    target: Site
    position: int | str | None = None

    def __post_init__(self) -> None:
        _refuse(self.source, SOURCES, "z", "source")
        _refuse(self.target, TARGETS, "qkv", "target")

    @staticmethod
    def parse(text: str | Edge) -> Edge:
        """Read an edge from text, as `str(edge)` writes it."""
        if isinstance(text, Edge):
            return text
        source, arrow, target = text.partition(ARROW)
        if not arrow or not source.strip() or not target.strip():
            raise SiteError(
                f"{text!r} is not an edge.",
                f"An edge is SOURCE {ARROW} TARGET,",
                "for example 'z[3].head[2] -> q[7].head[1]' or 'embed -> mlp_in[0]@end'.",
            )
        ends = Site.parse(source.strip()), Site.parse(target.strip())
        position = position_of(*ends)
        if isinstance(position, Span):
            raise SiteError(f"{text!r} names several positions:", "an edge has one.", f"Write '{ends[1].at(3)}'.")
        return Edge(as_source(ends[0].at(None)), as_target(ends[1].at(None)), position)

    @property
    def everywhere(self) -> Edge:
        """The same edge at all positions."""
        return self if self.position is None else replace(self, position=None)

    def __str__(self) -> str:
        return f"{self.source} {ARROW} {self.target}" + ("" if self.position is None else f"@{self.position}")

    def __repr__(self) -> str:
        return f"Edge({str(self)!r})"


def position_of(source: Site, target: Site) -> int | Span | str | None:
    """The position that the ends of an edge name: that of the target, or of the source; `SiteError` where they differ."""
    if source.position is not None and target.position is not None and source.position != target.position:
        raise SiteError(
            f"An edge would go from '{source}' to '{target}', another position:",
            "a part reads at its own position what is written there; attention moves values between positions, within a head.",
            f"Write '{source.at(None)} {ARROW} {target}'.",
        )
    return source.position if target.position is None else target.position


def as_source(site: Site) -> Site:
    """The source that a site names: what a part really adds to the stream."""
    if site.kind == "resid_pre":
        return Site("embed") if site == Site("resid_pre", 0) else site
    return replace(site, kind=_AS_SOURCE.get(site.kind, site.kind))


def as_target(site: Site) -> Site:
    """The target that a site names."""
    return replace(site, kind=_AS_TARGET.get(site.kind, site.kind))


def _refuse(site: Site, kinds: Sequence[str], headed: str, role: str) -> None:
    if site.kind not in kinds:
        raise SiteError(
            f"'{site}' is no {role} of an edge:", nearest(site.kind, kinds), f"The {role}s are {', '.join(kinds)}."
        )
    if site.is_pattern or site.position is not None or site.unit is not None or site.stack:
        raise SiteError(
            f"'{site}' is no {role} of an edge:",
            "an edge joins one part to one part.",
            f"Write for example '{Site(site.kind, *(() if site.layer is None else (3,)))}'.",
        )
    if (site.kind in headed) != (site.head is not None):
        raise SiteError(f"'{site}' is no {role} of an edge:", "a head has a number.", f"Write '{site.whole}.head[0]'.")


@dataclass(frozen=True, eq=False)
class EdgeGraph:
    """All edges of a network. `cutaway.models.edges.graph_of(model)` makes it.

    Attributes:
        sources: in the order of computation: `embed`, the heads of layer 0, its MLP, ...
        targets: in the order of computation: q, k, v of layer 0, its MLP, ..., `logits` last.
        exists: which edges there are [source, target]: an edge goes from a source to a later target.
        feeds: which sources a target's part computes [target, source]: `q[1].head[0]` feeds `z[1].head[0]`.
        n_layers: of the network.
        notes: why parts are less fine than heads, where they are.
    """

    sources: tuple[Site, ...]
    targets: tuple[Site, ...]
    exists: Bools
    feeds: Bools
    n_layers: int
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"EdgeGraph({len(self.sources)} sources, {len(self.targets)} targets, {self.n_edges} edges)"

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of sources and targets."""
        return self.exists.shape[0], self.exists.shape[1]

    @property
    def n_edges(self) -> int:
        """Number of edges."""
        return int(self.exists.sum())

    @cached_property
    def source_number(self) -> dict[Site, int]:
        """Source -> its row."""
        return {site: number for number, site in enumerate(self.sources)}

    @cached_property
    def target_number(self) -> dict[Site, int]:
        """Target -> its column."""
        return {site: number for number, site in enumerate(self.targets)}

    @cached_property
    def source_layer(self) -> Ints:
        """Layer of each source; -1 for `embed`."""
        return np.array([_layer(site, -1) for site in self.sources], dtype=np.int64)

    @cached_property
    def target_layer(self) -> Ints:
        """Layer of each target; the number of layers for `logits`."""
        return np.array([_layer(site, self.n_layers) for site in self.targets], dtype=np.int64)

    def number(self, edge: Edge | str) -> tuple[int, int]:
        """Row and column of an edge; `SiteError` says why where this network does not have it."""
        edge = Edge.parse(edge)
        if edge.position is not None:
            raise SiteError(
                f"'{edge}' is an edge at one position;",
                "here edges are taken at all positions.",
                f"Write '{edge.everywhere}', or give the positions that there are.",
            )
        source = _find(edge.source, self.source_number, "source")
        target = _find(edge.target, self.target_number, "target")
        if not self.exists[source, target]:
            raise SiteError(
                f"The edge '{edge}' does not exist:",
                f"'{edge.source}' is computed after '{edge.target}', or beside it.",
                "An edge goes from an earlier part to a later one.",
            )
        return source, target

    def edge(self, source: int, target: int) -> Edge:
        """The edge with this row and column."""
        return Edge(self.sources[source], self.targets[target])

    def edges(self, mask: Bools | None = None) -> list[Edge]:
        """The edges of a matrix [source, target] (all of them when None), target by target."""
        chosen = self.exists if mask is None else np.asarray(mask, dtype=bool) & self.exists
        return [self.edge(int(source), int(target)) for target, source in np.argwhere(chosen.T)]

    def mask(self, edges: Iterable[Edge | str] = (), positions: Sequence[str] = ()) -> Bools:
        """The matrix of a set of edges [source, target]; with the names of positions [source, target, position].

        Args:
            edges: where there are positions, an edge without one is taken at all of them.
            positions: their names, as `Edge.position` has them.
        """
        found = np.zeros((*self.shape, len(positions)) if positions else self.shape, dtype=bool)
        for edge in map(Edge.parse, edges):
            place = self.number(edge.everywhere if positions else edge)
            if positions and edge.position is not None:
                found[(*place, position_number(edge, positions))] = True
            else:
                found[place] = True
        return found

    def connected(self, mask: Bools, *, from_embed: bool = False) -> Bools:
        """The edges of a matrix that lie on a path to `logits`; with `from_embed`, on one from `embed` too.

        Args:
            mask: [source, target].
            from_embed: drop also what gets nothing from the embeddings through the edges of the matrix.
        """
        kept = np.asarray(mask, dtype=bool) & self.exists & self.reaching(mask)[1][None, :]
        return self._fed(kept) if from_embed else kept

    def reaching(self, mask: Bools) -> tuple[Bools, Bools]:
        """The sources and the targets from which a path of a matrix's edges leads to `logits`.

        Args:
            mask: [source, target].
        """
        kept = np.asarray(mask, dtype=bool) & self.exists
        sources, targets = np.zeros(self.shape[0], dtype=bool), np.zeros(self.shape[1], dtype=bool)
        for target in range(self.shape[1] - 1, -1, -1):  # later targets first: they decide which sources matter
            targets[target] = self.targets[target].kind == "logits" or bool((self.feeds[target] & sources).any())
            if targets[target]:
                sources |= kept[:, target]
        return sources, targets

    def _fed(self, kept: Bools) -> Bools:
        """Without edges out of parts that get nothing from `embed`."""
        alive = np.array([site.kind == "embed" for site in self.sources])
        for target in range(self.shape[1]):
            if bool((kept[:, target] & alive).any()):
                alive |= self.feeds[target]
        # A layer's targets stand before its sources are used, so one pass in order is enough.
        return kept & alive[:, None]

    def part(self, site: Site) -> str:
        """The part that a source or target belongs to, in short: `3.2` (a head), `attention 3`, `mlp 3`, `embed`."""
        if site.kind in ("embed", "logits"):
            return site.kind
        if site.head is not None:
            return f"{site.layer}.{site.head}"
        return f"{'mlp' if site.kind.startswith('mlp') else 'attention'} {site.layer}"


def position_number(edge: Edge, positions: Sequence[str]) -> int:
    """Which of the named positions an edge is at; `SiteError` where it is at none of them."""
    if str(edge.position) not in positions:
        raise SiteError(f"'{edge}' is at no position that there is:", nearest(str(edge.position), positions))
    return list(positions).index(str(edge.position))


def _layer(site: Site, without: int) -> int:
    return site.layer if isinstance(site.layer, int) else without


def _find(site: Site, table: dict[Site, int], role: str) -> int:
    found = table.get(site)
    if found is None:
        names = [str(known) for known in table]
        raise SiteError(f"'{site}' is no {role} in this network:", nearest(str(site), names, shown=6))
    return found
