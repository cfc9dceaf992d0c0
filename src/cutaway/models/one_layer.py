"""What would one layer's attention make of these vectors? Queries, keys and values of streams that are given.

Each vector is a text of one token whose stream before the layer is put in. The layer's own modules run up to the
attention call (its norm, its projections fused or not, the norms of q and k), and nothing else does: layers below are
passed over, and the pass ends there. At the first position a rotation of q and k is by nothing, so they are as they
stand before it.
Limits: what is learned about positions beyond rotation is that of the first position.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.core.edit import replace
from cutaway.core.site import Site
from cutaway.models import taps
from cutaway.models.forward import model_inputs
from cutaway.models.program import Clock, Program
from cutaway.models.recording import record
from cutaway.models.sweep import tier_of

if TYPE_CHECKING:
    from cutaway.models.model import Model

ROWS_AT_ONCE = 8192
KINDS = ("q", "k", "v")


def attention_call(
    model: Model, layer: int, streams: Float[Tensor, "row d_model"]
) -> dict[str, Float[Tensor, "row head d_head"]]:
    """What a layer's attention call is given for each of these streams: `q`, `k` and `v`.

    Args:
        model: the network.
        layer: which layer.
        streams: values of `resid_pre[layer]`.

    Raises:
        SiteError: the layer has no q, k and v that can be read.
    """
    for kind in ("resid_pre", *KINDS):
        model.anatomy.place(Site(kind, layer))
    parts = [_some(model, layer, rows) for rows in streams.split(ROWS_AT_ONCE)]
    return {kind: torch.cat([part[kind] for part in parts]) for kind in KINDS}


def _some(model: Model, layer: int, streams: Tensor) -> dict[str, Tensor]:
    rows = len(streams)
    sites = [Site(kind, layer) for kind in KINDS]
    edit = replace(Site("resid_pre", layer), streams[:, None])
    program = Program(model.anatomy, sites, [edit], Clock([1] * rows, rows=range(rows)))
    layers = model.anatomy.stacks[""].layers
    below = [] if tier_of(model) == "full" else _passed_over(model, layer)
    attention = layers[layer].attention
    tap = [] if attention is None else [taps.ModuleTap(layers[layer].module, "out", _stop, layers[layer].out_index)]
    try:
        with torch.no_grad(), taps.module_taps(below), program.installed(), taps.module_taps(tap):
            model.hf(**model_inputs(model.hf, [(0,)] * rows))
    except taps.Stop:
        pass
    return {site.kind: program.values[site][:, 0] for site in sites}


def _passed_over(model: Model, layer: int) -> list[taps.ModuleTap]:
    known = model.__dict__.get("_one_token")
    if known is None:
        known = model.__dict__["_one_token"] = record(model, [(0,)], (), cache=False).outputs
    found = []
    for below in model.anatomy.stacks[""].layers[:layer]:
        template = known[below.index]
        whole = template if isinstance(template, Tensor) else tuple(template)
        found.append(taps.ModuleTap(below.module, "skip", lambda hidden: hidden, below.out_index, whole))
    return found


def _stop(value: Tensor) -> None:
    raise taps.Stop
