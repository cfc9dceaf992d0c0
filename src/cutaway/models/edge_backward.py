"""What does one forward and one backward pass over a network give for the scores of its edges?

Every source's output, what stands before each norm, and the gradient of the metric where each head's q, k and v leave their
matrix and where an MLP reads. On the way one value can be moved: the embeddings, or what a layer's part writes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cutaway.core.errors import PlanError
from cutaway.core.site import Site
from cutaway.models import multigrad, taps
from cutaway.models.edge_parts import EMBED, LayerParts, Parts
from cutaway.models.forward import model_inputs
from cutaway.models.metric import Metric
from cutaway.models.program import beside

if TYPE_CHECKING:
    from cutaway.models.model import Model


@dataclass(frozen=True, eq=False)
class Move:
    """A value that is moved in the pass.

    Attributes:
        site: a whole site of a source: `resid_pre[0]` (the embeddings), or another.
        by: what is added [prompt, position, ...].
    """

    site: Site
    by: Tensor


@dataclass
class Seen:
    """One pass with a graph: what sources wrote, what stood before each norm, and what is differentiated."""

    values: dict[Site, Tensor] = field(default_factory=dict)
    streams: dict[Site, Tensor] = field(default_factory=dict)
    places: dict[Any, Tensor] = field(default_factory=dict)
    grads: dict[Any, Tensor] = field(default_factory=dict)


def forward_backward(
    model: Model,
    parts: Parts,
    ids: Sequence[Sequence[int]],
    metric: Callable[[Tensor], Tensor],
    prompts: Sequence[int],
    moved: Move | None = None,
) -> Seen:
    """Run some prompts of one length with a graph, and back from the sum of their metrics.

    Args:
        model: the network.
        parts: of it.
        ids: token ids, equally long.
        metric: of logits at the last token; a `Metric` is asked for the rows `prompts`.
        prompts: which prompts of the metric they are.
        moved: what is added to one value.

    Raises:
        PlanError: the metric has no gradient.
    """
    seen = Seen()
    found: list[Tensor] = []
    with multigrad._weights_at_rest(model.hf), torch.inference_mode(False), torch.enable_grad():
        with _taps(model, parts, seen, moved, found, metric, prompts):
            try:
                out = model.hf(**model_inputs(model.hf, ids))
            except taps.Stop:
                values = found[0]
            else:
                values = _scored(metric, prompts)(out.logits[:, -1])
        if not values.requires_grad:
            raise PlanError(
                "The metric does not change smoothly with the logits, so it has no gradient.",
                "Counts, such as rank and accuracy, have none.",
                "Use logit_difference, log_probability or kl.",
            )
        keys = list(seen.places)
        grads = torch.autograd.grad(values.sum(), [seen.places[key] for key in keys], allow_unused=True)
    seen.grads = {key: grad for key, grad in zip(keys, grads, strict=True) if grad is not None}
    seen.places = {}
    return seen


def _scored(metric: Callable[[Tensor], Tensor], prompts: Sequence[int]) -> Callable[[Tensor], Tensor]:
    return metric.for_rows(prompts) if isinstance(metric, Metric) else metric


@contextlib.contextmanager
def _taps(
    model: Model,
    parts: Parts,
    seen: Seen,
    moved: Move | None,
    found: list[Tensor],
    metric: Callable[[Tensor], Tensor],
    prompts: Sequence[int],
) -> Iterator[None]:
    modules: list[taps.ModuleTap] = []
    attention: dict[nn.Module, taps.AttentionTap] = {}
    for part in parts.layers:
        modules.append(taps.ModuleTap(part.layer.module, "in", partial(_entering, part, seen, moved)))
        modules += _reading(part, seen)
        for site in part.source_sites:
            place = part.layer.places[site.kind]
            visit = partial(_writing, part, site, seen, moved, len(prompts))
            if place.side == "attention":
                attention[place.module] = beside(place.module, taps.AttentionTap({"z": visit}))
            else:
                modules.append(taps.ModuleTap(place.module, place.side, visit, place.index))
    last = parts.layers[-1].layer
    modules.append(taps.ModuleTap(last.module, "out", partial(_place, seen, Site("logits")), last.out_index))
    assert model.anatomy.unembed is not None
    ends = model._unembedding

    def measuring(final: Tensor) -> Tensor | None:
        if final.dim() != 3:
            return None
        final = final[:, -1:]
        if isinstance(metric, Metric) and not metric.needs_vocabulary and ends.exact:
            found.append(metric.of_tokens(ends.of_final(final[:, 0], metric.tokens), prompts))
            raise taps.Stop
        return final

    modules.append(taps.ModuleTap(model.anatomy.unembed, "in", measuring))
    with taps.module_taps(modules), taps.attention_taps(attention):
        yield


def _reading(part: LayerParts, seen: Seen) -> list[taps.ModuleTap]:
    places = part.layer.places
    modules = []
    if part.projections is not None:
        makers = dict.fromkeys(own.module for _, own in part.projections)
        modules += [taps.ModuleTap(m, "out", partial(_place, seen, (part.index, m))) for m in makers]
    elif part.attention:
        read = partial(_place, seen, Site("attn_in", part.index))
        modules.append(taps.ModuleTap(places["attn_in"].module, "in", read))
    if part.mlp:
        target = Site("mlp_in", part.index)
        if part.mlp_norm.module is not None and not part.layer.parallel:
            keep = partial(_keep, seen, target)
            modules.append(taps.ModuleTap(part.mlp_norm.module, "in", keep))
        modules.append(taps.ModuleTap(places["mlp_in"].module, "in", partial(_place, seen, target)))
    return modules


def _entering(part: LayerParts, seen: Seen, moved: Move | None, stream: Tensor) -> Tensor | None:
    new = None
    if part.index == 0:
        new = stream.detach()
        if moved is not None and moved.site == EMBED:
            new = new + moved.by.to(new)
        new = stream = new.requires_grad_(True)
        seen.values[EMBED] = stream.detach()
    seen.streams[Site("attn_in", part.index)] = stream.detach()
    if part.layer.parallel or part.mlp_norm.module is None:
        seen.streams[Site("mlp_in", part.index)] = stream.detach()
    return new


def _keep(seen: Seen, target: Site, stream: Tensor) -> None:
    seen.streams[target] = stream.detach()


def _place(seen: Seen, key: Any, value: Tensor) -> Tensor:
    own = value.view_as(value)  # the gradient of this use, not of the tensor's others
    seen.places[key] = own
    return own


def _writing(
    part: LayerParts,
    site: Site,
    seen: Seen,
    moved: Move | None,
    rows: int,
    raw: Tensor,
) -> Tensor | None:
    place = part.layer.places[site.kind]
    value = raw if place.side == "attention" else place.get(raw, rows)
    seen.values[site] = value.detach()
    if moved is None or moved.site != site:
        return None
    new = value + moved.by.to(value)
    return new if place.side == "attention" else place.put(raw, new)
