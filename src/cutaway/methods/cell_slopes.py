"""What would each cell do to first order? One backward pass for all of them.

The change of a metric when a cell takes the value of the contrast's run is about (value there - value here) times the
metric's gradient at the cell [@nanda2023]. It tells which of many cells are worth a run of their own.
Limits: first order; a cell whose estimate is near zero may still matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core.progress import track
from cutaway.core.run import token_positions
from cutaway.core.site import KINDS, Site
from cutaway.core.task import EncodedTask
from cutaway.models.encode import Encoded
from cutaway.models.metric import Metric
from cutaway.models.model import Model

PROMPTS_AT_ONCE = 8


def slopes_of_cells(model: Model, encoded: EncodedTask, metric: Metric, cells: Sequence[Site]) -> NDArray[np.float64]:
    """About how much the metric moves when each cell takes its value in the contrast [prompt, cell].

    Args:
        model: the network.
        encoded: prompts with contrasts.
        metric: of the prompts; it must have a gradient.
        cells: concrete sites.
    """
    wholes = tuple(dict.fromkeys(site.whole for site in cells))
    found = []
    for start in track(range(0, len(encoded), PROMPTS_AT_ONCE), "gradients at the parts"):
        piece = slice(start, start + PROMPTS_AT_ONCE)
        named = {name: where[piece] for name, where in encoded.positions.items()}
        here = Encoded(tuple(encoded.ids[piece]), named)
        there = Encoded(tuple(encoded.contrast_ids[piece]), named)
        part = replace(metric, answers=metric.answers[piece], wrong=metric.wrong[piece])
        slope = model.grad(here, part, at=wholes)
        other = model.run(there, read=wholes, logits="none")
        products = {site: (other[site] - slope[site]) * slope.grad(site) for site in wholes}
        columns = _summed(products, cells, here)
        found.append(columns.double().cpu().numpy())
    return np.concatenate(found)


def _summed(products: dict[Site, Tensor], cells: Sequence[Site], encoded: Encoded) -> Tensor:
    """The sum of the products over the part that each cell names [prompt, cell]."""
    return torch.stack([_of_cell(products[site.whole], site, encoded) for site in cells], dim=1)


def _of_cell(product: Tensor, site: Site, encoded: Encoded) -> Tensor:
    dims = ["prompt", *KINDS[site.kind][1]]
    for name, index in (("head", site.head), (dims[-1], site.unit)):
        if isinstance(index, int):
            product = product.select(dims.index(name), index)
            dims.remove(name)
    product = product.movedim(dims.index("query" if "query" in dims else "position"), 1)
    product = product.flatten(2).sum(dim=2) if product.dim() > 2 else product
    if not isinstance(site.position, int | str):
        return product.sum(dim=1)
    found = product.new_zeros(len(product))
    for row, length in enumerate(encoded.lengths):
        if isinstance(site.position, str) or -length <= site.position < length:
            named = {name: [where[row]] for name, where in encoded.named.items()}
            found[row] = product[row, token_positions(site.position, [length], named)[0]]
    return found
