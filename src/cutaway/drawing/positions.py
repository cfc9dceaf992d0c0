"""Where does a node stand that is a site at a position? In the row of its layer and the column of its position.

A graph of such nodes (`z[3].head[2]@end`) is read like a transformer: positions from left to right, layers from below to
above. What is read (keys, values) stands below what a layer's heads write, and that below its MLP. An arrow from what a head
reads is attention's: it leads to another position, and has no weight of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cutaway.core.errors import SiteError
from cutaway.core.site import KIND_ORDER, Site
from cutaway.drawing.panels import Network

_READ = ("q", "k", "v", "attn_in")


@dataclass(frozen=True)
class Placed:
    """The places of all nodes of a graph.

    Attributes:
        rows: of each node: the first is the lowest.
        columns: of each node.
        layers: what each row is called: the layer, `embed` or `logits`.
        headings: what stands above each column.
        short: what is written on each node, whose layer and position stand beside it.
        moves: arrows, by number, from what a head reads: attention's.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    layers: tuple[str, ...]
    headings: tuple[str, ...]
    short: tuple[str, ...]
    moves: frozenset[int]


def placed(panel: Network) -> Placed | None:
    """The places of the nodes; None where the view names no positions, or a node is no site at one of them."""
    if not panel.positions or not panel.nodes:
        return None
    sites: list[Site] = []
    for name in panel.nodes:
        try:
            site = Site.parse(name)
        except SiteError:
            return None
        if site.is_pattern or str(site.position) not in panel.positions:
            return None
        sites.append(site)
    ranks = [_rank(site) for site in sites]
    order = sorted(set(ranks))
    layer = dict(zip(ranks, map(_layer, sites)))
    moves = {i for i, source in enumerate(panel.sources) if _attends(sites[source])}
    return Placed(
        tuple(order.index(rank) for rank in ranks),
        tuple(panel.positions.index(str(site.position)) for site in sites),
        tuple(layer[rank] for rank in order),
        panel.headings or panel.positions,
        tuple(map(short, sites)),
        frozenset(moves),
    )


def short(site: Site) -> str:
    """What a node is called where its layer and position stand beside it: `head 2`, `k 0`, `mlp`."""
    kind = {"mlp_contrib": "mlp", "mlp_out": "mlp", "attn_contrib": "attn", "attn_out": "attn", "z": "head"}
    said = kind.get(site.kind, site.kind)
    return said if site.head is None else f"{said} {site.head}"


def _attends(site: Site) -> bool:
    """Whether a node is what a head reads, from which nothing but attention leads on."""
    return site.kind in _READ


def _rank(site: Site) -> tuple[float, int]:
    ends = math.inf if site.kind in ("final", "logits") else -1
    return (site.layer if isinstance(site.layer, int) else ends), -1 if _attends(site) else KIND_ORDER[site.kind]


def _layer(site: Site) -> str:
    return site.kind if site.layer is None else f"layer {site.layer}"
