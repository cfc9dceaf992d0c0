"""Which numbers are at these sites, on this prompt? Arrays of what is in view, and how a single cell came about.

A site with one unit and one position (`resid_mid[3].unit[7]@5`) is a cell: its header says by which formula the network
made it, with the operands. Limits: `MOST` numbers an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.apps.inspection import arguments as given
from cutaway.apps.inspection import cells
from cutaway.apps.inspection.bundle import Bundle
from cutaway.apps.inspection.readings import readings
from cutaway.core.errors import ParameterError
from cutaway.core.site import KINDS, Site, Span
from cutaway.models.model import Model

MOST = 16 * 2**20
MOST_SITES = 4096


def activations(model: Model, arguments: Mapping[str, Any]) -> Bundle:
    """The values of sites on one prompt."""
    given.only(arguments, "text", "text_b", "sites")
    ids = given.ids(model, arguments)
    wanted = _wanted(model, given.sites(arguments), len(ids))
    _require_small(model, wanted, len(ids))
    arrays = []
    for layer in _by_layer(wanted):
        run = readings(model).run(model, ids, layer)
        arrays += [(str(site), site.dims[1:], _plain(run[site][0])) for site in layer]
    explained = {str(site): cells.explain(model, ids, site) for site in wanted if cells.is_cell(site)}
    tokens = tuple(model.token_strings(ids))
    facts: dict[str, Any] = {"ids": list(ids), "second": given.second_text(model, arguments)}
    return Bundle(tuple(arrays), tokens, {**facts, "cells": explained} if explained else facts)


def _wanted(model: Model, asked: Sequence[Site], length: int) -> list[Site]:
    found: dict[Site, None] = {}
    for site in asked:
        for one in _expanded(model, site, length):
            model.anatomy.place(one)
            found[one.at(None) if one.position == Span() else one] = None
    if len(found) > MOST_SITES:
        raise ParameterError(
            f"{len(found)} sites are asked for.", f"An answer has {MOST_SITES} at most.", "Ask for fewer."
        )
    return list(found)


def _expanded(model: Model, site: Site, length: int) -> list[Site]:
    """Concrete sites; the units of scores and patterns are keys, of which there are as many as tokens."""
    positions = None if site.position == Span() else length
    if KINDS[site.kind][1][-1] != "key" or site.unit is None:
        return model.anatomy.expand(site, positions=positions)
    found = model.anatomy.expand(replace(site, unit=None), positions=positions)
    if isinstance(site.unit, int) and not -length <= site.unit < length:
        raise ParameterError(f"Key {site.unit} of '{site}' does not exist.", f"The text has {length} tokens.")
    keys = site.unit.indices(length) if isinstance(site.unit, Span) else [site.unit % length]
    return [replace(row, unit=key) for row in found for key in keys]


def _by_layer(sites: Sequence[Site]) -> list[list[Site]]:
    """Sites in an order in which few large values are held at once: patterns one layer at a time."""
    streams = [site for site in sites if KINDS[site.kind][0] != "scores"]
    scores: dict[Any, list[Site]] = {}
    for site in sites:
        if KINDS[site.kind][0] == "scores":
            scores.setdefault(site.layer, []).append(site)
    return [group for group in (streams, *scores.values()) if group]


def _require_small(model: Model, sites: Sequence[Site], length: int) -> None:
    total = sum(_numbers(model, site, length) for site in sites)
    if total > MOST:
        raise ParameterError(
            f"The {len(sites)} sites have {total:,} numbers on these {length} tokens.",
            f"An answer has {MOST:,} at most.",
            "Ask for fewer layers, for one head (pattern[3].head[2]) or for one position (logits@-1).",
        )


def _numbers(model: Model, site: Site, length: int) -> int:
    sizes = model.anatomy.sizes(site)
    by_dim = {"head": sizes["heads"], "expert": sizes["experts"], "position": length, "query": length, "key": length}
    return int(np.prod([by_dim.get(dim, sizes["units"]) for dim in site.dims[1:]], dtype=np.int64))


def _plain(value: Tensor) -> NDArray[Any]:
    value = value.detach()
    wide = value.double() if value.dtype == torch.float64 else value.float()
    return np.asarray(wide.cpu().numpy())
