"""Which parts does a pattern name, and how do their effects lie in the network? Sites as cells of maps.

`z[*].head[*]` is a map of layers and heads, `resid_pre[*]@*` one of layers and positions. Each kind of site has a
map of its own, with a dimension for everything that varies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from cutaway.core import view as views
from cutaway.core.errors import PlanError
from cutaway.core.site import KINDS, Site, Span, parse_sites
from cutaway.methods.labels import shared_labels, token_table
from cutaway.models.model import Model
from cutaway.models.sweep import Sweep

NAMES = {
    "z": "head",
    "attn_out": "attention layer",
    "attn_contrib": "attention layer",
    "mlp_act": "neuron",
    "mlp_out": "MLP",
    "mlp_contrib": "MLP",
    "resid_pre": "place of the stream",
    "resid_mid": "place of the stream",
    "resid_post": "place of the stream",
}


def cells_of(model: Model, sites: str, longest: int) -> list[Site]:
    """Concrete sites of a pattern, with `@*` as every position of the longest prompt.

    Raises:
        SiteError: a pattern that does not parse, or names what the model does not have.
        PlanError: a site outside of the layers of the main stack.
    """
    found: dict[Site, None] = {}
    for pattern in parse_sites(sites):
        if KINDS[pattern.kind][0] == "ends" or pattern.stack or pattern.kind in ("router", "expert_out"):
            raise PlanError(
                f"'{pattern}' cannot be changed as a part;",
                "parts are values of the layers of the main stack.",
                "Write for example z[*].head[*], mlp_out[*] or resid_pre[*]@*.",
            )
        for site in model.anatomy.expand(pattern):
            model.anatomy.place(site)
            span = site.position
            places = [site.at(p) for p in span.indices(longest)] if isinstance(span, Span) else [site]
            found.update(dict.fromkeys(places))
    return list(found)


def grids(model: Model, ids: Sequence[Sequence[int]], cells: Sequence[Site], values: NDArray[np.float64]) -> xr.Dataset:
    """One map for each kind of site: `effect_z` (layer, head), `effect_resid_pre` (layer, position), ...

    Args:
        model: the network.
        ids: the prompts, for the labels of positions.
        cells: the sites.
        values: one number for each.
    """
    sorts: dict[tuple[object, ...], list[int]] = {}
    for place, site in enumerate(cells):
        sort = (site.kind, type(site.position), site.head is None, site.unit is None)
        sorts.setdefault(sort, []).append(place)
    maps: dict[str, xr.DataArray] = {}
    for (kind, *_), mine in sorts.items():
        name = f"effect_{kind}"
        earlier = sum(known.startswith(name) for known in maps)
        maps[f"{name}_{earlier + 1}" if earlier else name] = _grid([cells[i] for i in mine], values[mine])
    return _labelled(xr.Dataset(maps), model, ids)


def _grid(cells: Sequence[Site], values: NDArray[np.float64]) -> xr.DataArray:
    """What varies among cells of one sort, as dimensions."""
    nothing = torch.zeros(1)
    sweep = Sweep(tuple(cells), torch.tensor(values)[None], nothing, nothing, "", 0)
    grid = sweep.grid().isel(prompt=0).squeeze(drop=True)
    named = "position" in grid.dims and isinstance(cells[0].position, str)
    return grid.rename(position="named_position") if named else grid


def _labelled(data: xr.Dataset, model: Model, ids: Sequence[Sequence[int]]) -> xr.Dataset:
    """With the token at each position, where all prompts have the same."""
    if "position" not in data.dims:
        return data
    table = token_table(model, ids)
    places = [int(place) for place in data["position"].values]
    names = [shared_labels(table, [p])[0] if 0 <= p < table.shape[1] else str(p) for p in places]
    return data.assign_coords(position_label=("position", names))


def map_views(maps: xr.Dataset, title: str) -> tuple[views.View, ...]:
    """A heat map for each map of two dimensions, bars for each of one."""
    found = []
    for name, grid in maps.data_vars.items():
        kind = str(name).removeprefix("effect_")
        part = f"{NAMES.get(kind, 'value')} ({kind})"
        labels = ["position_label" if dim == "position" else str(dim) for dim in grid.dims]
        if grid.ndim == 2:
            y, x = labels
            found.append(views.heatmap(value=str(name), x=x, y=y, title=f"{title} each {part}", scale="diverging"))
        elif grid.ndim == 1:
            found.append(views.bars(value=str(name), label=labels[0], title=f"{title} each {part}"))
    return tuple(found)
