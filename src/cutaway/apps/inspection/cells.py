"""How did this one number come about? The formula of a cell with the real operands, where one is known to hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from cutaway.apps.inspection import attention_formulas as heads
from cutaway.apps.inspection import mlp_formulas as mlp
from cutaway.apps.inspection import stream_formulas as stream
from cutaway.apps.inspection.formula import Proposal, agrees
from cutaway.apps.inspection.spot import Spot, spot
from cutaway.core.site import Site
from cutaway.models.model import Model

Proposals = Iterator[Proposal]

_STREAM: dict[str, Callable[[Spot], Proposals]] = {
    "embed": stream.embed,
    "resid_pre": stream.resid_pre,
    "attn_in": stream.attn_in,
    "attn_out": heads.attn_out,
    "attn_contrib": stream.attn_contrib,
    "resid_mid": stream.resid_mid,
    "mlp_in": stream.mlp_in,
    "mlp_pre": mlp.mlp_pre,
    "mlp_act": mlp.mlp_act,
    "router": mlp.router,
    "mlp_out": mlp.mlp_out,
    "mlp_contrib": stream.mlp_contrib,
    "resid_post": stream.resid_post,
    "final": stream.final,
    "logits": mlp.logits,
}
_HEADS: dict[str, Callable[[Spot, int], Proposals]] = {"scores": heads.scores, "pattern": heads.pattern, "z": heads.z}


def is_cell(site: Site) -> bool:
    """True for a site that is one number of a prompt."""
    return site.dims == ("prompt",)


def explain(model: Model, ids: Sequence[int], site: Site) -> dict[str, Any]:
    """The cell's value and the formula that gives it, as JSON values; a sentence where no known formula holds."""
    at = spot(model, ids, site)
    row = _row(at, site)
    unit = _unit(site) % len(row)
    value = float(row[unit])
    record: dict[str, Any] = {"site": str(site), "value": value if math.isfinite(value) else None}
    if model.anatomy.is_encoder_decoder:
        return {**record, "formula": None, "why": "Formulas are known for networks of one stack only."}
    with torch.no_grad():
        for proposal in _proposals(at, site):
            if agrees(proposal.row().cpu(), row.cpu()):
                return {**record, **proposal.cell(unit).record}
    return {**record, "formula": None, "why": f"No formula that is known here gives {site.kind} in this network."}


def _unit(site: Site) -> int:
    found = site.expert if site.kind == "router" else site.unit
    assert isinstance(found, int)
    return found


def _row(at: Spot, site: Site) -> torch.Tensor:
    """All units of the cell's row."""
    whole = at.whole(site.kind)
    if isinstance(site.expert, int) and site.kind == "expert_out":
        return whole[site.expert, at.position]
    if site.kind in ("scores", "pattern"):
        return whole[site.head, at.position]  # type: ignore[index]
    row = whole[at.position]
    return row[site.head] if isinstance(site.head, int) else row


def _proposals(at: Spot, site: Site) -> Proposals:
    kind = site.kind
    if kind in _STREAM:
        yield from _STREAM[kind](at)
    elif kind in _HEADS and isinstance(site.head, int):
        yield from _HEADS[kind](at, site.head)
    elif kind == "expert_out" and isinstance(site.expert, int):
        yield from mlp.expert_out(at, site.expert)
    elif kind in ("q", "k", "v", "q_pre_rope", "k_pre_rope") and isinstance(site.head, int):
        if kind in ("q", "k"):
            yield from heads.rotated(at, kind, site.head)
        yield from heads.projected(at, kind, site.head)
