"""What is a gradient after a layer, before it? By the layer's own values, for gradients of many targets at once.

`Seen` is what one layer did in a run: what its linear maps gave, its queries, keys and values, its pattern, its neurons.
From these a `LayerPullback` is prepared, which holds for every target:

*   a linear map takes gradients back by its matrix;
*   neurons are functions of what the maps before them give at the same place: their slopes, by autograd, once;
*   attention takes them back by the slope of softmax, P ∘ (dP - rowsum(P ∘ dP));
*   between a map and its q, k or v stands a rotation of pairs, whose two coefficients are learned by autograd, once;
    whatever else stands there (a norm of queries, a fused matrix) is left to autograd;
*   a norm takes them back by its own Jacobian (`norm_gradients`).

Nothing here knows an architecture. `pullback` compares the whole with autograd before it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cutaway.models import taps
from cutaway.models.edge_parts import LayerParts, Norm
from cutaway.models.norm_gradients import NormSlope, frozen_of
from cutaway.models.place import projection_weight
from cutaway.models.probe import same
from cutaway.models.program import beside
from cutaway.models.projections import KINDS, linear_maps
from cutaway.models.unembedding import FrozenNorm

Grads = Float[Tensor, "target row position d_model"]


class Unexplained(Exception):  # noqa: N818 - no error: autograd is asked instead
    """A layer does something that the formulas do not say."""


@dataclass
class Seen:
    """What one layer did in a run of rows of equally many tokens.

    Attributes:
        values: `stream`, `middle` and `after`, before attention, before the MLP and after it; `q k v z pattern` of the
            attention call; `neurons`; what the last maps of both parts took and gave. `entered` is the stream with its
            graph; `q k v` and `neurons` have one that begins at `maps`.
        taken, maps: linear map that reads a norm -> what it took, and what it gave.
    """

    values: dict[str, Tensor] = field(default_factory=dict)
    taken: dict[nn.Module, Tensor] = field(default_factory=dict)
    maps: dict[nn.Module, Tensor] = field(default_factory=dict)

    def clear(self) -> None:
        """Forget everything."""
        for kept in (self.values, self.taken, self.maps):
            kept.clear()

    def keep(self, name: str, value: Tensor) -> None:
        """Keep a value; the graph goes on."""
        self.values[name] = value.detach()

    def cut(self, name: str, value: Tensor) -> Tensor:
        """Keep a value; the graph ends before it."""
        self.values[name] = value.detach()
        return self.values[name]

    def end(self, name: str, value: Tensor) -> Tensor:
        """Keep a value with its graph, which ends here."""
        self.values[name] = value
        return value.detach()

    def ask(self, value: Tensor) -> Tensor:
        """Keep queries; a graph begins at them."""
        self.values["asked"] = self.end("q", value).requires_grad_(True)
        return self.values["asked"]

    def take(self, module: nn.Module, value: Tensor) -> None:
        """Keep what a linear map took."""
        self.taken[module] = value.detach()

    def make(self, module: nn.Module, value: Tensor) -> Tensor:
        """Keep what a linear map gave; a graph begins at it."""
        self.maps[module] = value.detach().requires_grad_(True)
        return self.maps[module]


def times(grads: Tensor, module: nn.Module, onto: Tensor | None = None) -> Tensor:
    """Gradients [..., out] of what a linear map gives, as those of what it takes [..., in]; added to `onto`."""
    return _product(grads, projection_weight(module), onto)


def _product(grads: Tensor, matrix: Float[Tensor, "in out"], onto: Tensor | None = None) -> Tensor:
    """`grads @ matrix.T + onto`. oneDNN keeps a processor busier than the library that PyTorch asks by itself."""
    left, right = grads.flatten(0, -2), None if onto is None else onto.flatten(0, -2)
    if left.dtype == torch.float32 and left.device.type == "cpu" and torch.backends.mkldnn.is_available():
        by_onednn = torch.ops.mkldnn._linear_pointwise
        if right is None:
            found = by_onednn(left, matrix, None, "none", [], "")
        else:
            found = by_onednn.binary(left, right, matrix, None, "add")
    else:
        found = left @ matrix.T if right is None else torch.addmm(right, left, matrix.T)
    return found.unflatten(0, grads.shape[:-1])


# --- which positions ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Upto:
    """Gradients at all positions up to some length [target, row, length, ...]."""

    length: int

    def of(self, value: Float[Tensor, "row position *more"]) -> Tensor:
        """A value of the run at these positions, to be multiplied with gradients."""
        return value[:, : self.length]

    def queries(self, value: Float[Tensor, "row kv group query *more"]) -> Tensor:
        """A value of each query at these positions [row, kv, group * query, 1, ...]."""
        return value[:, :, :, : self.length].flatten(2, 3)[:, :, :, None]

    def summed(self, one: Tensor, other: Tensor) -> Float[Tensor, "row kv target out1 out2"]:
        """Over queries: `one` [row, kv, query, target, out1] times a value of each query [row, kv, query, 1, out2]."""
        found = one.flatten(3).transpose(2, 3) @ other[:, :, :, 0]
        return found.unflatten(2, one.shape[3:])

    def spread(self, grads: Tensor) -> Tensor:
        """The gradients at all positions."""
        return grads


@dataclass(frozen=True, eq=False)
class Only:
    """Gradients of each target at its own position only [target, row, 1, ...]."""

    length: int
    places: Tensor

    def of(self, value: Float[Tensor, "row position *more"]) -> Tensor:
        """As in `Upto`."""
        return value[:, self.places].transpose(0, 1)[:, :, None]

    def queries(self, value: Float[Tensor, "row kv group query *more"]) -> Tensor:
        """A value of each query at these positions [row, kv, group, target, ...]."""
        return value[:, :, :, self.places]

    def summed(self, one: Tensor, other: Tensor) -> Float[Tensor, "row kv target out1 out2"]:
        """As in `Upto`, with a value of each target's own query [row, kv, query, target, out2]."""
        return torch.einsum("rvqta,rvqtb->rvtab", one, other)

    def spread(self, grads: Tensor) -> Tensor:
        """As in `Upto`."""
        found = grads.new_zeros(*grads.shape[:2], self.length, *grads.shape[3:])
        found[torch.arange(len(grads)), :, self.places] = grads[:, :, 0]
        return found


Where = Upto | Only


# --- between a linear map and the q, k or v that it makes --------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Rotation:
    """Each value turned with the one half a head further on: what rotary embeddings do, or nothing at all.

    Attributes:
        own, other: coefficients of the gradient at a value, and of that half a head further on; None where the values
            are the map's own.
    """

    own: Float[Tensor, "1 position 1 d_head"] | None
    other: Float[Tensor, "1 position 1 d_head"] | None

    def __call__(self, grads: Float[Tensor, "target row place head d_head"], where: Where) -> Tensor:
        """Gradients at q, k or v as those at what its map gives."""
        if self.own is None or self.other is None:
            return grads
        return _turned(grads, where.of(self.own), where.of(self.other))

    def turns(self, one: Float[Tensor, "row position head d_head"], other: Tensor, tolerance: float) -> bool:
        """True when it makes `other` of `one`."""
        if self.own is None or self.other is None or self.own.shape[1::2] != one.shape[1::2]:
            return False
        return same(_turned(one, self.own, self.other.roll(one.shape[-1] // 2, -1)), other, tolerance)


def _turned(grads: Tensor, own: Tensor, other: Tensor) -> Tensor:
    found, half = grads * own, grads.shape[-1] // 2
    found[..., :half].addcmul_(grads[..., half:], other[..., :half])
    found[..., half:].addcmul_(grads[..., :half], other[..., half:])
    return found


def rotation_of(
    value: Float[Tensor, "row position head d_head"],
    made: Tensor,
    heads: int,
    known: Rotation | None,
    tolerance: float,
) -> Rotation | None:
    """The rotation between what a map made and a q, k or v; None where something else stands between.

    Args:
        value: the q, k or v.
        made: what its map gave [row, position, heads * d_head].
        heads: of it.
        known: the rotation of another layer, which is the same in most networks.
        tolerance: relative rounding of a sum in the model's dtype.
    """
    shape = value.shape
    if made.shape != (*shape[:2], heads * shape[-1]) or shape[-1] % 2:
        return None
    if torch.equal(value.detach().reshape(made.shape), made.detach()):
        return Rotation(None, None)
    if known is not None and known.turns(made.detach().view(shape), value.detach(), tolerance):
        return known
    half = shape[-1] // 2
    noise = torch.randn(shape[-1], generator=torch.Generator().manual_seed(0)).to(value)
    first, second, mixed = (torch.zeros(shape).to(value) for _ in range(3))
    first[..., :half] = second[..., half:] = 1
    mixed += noise
    slopes = [
        torch.autograd.grad(value, made, along, retain_graph=True)[0].view(shape) for along in (first, second, mixed)
    ]
    own = torch.cat([slopes[0][..., :half], slopes[1][..., half:]], dim=-1)[:1, :, :1]
    other = torch.cat([slopes[1][..., :half], slopes[0][..., half:]], dim=-1)[:1, :, :1]
    found = Rotation(own, other)
    return found if same(found(mixed[None], Upto(shape[1]))[0], slopes[2], tolerance) else None


@dataclass(frozen=True, eq=False)
class NormAt:
    """A norm with the stream that it reads. Its Jacobian is three times as large, and soon made.

    Attributes:
        norm: its gain and bias.
        stream: before it [row, position, d_model].
        scale: by which it multiplies there [row, position, 1].
    """

    norm: FrozenNorm
    stream: Tensor
    scale: Tensor

    @staticmethod
    def of(norm: Norm, stream: Tensor) -> NormAt | None:
        """A norm at a stream; None where there is no norm.

        Raises:
            Unexplained: its Jacobian is not that of the formula.
        """
        if norm.module is None:
            return None
        found = frozen_of(norm, stream)
        if found is None:
            raise Unexplained("the Jacobian of a norm is not that of the formula")
        return NormAt(found, stream, found.scale(stream))

    def slope(self, where: Where) -> NormSlope:
        """The Jacobian at some positions."""
        return NormSlope.of(self.norm, where.of(self.stream), where.of(self.scale))

    @property
    def value(self) -> Tensor:
        """What the norm gives by what was learned of it."""
        return self.norm.linear(self.stream, self.scale) + self.norm.bias


# --- a layer -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LayerPullback:
    """One layer, prepared: gradients after it become gradients before it.

    Attributes:
        parts: of the layer.
        norms: before attention and before the MLP; None where there is none.
        neurons: linear map -> slope of the neurons in what it gives [row, position, out].
        rotations: of q, k and v; None where autograd goes from these to their maps.
        calls: q, k and v of the attention call, with their graph.
        maps: linear map -> what it gave.
        z: [row, position, head, d_value].
        heads: `q` (times the scale) and `pattern` [row, kv, group, query, ...], `k` (times the scale), `v`
            [row, kv, position, ...].
    """

    parts: LayerParts
    norms: tuple[NormAt | None, NormAt | None]
    neurons: Mapping[nn.Module, Tensor]
    rotations: Mapping[str, Rotation] | None
    calls: Mapping[str, Tensor]
    maps: Mapping[nn.Module, Tensor]
    z: Tensor
    heads: Mapping[str, Tensor]

    def __call__(self, grads: Grads, where: Where) -> Grads:
        """Gradients after the layer, at the positions of `where`, as gradients before it at all up to its length."""
        before_attention, before_mlp = self.norms
        middle = _before(before_mlp, self._of_mlp(grads, where), grads, where)
        inner = self._of_attention(grads if self.parts.layer.parallel else middle, where)
        return _before(before_attention, inner, where.spread(middle), Upto(where.length))

    def _of_mlp(self, grads: Tensor, where: Where) -> Tensor:
        """After the MLP -> after its norm."""
        places = self.parts.layer.places
        wide = times(grads, places["mlp_act"].module)
        if places["mlp_contrib"].scale != 1.0:
            wide.mul_(places["mlp_contrib"].scale)
        found, last = None, len(self.neurons) - 1
        for number, (module, slope) in enumerate(self.neurons.items()):
            here, copies = where.of(slope), slope.shape[-1] // wide.shape[-1]
            inner = wide if copies == 1 else wide.repeat(1, 1, 1, copies)
            inner = inner.mul_(here) if copies > 1 or number == last else inner * here
            found = times(inner, module, found)
        assert found is not None
        return found

    def _of_attention(self, grads: Tensor, where: Where) -> Tensor:
        """After attention, at the positions of `where` -> after its norm, at all positions up to its length."""
        assert self.parts.layer.output_projection is not None
        pattern, length = where.queries(self.heads["pattern"])[..., : where.length], where.length
        kv, group = self.heads["pattern"].shape[1:3]
        targets = len(grads)
        out = times(grads, self.parts.layer.output_projection).view(*grads.shape[:3], kv * group, -1)
        if self.parts.scale != 1.0:
            out.mul_(self.parts.scale)

        def by_head(value: Float[Tensor, "target row query head more"]) -> Float[Tensor, "row kv query target more"]:
            return value.unflatten(3, (kv, group)).permute(1, 3, 4, 2, 0, 5).flatten(2, 3)

        along = by_head((out * where.of(self.z)).sum(dim=-1, keepdim=True))
        out = by_head(out)
        keys, values = self.heads["k"][:, :, :length], self.heads["v"][:, :, :length]
        inner = (out.flatten(2, 3) @ values.transpose(2, 3)).unflatten(2, (-1, targets))
        inner.sub_(along).mul_(pattern)
        q = (inner.flatten(2, 3) @ keys).unflatten(2, (group, -1, targets))
        calls = {
            "q": q.permute(4, 0, 3, 1, 2, 5).flatten(3, 4),
            "k": where.summed(inner, where.queries(self.heads["q"])).permute(2, 0, 3, 1, 4),
            "v": where.summed(out, pattern).permute(2, 0, 4, 1, 3),
        }
        return self._of_calls(calls, where)

    def _of_calls(self, calls: Mapping[str, Tensor], where: Where) -> Tensor:
        """At q, k and v [target, row, position, head, ...] -> after the norm; q at the positions of `where`."""
        assert self.parts.projections is not None
        if self.rotations is None:
            return self._by_autograd({**calls, "q": where.spread(calls["q"])})
        found = None
        for kind, projection in self.parts.projections:
            turned = self.rotations[kind](calls[kind], where if kind == "q" else Upto(where.length)).flatten(3)
            found = times(turned, projection.module, found)
            found = where.spread(found) if kind == "q" else found
        assert found is not None
        return found

    def _by_autograd(self, calls: Mapping[str, Tensor]) -> Tensor:
        length, whole = calls["q"].shape[2], self.calls["q"].shape[1]
        padded = [nn.functional.pad(calls[kind], (0, 0, 0, 0, 0, whole - length)) for kind in KINDS]
        assert self.parts.projections is not None
        modules = list(dict.fromkeys(projection.module for _, projection in self.parts.projections))
        slopes = torch.autograd.grad(
            [self.calls[kind] for kind in KINDS],
            [self.maps[module] for module in modules],
            padded,
            retain_graph=True,
            is_grads_batched=True,
        )
        found = None
        for module, slope in zip(modules, slopes, strict=True):
            found = times(slope[:, :, :length], module, found)
        assert found is not None
        return found


def _before(norm: NormAt | None, grads: Tensor, onto: Tensor, where: Where) -> Tensor:
    """Gradients after a norm as those before it, added to those that go past it."""
    return onto + grads if norm is None else norm.slope(where)(grads, onto)


def prepared(
    part: LayerParts, seen: Seen, scale: float, tolerance: float, before: LayerPullback | None
) -> LayerPullback:
    """A layer's pullback from what it did.

    Args:
        part: of the layer.
        seen: what it did.
        scale: by which q·k is multiplied.
        tolerance: relative rounding of a sum in the model's dtype.
        before: the layer before it, whose rotations are tried first.

    Raises:
        Unexplained: the run was not what the formulas say.
    """
    norms = NormAt.of(part.attn_norm, seen.values["stream"]), NormAt.of(part.mlp_norm, seen.values["middle"])
    _check(part, seen, norms, tolerance)
    rows, length, heads, width = seen.values["q"].shape
    kv = seen.values["k"].shape[2]
    pattern = seen.values["pattern"].to(seen.values["z"]).unflatten(1, (kv, heads // kv))
    queries = (seen.values["q"].detach() * scale).view(rows, length, kv, heads // kv, width).permute(0, 2, 3, 1, 4)
    keys, values = (seen.values[kind].detach().transpose(1, 2) for kind in ("k", "v"))
    z = seen.values["z"].view(rows, length, heads, -1)
    if not same((pattern @ values[:, :, None]).permute(0, 3, 1, 2, 4).reshape(z.shape), z, tolerance):
        raise Unexplained("z is not the pattern's mean of the values")
    assert part.projections is not None
    rotations: dict[str, Rotation] = {}
    known = {} if before is None or before.rotations is None else before.rotations
    for kind, own in part.projections:
        straight = torch.equal(own.columns.flatten(), torch.arange(own.columns.numel()))
        found = (
            rotation_of(seen.values[kind], seen.maps[own.module], len(own.columns), known.get(kind), tolerance)
            if straight
            else None
        )
        if found is not None:
            rotations[kind] = found
    turned = len(rotations) == len(KINDS)
    return LayerPullback(
        part,
        norms,
        _neurons(seen),
        rotations if turned else None,
        {} if turned else {kind: seen.values[kind] for kind in KINDS},
        {} if turned else dict(seen.maps),
        z,
        {"q": queries, "k": (keys * scale).contiguous(), "v": values.contiguous(), "pattern": pattern},
    )


def _neurons(seen: Seen) -> dict[nn.Module, Tensor]:
    """The maps on which the neurons depend, with the slope of the neurons in what each gave."""
    neurons, maps = seen.values["neurons"], list(seen.maps.items())
    slopes = torch.autograd.grad(neurons.sum(), [made for _, made in maps], retain_graph=True, allow_unused=True)
    found = {module: slope for (module, _), slope in zip(maps, slopes, strict=True) if slope is not None}
    if not found or any(slope.shape[-1] % neurons.shape[-1] for slope in found.values()):
        raise Unexplained("the neurons are not functions of maps as wide as they are")
    return found


def _check(part: LayerParts, seen: Seen, norms: tuple[NormAt | None, NormAt | None], tolerance: float) -> None:
    """The run was what the formulas say: the stream a sum, the maps fed by the norms, z changed by nobody."""
    values, scale = seen.values, part.layer.places["mlp_contrib"].scale
    attended = values["stream"] + part.scale * values["attn_gave"]
    assert part.projections is not None
    readers = {own.module for _, own in part.projections}
    fed = {
        True: values["stream"] if norms[0] is None else norms[0].value,
        False: values["middle"] if norms[1] is None else norms[1].value,
    }
    links = [
        (values["middle"], values["stream"] if part.layer.parallel else attended),
        (values["after"], attended + scale * values["mlp_gave"]),
        (values["attn_taken"], values["z"]),
        *((taken, fed[module in readers]) for module, taken in seen.taken.items()),
    ]
    if not all(same(one, other, tolerance) for one, other in links):
        raise Unexplained("the stream is not the sum of what the layer's parts add")


# --- what a layer does ---------------------------------------------------------------------------------------------


def watching(
    part: LayerParts, seen: Seen, *, learn: bool = False
) -> tuple[list[taps.ModuleTap], dict[nn.Module, taps.AttentionTap]]:
    """Taps that see what a layer does, and end the graph between its parts.

    Args:
        part: of the layer.
        seen: gets what is seen.
        learn: see the scores too, with a graph that begins at q.

    Raises:
        Unexplained: it has a part that the formulas do not say.
    """
    layer = part.layer
    places = layer.places
    needed = ("resid_pre", "resid_post", "mlp_in", "mlp_act", "mlp_contrib", "z")
    if part.projections is None or not part.heads or not part.mlp or any(kind not in places for kind in needed):
        raise Unexplained("the layer is no attention of heads and one MLP")
    if not (places["resid_pre"].is_plain and places["mlp_act"].is_plain) or layer.output_projection is None:
        raise Unexplained("a value lies otherwise than in a tensor of its own")
    outer = taps._attention_taps.get(layer.attention) if layer.attention is not None else None
    if outer is not None and outer.wants_weights:
        raise Unexplained("somebody else has a tap on the scores or the pattern")
    down, out = places["mlp_act"].module, layer.output_projection

    middle = layer.module if layer.parallel else part.mlp_norm.module or places["mlp_in"].module
    modules = [
        taps.ModuleTap(layer.module, "in", partial(seen.end, "entered")),
        taps.ModuleTap(layer.module, "in", partial(seen.keep, "stream")),
        taps.ModuleTap(layer.module, "out", partial(seen.keep, "after"), layer.out_index),
        taps.ModuleTap(middle, "in", partial(seen.keep, "middle")),
        taps.ModuleTap(out, "in", partial(seen.keep, "attn_taken")),
        taps.ModuleTap(out, "out", partial(seen.keep, "attn_gave")),
        taps.ModuleTap(down, "in", partial(seen.end, "neurons")),
        taps.ModuleTap(down, "out", partial(seen.keep, "mlp_gave")),
    ]
    for module in linear_maps(layer):
        if module not in (down, out):
            modules.append(taps.ModuleTap(module, "in", partial(seen.take, module)))
            modules.append(taps.ModuleTap(module, "out", partial(seen.make, module)))
    visitors: dict[str, taps.Visitor] = {
        "q": seen.ask if learn else partial(seen.end, "q"),
        "k": partial(seen.end, "k"),
        "v": partial(seen.end, "v"),
        "pattern": partial(seen.keep, "pattern"),
        "z": partial(seen.cut, "z"),
    }
    if learn:
        visitors["scores"] = lambda value: seen.values.__setitem__("scores", value)
    assert layer.attention is not None
    return modules, {layer.attention: beside(layer.attention, taps.AttentionTap(visitors))}


def scale_of(seen: Seen) -> float:
    """By what q·k is multiplied, from the slope of one score in its query."""
    scores, queries = seen.values["scores"], seen.values["asked"]
    (slope,) = torch.autograd.grad(scores[0, 0, -1, 0], queries)
    key = seen.values["k"].detach()[0, 0, 0].double()
    return float(slope[0, -1, 0].double() @ key / (key @ key))
