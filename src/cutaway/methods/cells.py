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
from cutaway.core.task import EncodedTask
from cutaway.core.tokens import first_difference
from cutaway.methods.labels import described, quoted, shared_labels, token_table
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


_PARTS = {"z": "head", "mlp_act": "neuron"}
_WHOLE = {
    "resid_pre": "the stream before {}",
    "resid_mid": "the stream between attention and MLP of {}",
    "resid_post": "the stream after {}",
    "z": "all heads of {}",
    "attn_out": "the attention of {}",
    "attn_contrib": "the attention of {}",
    "mlp_act": "the neurons of {}",
    "mlp_out": "the MLP of {}",
    "mlp_contrib": "the MLP of {}",
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


def that_can_differ(model: Model, encoded: EncodedTask, cells: Sequence[Site]) -> list[Site]:
    """Cells whose values can differ between prompts and contrasts.

    In a causal model these are the cells at or after the first token that differs, in one pair or more.
    """
    if not model.anatomy.is_causal or model.anatomy.is_encoder_decoder:
        return list(cells)
    pairs = list(zip(encoded.ids, encoded.contrast_ids, strict=True))
    firsts = [first_difference(ids, other) for ids, other in pairs]

    def differs(site: Site, pair: int) -> bool:
        first, length = firsts[pair], len(pairs[pair][0])
        if first is None or not isinstance(site.position, int | str):
            return first is not None
        if isinstance(site.position, str):
            return encoded.positions[site.position][pair] >= first
        place = site.position + length if site.position < 0 else site.position
        return first <= place < length

    return [site for site in cells if any(differs(site, pair) for pair in range(len(pairs)))]


def grids(
    model: Model,
    ids: Sequence[Sequence[int]],
    cells: Sequence[Site],
    values: NDArray[np.float64],
    said: str | tuple[str, str],
) -> xr.Dataset:
    """One map for each kind of site: `effect_z` (layer, head), `effect_resid_pre` (layer, position), ...

    Args:
        model: the network.
        ids: the prompts, for the labels of positions.
        cells: the sites.
        values: one number for each.
        said: what the numbers are, for people; or that and their unit.
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
    return _labelled(described(xr.Dataset(maps), **dict.fromkeys(maps, said)), model, ids)


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
    return described(data.assign_coords(position_label=("position", names)), position_label="token")


# --- in words ----------------------------------------------------------------------------------------------------


def in_words(model: Model, ids: Sequence[Sequence[int]], cells: Sequence[Site]) -> str:
    """Cells as a reader would name them: `the stream before layers 14 to 16 at token 9 “ John”`.

    Args:
        model: the network.
        ids: the prompts; a token is named where all of them have the same one there.
        cells: the sites.
    """
    together: dict[tuple[object, ...], list[Site]] = {}
    for site in cells:
        sort = (site.kind, site.position, site.head is None, site.unit is None)
        together.setdefault(sort, []).append(site)
    table = token_table(model, ids)
    return " and ".join(f"{_parts(mine)}{_at(mine[0].position, table)}" for mine in together.values())


def _parts(sites: Sequence[Site]) -> str:
    """What cells of one sort are, without their position."""
    first = sites[0]
    if first.head is not None or first.unit is not None:
        numbers = [f"{site.layer}.{site.head if site.head is not None else site.unit}" for site in sites]
        noun = _PARTS.get(first.kind, f"{first.kind} of {'head' if first.head is not None else 'unit'}")
        return f"{noun}{'s' if len(sites) > 1 else ''} {listed(numbers)}"
    layers = sorted({site.layer for site in sites if isinstance(site.layer, int)})
    return _WHOLE.get(first.kind, f"{first.kind} of {{}}").format(layers_in_words(layers))


def _at(position: object, table: NDArray[np.object_]) -> str:
    if not isinstance(position, int):
        return f" at @{position}" if isinstance(position, str) else ""
    if position < 0:
        return " at the last token" if position == -1 else f" at token {-position} from the end"
    here = {str(text) for text in table[:, position] if text} if position < table.shape[1] else set()
    return f" at token {position}" + (f" {quoted(here.pop())}" if len(here) == 1 else "")


def layers_in_words(layers: Sequence[int]) -> str:
    """Layers in rising order: `layer 3`, `layers 3 to 5`, `layers 3, 5 and 9`."""
    if len(layers) == 1:
        return f"layer {layers[0]}"
    if len(layers) > 2 and layers[-1] - layers[0] + 1 == len(layers):
        return f"layers {layers[0]} to {layers[-1]}"
    return f"layers {listed(list(map(str, layers)))}"


def listed(words: Sequence[str]) -> str:
    """Words as a list in a sentence: `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


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
