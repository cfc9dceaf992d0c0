"""How an MLP's numbers come about: plain and gated MLPs, routers, and mixtures of experts; and the logits at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.apps.inspection.formula import Formula, Operand, Proposal, dot, plain, total
from cutaway.apps.inspection.spot import Matrix, Spot, matrix
from cutaway.core.site import Site

Activation = tuple[str, Callable[[Tensor], Tensor]]


def mlp_pre(at: Spot) -> Iterator[Proposal]:
    """A neuron before its activation function: a linear map of the MLP's input."""
    if not at.has("mlp_in"):
        return
    x, width = at.row("mlp_in"), int(at.row("mlp_pre").shape[-1])
    for map_, start in _wide(at, x, width):
        yield _linear("mlp_pre", map_, x, start, width)


def _wide(at: Spot, x: Tensor, width: int) -> Iterator[tuple[Matrix, int]]:
    for map_ in at.matrices(len(x), width):
        for start in {0, map_.weight.shape[1] - width}:
            yield map_, start


def _linear(name: str, map_: Matrix, x: Tensor, start: int, width: int, source: str = "mlp_in") -> Proposal:
    def cell(unit: int) -> Formula:
        bias = None if map_.bias is None else float(map_.bias[start + unit])
        text = f"{name} = W ({map_.name}) · {source}" + ("" if bias is None else " + bias")
        return dot(text, map_.weight[:, start + unit], x, lambda i: f"W[{i}] · {source}.unit[{i}]", bias=bias)

    return Proposal(lambda: map_.apply(x, slice(start, start + width)), cell)


def mlp_act(at: Spot) -> Iterator[Proposal]:
    """The activation function of a neuron, times the other branch where the MLP is gated."""
    if not at.has("mlp_pre"):
        return
    before, site = at.row("mlp_pre"), at.site("mlp_pre")
    for name, function in _activations(at):
        out = function(before)
        if out.shape != before.shape:
            continue
        yield _plain_activation(name, before, out, site)
        if at.has("mlp_in"):
            x = at.row("mlp_in")
            for map_, start in _wide(at, x, len(before)):
                yield _gated(name, before, out, site, map_, x, start)


def _plain_activation(name: str, before: Tensor, out: Tensor, site: Callable[[int], str]) -> Proposal:
    def cell(unit: int) -> Formula:
        operand = Operand("mlp_pre", float(before[unit]), site(unit))
        return Formula(f"mlp_act = {name}(mlp_pre)", f"{name}({plain(operand.value)})", float(out[unit]), (operand,))

    return Proposal(lambda: out, cell)


def _gated(
    name: str, before: Tensor, out: Tensor, site: Callable[[int], str], map_: Matrix, x: Tensor, start: int
) -> Proposal:
    up = map_.apply(x, slice(start, start + len(before)))

    def cell(unit: int) -> Formula:
        gate, other, acted = float(before[unit]), float(up[unit]), float(out[unit])
        operands = (
            Operand("gate (mlp_pre)", gate, site(unit)),
            Operand(f"{name}(gate)", acted),
            Operand(f"up = W ({map_.name}) · mlp_in", other),
        )
        return Formula(
            f"mlp_act = {name}(gate) × up", f"{name}({plain(gate)}) × {plain(other)}", acted * other, operands
        )

    return Proposal(lambda: out * up, cell)


def _activations(at: Spot) -> list[Activation]:
    """The functions without weights that stand in the layer, by the names that transformers has for them."""
    assert at.layer is not None
    found: dict[str, Activation] = {}
    for module in (*at.layer.module.modules(), *_attributes(at.layer.module)):
        name = type(module).__name__.removesuffix("Activation")
        weightless = next(module.parameters(), None) is None and next(module.children(), None) is None
        if weightless and not isinstance(module, nn.Dropout | nn.Identity) and "rotary" not in name.lower():
            found.setdefault(name, (name, _quiet(module)))
    return list(found.values())


def _attributes(layer: nn.Module) -> list[nn.Module]:
    """Activation functions that are kept as plain attributes."""
    wanted = ("act_fn", "act", "activation_fn", "activation")
    values = (module.__dict__.get(name) for module in layer.modules() for name in wanted)
    return [value for value in values if isinstance(value, nn.Module)]


def _quiet(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """The function on one row; what it cannot take gives an empty row, which agrees with nothing."""

    def call(x: Tensor) -> Tensor:
        try:
            out: Any = module(x)
        except (TypeError, RuntimeError, ValueError):
            return x.new_zeros(0)
        return out if isinstance(out, Tensor) else x.new_zeros(0)

    return call


def mlp_out(at: Spot) -> Iterator[Proposal]:
    """The neurons through the last projection; in a mixture the chosen experts, and the shared one."""
    assert at.layer is not None
    if at.has("mlp_act"):
        x = at.row("mlp_act")
        map_ = matrix("down", at.layer.places["mlp_act"].module)
        if map_ is not None and map_.weight.shape[0] == len(x):
            yield _linear("mlp_out", map_, x, 0, int(map_.weight.shape[1]), "mlp_act")
    if at.has("expert_out"):
        yield from _mixture(at)


def _mixture(at: Spot) -> Iterator[Proposal]:
    assert at.layer is not None
    every = at.whole("expert_out")[:, at.position]
    chosen = [e for e in range(every.shape[0]) if bool(every[e].any())]
    if not chosen:
        return
    parts = [(f"expert {e}", every[e], _expert_site(at, e)) for e in chosen]
    yield total("mlp_out", parts)
    if not at.has("mlp_in"):
        return
    x = at.row("mlp_in")[None, None]
    for name, module in at.layer.module.named_modules():
        if "shared" in name.rpartition(".")[2] and next(module.children(), None) is not None:
            with torch.no_grad():
                shared = module(x)
            yield total("mlp_out", [*parts, ("shared expert", shared[0, 0], lambda unit: "")])
            gate = next((m for n, m in at.layer.module.named_modules() if n.endswith("shared_expert_gate")), None)
            if gate is not None:
                with torch.no_grad():
                    part = torch.sigmoid(gate(x)) * shared
                yield total("mlp_out", [*parts, ("gate × shared expert", part[0, 0], lambda unit: "")])


def _expert_site(at: Spot, expert: int) -> Callable[[int], str]:
    assert at.layer is not None
    index = at.layer.index
    return lambda unit: str(Site("expert_out", index, expert=expert, unit=unit, position=at.position))


def router(at: Spot) -> Iterator[Proposal]:
    """The logit of an expert: a linear map of the MLP's input."""
    assert at.layer is not None
    if not at.has("mlp_in"):
        return
    x, place = at.row("mlp_in"), at.layer.places["router"]
    weight = getattr(place.module, "weight", None)
    if isinstance(weight, Tensor) and weight.dim() == 2 and weight.shape[1] == len(x):
        bias = getattr(place.module, "bias", None)
        plain_bias = bias.detach() if isinstance(bias, Tensor) else None
        for one in (Matrix("router", weight.detach().T, plain_bias), Matrix("router", weight.detach().T, None)):
            yield _linear("router", one, x, 0, int(weight.shape[0]))


def expert_out(at: Spot, expert: int) -> Iterator[Proposal]:
    """What one expert adds: the router's weight times its own gated MLP; nothing where it was not chosen."""
    assert at.layer is not None
    actual = at.whole("expert_out")[expert, at.position]
    if not bool(actual.any()):
        text = "expert_out = 0: the router did not choose this expert for this token"
        yield Proposal(lambda: torch.zeros_like(actual), lambda unit: Formula(text, "0", 0.0))
        return
    if not at.has("mlp_in", "router"):
        return
    logits = at.row("router").double()
    for out in _one_expert(at, expert):
        for name, weight in _router_weights(at, logits, expert):
            yield _weighted(name, weight, out)


def _one_expert(at: Spot, expert: int) -> Iterator[Tensor]:
    """The output of one expert before its weight, where experts are gated and hold their matrices in one tensor."""
    assert at.layer is not None
    first, last = (getattr(at.layer.experts, name, None) for name in ("gate_up_proj", "down_proj"))
    if not isinstance(first, Tensor) or not isinstance(last, Tensor) or first.dim() != 3:
        return
    x, first, last = at.row("mlp_in"), first[expert].detach(), last[expert].detach()
    wide = first @ x.to(first) if first.shape[1] == len(x) else x.to(first) @ first
    gate, up = wide.chunk(2)
    for _, function in _activations(at):
        acted = function(gate)
        if acted.shape == up.shape:
            inside = acted * up
            yield last @ inside if last.shape[1] == len(inside) else inside @ last


def _router_weights(at: Spot, logits: Tensor, expert: int) -> Iterator[tuple[str, float]]:
    """How much a chosen expert counts: the ways in which routers turn their logits into weights."""
    chosen = at.whole("expert_out")[:, at.position].flatten(1).any(dim=-1).to(logits.device)
    every, sigmoid = logits.softmax(-1), logits.sigmoid()
    yield "softmax(router)", float(every[expert])
    yield "softmax(router) among the chosen", float(every[expert] / every[chosen].sum())
    yield "sigmoid(router)", float(sigmoid[expert])
    yield "sigmoid(router) among the chosen", float(sigmoid[expert] / sigmoid[chosen].sum())


def _weighted(name: str, weight: float, out: Tensor) -> Proposal:
    def cell(unit: int) -> Formula:
        operands = (Operand(name, weight), Operand("expert's MLP", float(out[unit])))
        text = f"expert_out = {name} × W_down · (act(gate) × up)"
        return Formula(text, f"{plain(weight)} × {plain(float(out[unit]))}", weight * float(out[unit]), operands)

    return Proposal(lambda: out * weight, cell)


def logits(at: Spot) -> Iterator[Proposal]:
    """A token's logit: its row of the unembedding times the normalised stream."""
    end = at.model._unembedding
    if not end.exact or end.is_elsewhere:
        return
    x = at.row("final")

    def cell(unit: int) -> Formula:
        bias = None if end.bias is None else float(end.bias[unit].detach())
        text = "logit = W_U[token] · final" + ("" if bias is None else " + bias")
        inside = dot(
            text,
            end.weight[unit].detach(),
            x,
            lambda i: f"W_U[{i}] · final.unit[{i}]",
            bias=bias,
            factor=end.multiplier,
        )
        if end.softcap is None:
            return inside
        value = end.softcap * float(torch.tanh(torch.tensor(inside.value / end.softcap, dtype=torch.float64)))
        numbers = f"{plain(end.softcap)} · tanh({plain(inside.value)} / {plain(end.softcap)})"
        operands = (*inside.operands, Operand("soft-cap", end.softcap))
        return Formula(
            "logit = cap · tanh(W_U[token] · final / cap)", numbers, value, operands, inside.terms, inside.count
        )

    with torch.no_grad():
        row = end.of_final(x)
    yield Proposal(lambda: row, cell)
