"""Which rows of which matrix make the queries, keys and values of each head? W_Q, W_K and W_V of any network.

No table of architectures: the network runs once on a few tokens, and for each head it is asked (by a backward pass
of that one layer) on which outputs of which linear map its q, k or v depends. So separate, fused and interleaved
projections are found alike, also where a norm or a rotation stands between the map and the attention call. A head's
columns are in the order of its d_head where values tell it (they do where nothing but a rotation stands between).

Refused, with the reason: heads that depend on one another (a norm over all heads at once), projections in several
steps (latent attention), and attention that does not use transformers' registry.
Limits: W_Q is what stands before q_norm and rotary embedding, so q = rotate(norm(x W_Q + b_Q)). [@elhage2021]
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cutaway.core.errors import ModelError, SiteError
from cutaway.core.site import Site
from cutaway.models import taps
from cutaway.models.anatomy import Layer
from cutaway.models.place import projection_weight
from cutaway.models.program import beside

if TYPE_CHECKING:
    from cutaway.models.model import Model

KINDS = ("q", "k", "v")


@dataclass(frozen=True, eq=False)
class Projection:
    """How one of q, k and v is made.

    Attributes:
        module: the linear map.
        columns: of its output, which belong to each head [head, d_head].
        ordered: True when the columns stand in the order of the head's d_head, which values have shown.
    """

    module: nn.Module
    columns: Int[Tensor, "head d_head"]
    ordered: bool

    @property
    def weight(self) -> Float[Tensor, "head d_model d_head"]:
        """The matrix of each head, as [head, d_model, d_head]."""
        matrix = projection_weight(self.module)
        if not matrix.is_floating_point() or matrix.device.type == "meta":
            raise ModelError(f"The weights of {type(self.module).__name__} are quantised or kept elsewhere.")
        return matrix[:, self.columns.to(matrix.device)].transpose(0, 1)

    @property
    def bias(self) -> Float[Tensor, "head d_head"] | None:
        """The bias of each head, or None."""
        bias = getattr(self.module, "bias", None)
        return bias[self.columns.to(bias.device)] if isinstance(bias, Tensor) else None


@dataclass(frozen=True, eq=False)
class Projections:
    """The projections of one layer's attention.

    Attributes:
        q: for each query head.
        k, v: for each key/value head.
    """

    q: Projection
    k: Projection
    v: Projection

    def __iter__(self) -> Iterator[tuple[str, Projection]]:
        return iter((("q", self.q), ("k", self.k), ("v", self.v)))

    def of(self, kind: str) -> Projection:
        """That of `q`, `k` or `v`."""
        found: Projection = getattr(self, kind)
        return found


def of(model: Model, layer: int) -> Projections:
    """The projections of a layer; `ModelError` says why where they cannot be told apart."""
    found = find(model)[model.anatomy.layer(Site("z", layer)).index]
    if isinstance(found, str):
        name = type(model.hf).__name__
        raise ModelError(f"The q, k and v of layer {layer} of {name} have no matrix for each head: {found}.")
    return found


def find(model: Model) -> list[Projections | str]:
    """For each layer its projections, or the reason why it has none; learned once for an opened model."""
    known: list[Projections | str] | None = model.__dict__.get("_projections")
    if known is None:
        known = model.__dict__["_projections"] = _find(model)
    return known


# --- learning them -----------------------------------------------------------------------------------------------


@dataclass
class _Seen:
    """What one layer did: the outputs of its linear maps as leaves of the graph, and the q, k, v of its call."""

    leaves: dict[nn.Module, Tensor]
    call: dict[str, Tensor]


def _find(model: Model) -> list[Projections | str]:
    from cutaway.models.anatomy import _probe_inputs

    layers = model.anatomy.stacks[""].layers
    seen = {layer.index: _Seen({}, {}) for layer in layers}
    modules: list[taps.ModuleTap] = []
    attention: dict[nn.Module, taps.AttentionTap] = {}
    for layer in layers:
        if layer.attention is None or "q" not in layer.places:
            continue
        attention[layer.attention] = beside(layer.attention, taps.AttentionTap(_keeping(seen[layer.index])))
        modules += [taps.ModuleTap(m, "out", _leaf(seen[layer.index], m)) for m in linear_maps(layer)]
    if not attention:
        return [_reason(layer) for layer in layers]
    wanted = [weight for weight in model.hf.parameters() if weight.requires_grad]
    try:
        for weight in wanted:
            weight.requires_grad_(False)
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            taps.module_taps(modules),
            taps.attention_taps(attention),
        ):
            model.hf(**_probe_inputs(model.anatomy))
    finally:
        for weight in wanted:
            weight.requires_grad_(True)
    with torch.inference_mode(False), torch.enable_grad():  # also where a caller has turned gradients off
        return [_of_layer(layer, seen[layer.index]) for layer in layers]


def linear_maps(layer: Layer) -> list[nn.Module]:
    """Leaves with a matrix, in the block that holds the attention call."""
    return [
        module
        for module in layer.module.modules()
        if next(module.children(), None) is None
        and isinstance(getattr(module, "weight", None), Tensor)
        and module.weight.dim() == 2  # type: ignore[operator]
    ]


def _leaf(seen: _Seen, module: nn.Module) -> taps.Visitor:
    def visit(out: Tensor) -> Tensor | None:
        if seen.call or module in seen.leaves:
            return None  # after the attention call, or a second run
        leaf = seen.leaves[module] = out.detach().clone().requires_grad_(True)
        return leaf

    return visit


def _keeping(seen: _Seen) -> dict[str, taps.Visitor]:
    def keep(kind: str) -> taps.Visitor:
        return lambda value: seen.call.__setitem__(kind, value)

    return {kind: keep(kind) for kind in KINDS}


def _reason(layer: Layer) -> str:
    return layer.refused.get("q", "the layer makes no attention call that could be tapped")


def _of_layer(layer: Layer, seen: _Seen) -> Projections | str:
    if len(seen.call) < len(KINDS):
        return _reason(layer)
    found: dict[str, Projection] = {}
    for kind in KINDS:
        one = _of_kind(kind, seen)
        if isinstance(one, str):
            return one
        found[kind] = one
    return Projections(found["q"], found["k"], found["v"])


def _of_kind(kind: str, seen: _Seen) -> Projection | str:
    value = seen.call[kind]
    leaves = list(seen.leaves.items())
    if not value.requires_grad or not leaves:
        return f"no linear map gives its {kind}"
    slopes = torch.autograd.grad(_mixed(value), [leaf for _, leaf in leaves], retain_graph=True, allow_unused=True)
    sources = [place for place, slope in enumerate(slopes) if slope is not None and bool(slope.any())]
    if len(sources) != 1:
        return f"its {kind} depends on {len(sources)} linear maps"
    module, leaf = leaves[sources[0]]
    columns = []
    for head in range(value.shape[2]):
        (slope,) = torch.autograd.grad(_mixed(value[:, :, head]), leaf, retain_graph=True)
        columns.append(slope.flatten(0, -2).abs().sum(dim=0).nonzero()[:, 0])
    widths = {len(mine) for mine in columns}
    if len(widths) > 1 or widths == {0}:
        return f"its heads' {kind} depend on {' and '.join(map(str, sorted(widths)))} outputs"
    table = torch.stack(columns)
    if len(table.unique()) != table.numel():
        return f"its heads' {kind} depend on one another, or share their outputs"
    return _in_order(Projection(module, table, False), leaf, value)


def _mixed(value: Tensor) -> Tensor:
    """A sum in which no two entries cancel."""
    generator = torch.Generator().manual_seed(0)
    return (value * (torch.rand(value.shape, generator=generator) + 0.5).to(value)).sum()


def _in_order(found: Projection, leaf: Tensor, value: Tensor) -> Projection:
    """The columns in the order in which the values at position 0 stand: a rotation there is by nothing."""
    out, made = leaf.detach().reshape(-1, leaf.shape[-1])[0], value.detach()[0, 0]
    table = found.columns
    if table.shape[1] != made.shape[-1]:
        return found
    if torch.equal(out[table], made):
        return Projection(found.module, table, True)
    order = torch.argsort(out[table], dim=1).gather(1, torch.argsort(torch.argsort(made, dim=1), dim=1))
    sorted_table = table.gather(1, order)
    if torch.equal(out[sorted_table], made):
        return Projection(found.module, sorted_table, True)
    return found


def weights(model: Model, kind: str, layer: int) -> Float[Tensor, "head d_model d_head"]:
    """W_Q, W_K or W_V of a layer as [head, d_model, d_head]; heads of `k` and `v` are key/value heads.

    Raises:
        ModelError: the layer has no such matrix.
        SiteError: `kind` is not q, k or v.
    """
    return of(model, layer).of(_kind(kind)).weight


def biases(model: Model, kind: str, layer: int) -> Float[Tensor, "head d_head"] | None:
    """b_Q, b_K or b_V of a layer as [head, d_head], or None."""
    return of(model, layer).of(_kind(kind)).bias


def _kind(kind: str) -> str:
    if kind not in KINDS:
        raise SiteError(f"{kind!r} is none of q, k and v.", "", "Write for example weights(model, 'q', 3).")
    return kind
