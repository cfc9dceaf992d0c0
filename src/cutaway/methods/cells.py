"""Which parts does a pattern name, and how do their effects lie in the network? Sites as cells of maps.

`z[*].head[*]` is a map of layers and heads, `resid_pre[*]@*` one of layers and positions. Each kind of site has a
map of its own, with a dimension for everything that varies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


def grids(
    model: Model, ids: Sequence[Sequence[int]], cells: Sequence[Site], values: NDArray[np.float64]
) -> dict[str, xr.DataArray]:
    """One map for each kind of site: `effect_z` (layer, head), `effect_resid_pre` (layer, position), ...

    Args:
        model: the network.
        ids: the prompts, for the labels of positions.
        cells: the sites.
        values: one number for each.
    """
    found = {}
    for kind in dict.fromkeys(site.kind for site in cells):
        mine = [place for place, site in enumerate(cells) if site.kind == kind]
        nothing = torch.zeros(1)
        table = torch.tensor(values[mine])[None]
        sweep = Sweep(tuple(cells[i] for i in mine), table, nothing, nothing, "", 0)
        found[f"effect_{kind}"] = _labelled(sweep.grid().isel(prompt=0).squeeze(drop=True), model, ids)
    return found


def _labelled(grid: xr.DataArray, model: Model, ids: Sequence[Sequence[int]]) -> xr.DataArray:
    if "position" not in grid.dims or grid["position"].dtype.kind not in "iu":
        return grid
    table = token_table(model, ids)
    places = [int(p) if -table.shape[1] <= p < table.shape[1] else 0 for p in grid["position"].values]
    names = shared_labels(table, places) if min(places) >= 0 else [str(p) for p in places]
    return grid.assign_coords(position_label=("position", names))


def map_views(maps: Mapping[str, xr.DataArray], title: str) -> tuple[views.View, ...]:
    """A heat map for each map of two dimensions, a curve for each of one."""
    found = []
    for name, grid in maps.items():
        kind = name.removeprefix("effect_")
        labels = [
            "position_label" if dim == "position" and "position_label" in grid.coords else dim for dim in grid.dims
        ]
        if grid.ndim == 2:
            y, x = (str(label) for label in labels)
            found.append(views.heatmap(value=name, x=x, y=y, title=f"{title} each {kind}", scale="diverging"))
        elif grid.ndim == 1 and grid.size > 1:
            found.append(views.bars(value=name, label=str(labels[0]), title=f"{title} each {kind}"))
    return tuple(found)
