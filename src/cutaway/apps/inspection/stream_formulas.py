"""How the residual stream comes about: sums, norms, and the embedding that starts it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from cutaway.apps.inspection.formula import Formula, Operand, Proposal, plain, same, total
from cutaway.apps.inspection.spot import Spot, epsilon

Named = tuple[str, Tensor, Callable[[int], str]]


def embed(at: Spot) -> Iterator[Proposal]:
    """A row of the embedding matrix, times the scale that some networks give it."""
    module = at.model.anatomy.embed
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() != 2:
        return
    token = at.ids[at.position]
    row = weight[token].detach()
    yield _scaled("embed = W_E[token]", row, 1.0)
    for name in ("embed_scale", "scalar_embed_scale"):
        if (factor := getattr(module, name, None)) is not None:
            yield _scaled("embed = W_E[token] × scale", row, float(factor))
    yield _scaled("embed = W_E[token] × √d_model", row, float(len(row)) ** 0.5)


def _scaled(text: str, row: Tensor, factor: float) -> Proposal:
    def cell(unit: int) -> Formula:
        weight = float(row[unit])
        operands = [Operand("W_E[token]", weight)]
        if factor != 1.0:
            operands.append(Operand("scale", factor))
        return Formula(text, " × ".join(plain(o.value) for o in operands), weight * factor, tuple(operands))

    return Proposal(lambda: row * factor, cell)


def resid_pre(at: Spot) -> Iterator[Proposal]:
    """The layer before, or the embedding."""
    assert at.layer is not None
    if at.layer.index > 0:
        before = at.layer.index - 1
        source = f"resid_post[{before}]"
        yield same("resid_pre", source, at.row("resid_post", before), at.site("resid_post", before))
        return
    token: Named = ("embed", at.row("embed"), at.site("embed"))
    yield same("resid_pre", *token)
    outside = Spot(at.model, at.ids, None, at.position)
    for extra in _positions(at, len(token[1])):
        yield total("resid_pre", [token, *extra])
        yield from normed(outside, "resid_pre", [token, *extra])
    yield from normed(outside, "resid_pre", [token])


def _positions(at: Spot, width: int) -> Iterator[list[Named]]:
    """Rows that other embeddings may add: of the position, and of the first kind of token."""
    others = [
        (path.rpartition(".")[2], module.weight.detach())
        for path, module in at.model.hf.named_modules()
        if isinstance(module, nn.Embedding) and module is not at.model.anatomy.embed and module.weight.shape[1] == width
    ]
    places = [(n, w) for n, w in others if w.shape[0] > at.position + 2 and "type" not in n]
    kinds = [(n, w[0]) for n, w in others if "type" in n]
    for name, weight in places:
        for shift in (0, 2):
            place: Named = (f"{name}[{at.position + shift}]", weight[at.position + shift], _nowhere)
            yield [place]
            for kind, row in kinds:
                yield [place, (f"{kind}[0]", row, _nowhere)]
    for kind, row in kinds:
        yield [(f"{kind}[0]", row, _nowhere)]


def _nowhere(unit: int) -> str:
    return ""


def named(at: Spot, *kinds: str) -> list[Named]:
    """Rows of sites with their names."""
    return [(kind, at.row(kind), at.site(kind)) for kind in kinds]


def resid_mid(at: Spot) -> Iterator[Proposal]:
    """The stream and what attention adds."""
    yield from _sums(at, "resid_mid", ("resid_pre", "attn_contrib"))


def resid_post(at: Spot) -> Iterator[Proposal]:
    """The stream and what the MLP adds; in a parallel layer what both add."""
    yield from _sums(at, "resid_post", ("resid_mid", "mlp_contrib"))
    yield from _sums(at, "resid_post", ("resid_pre", "attn_contrib", "mlp_contrib"))
    yield from _sums(at, "resid_post", ("resid_pre", "attn_contrib"))
    yield from _sums(at, "resid_post", ("resid_pre", "mlp_contrib"))


def _sums(at: Spot, name: str, kinds: Sequence[str]) -> Iterator[Proposal]:
    if at.has(*kinds):
        parts = named(at, *kinds)
        yield total(name, parts)
        yield from normed(at, name, parts)


def attn_in(at: Spot) -> Iterator[Proposal]:
    """The stream, normalised."""
    yield from _from(at, "attn_in", "resid_pre")


def mlp_in(at: Spot) -> Iterator[Proposal]:
    """The stream, normalised."""
    yield from _from(at, "mlp_in", "resid_mid", "resid_pre", "attn_in")


def attn_contrib(at: Spot) -> Iterator[Proposal]:
    """What attention gives, where there is no norm or factor between."""
    yield from _from(at, "attn_contrib", "attn_out")
    yield from _times(at, "attn_contrib", "attn_out")


def mlp_contrib(at: Spot) -> Iterator[Proposal]:
    """What the MLP gives, where there is no norm or factor between."""
    yield from _from(at, "mlp_contrib", "mlp_out")
    yield from _times(at, "mlp_contrib", "mlp_out")


def _from(at: Spot, name: str, *kinds: str) -> Iterator[Proposal]:
    for kind in kinds:
        if at.has(kind):
            (part,) = named(at, kind)
            yield same(name, *part)
            yield from normed(at, name, [part])


def _times(at: Spot, name: str, kind: str) -> Iterator[Proposal]:
    """The same times a number that the network's code has."""
    assert at.layer is not None
    place = at.layer.places.get(name)
    if place is None or place.scale == 1.0 or not at.has(kind):
        return
    row, site, factor = at.row(kind), at.site(kind), place.scale

    def cell(unit: int) -> Formula:
        value = float(row[unit])
        operands = (Operand(kind, value, site(unit)), Operand("multiplier", factor))
        return Formula(f"{name} = multiplier × {kind}", f"{plain(factor)} × {plain(value)}", value * factor, operands)

    yield Proposal(lambda: row * factor, cell)


def final(at: Spot) -> Iterator[Proposal]:
    """The last stream, normalised."""
    last = at.model.anatomy.n_layers - 1
    part: Named = (f"resid_post[{last}]", at.row("resid_post", last), at.site("resid_post", last))
    yield same("final", *part)
    yield from normed(at, "final", [part])


# --- norms ---------------------------------------------------------------------------------------------------


def normed(at: Spot, name: str, parts: Sequence[Named]) -> Iterator[Proposal]:
    """A norm of a sum of rows: LayerNorm, RMSNorm, and RMSNorm whose weight is added to one."""
    inside = torch.stack([values for _, values, _ in parts]).sum(dim=0).double()
    for norm in at.norms():
        weight = getattr(norm, "weight", None)
        if isinstance(weight, Tensor) and weight.shape != inside.shape:
            continue
        gain = weight.detach().double() if isinstance(weight, Tensor) else torch.ones_like(inside)
        bias = getattr(norm, "bias", None)
        shift = bias.detach().double() if isinstance(bias, Tensor) else None
        for centre in (False, True):
            for added in (0.0, 1.0):
                yield _norm(name, parts, inside, _Norm(gain + added, shift, epsilon(norm), centre, added))


class _Norm:
    """One norm's numbers."""

    def __init__(self, gain: Tensor, bias: Tensor | None, eps: float, centre: bool, added: float) -> None:
        self.gain, self.bias, self.eps, self.centre = gain, bias, eps, centre
        self.weight = "(1 + weight)" if added else "weight"

    def mean(self, x: Tensor) -> Tensor:
        return x.mean() if self.centre else torch.zeros((), dtype=x.dtype, device=x.device)

    def spread(self, x: Tensor) -> Tensor:
        return ((x - self.mean(x)).square().mean() + self.eps).sqrt()

    def row(self, x: Tensor) -> Tensor:
        out = (x - self.mean(x)) / self.spread(x) * self.gain
        return out if self.bias is None else out + self.bias


def _norm(name: str, parts: Sequence[Named], x: Tensor, norm: _Norm) -> Proposal:
    source = " + ".join(part for part, _, _ in parts)
    inner = f"({source})" if len(parts) > 1 else source

    def cell(unit: int) -> Formula:
        operands = [Operand(part, float(values[unit]), site(unit)) for part, values, site in parts]
        value = float(x[unit])
        mean, spread, gain = float(norm.mean(x)), float(norm.spread(x)), float(norm.gain[unit])
        above = f"({inner} − mean)" if norm.centre else inner
        text = f"{name} = {above} / {'σ' if norm.centre else 'rms'} × {norm.weight}"
        numbers = f"({plain(value)} − {plain(mean)})" if norm.centre else plain(value)
        numbers += f" / {plain(spread)} × {plain(gain)}"
        if norm.centre:
            operands.append(Operand("mean over units", mean))
        operands += [Operand("σ" if norm.centre else "rms", spread), Operand(norm.weight.strip("()"), gain)]
        if norm.bias is not None:
            text, numbers = f"{text} + bias", f"{numbers} + {plain(float(norm.bias[unit]))}"
            operands.append(Operand("bias", float(norm.bias[unit])))
        return Formula(text, numbers, float(norm.row(x)[unit]), tuple(operands))

    return Proposal(lambda: norm.row(x), cell)
