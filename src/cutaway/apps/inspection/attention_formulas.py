"""How a head's numbers come about: projections, rotary embedding, scores, softmax, and what the values add up to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from cutaway.apps.inspection.anatomy import scaling
from cutaway.apps.inspection.formula import Formula, Operand, Proposal, dot, plain
from cutaway.apps.inspection.spot import Matrix, Spot, matrix
from cutaway.apps.inspection.stream_formulas import normed
from cutaway.models.anatomy import Layer

MASKED = -1e30


def projected(at: Spot, kind: str, head: int) -> Iterator[Proposal]:
    """A query, key or value as a linear map of the attention's input, perhaps normalised over the head."""
    assert at.layer is not None
    if not at.has("attn_in"):
        return
    x, width = at.row("attn_in"), int(at.row(kind).shape[-1])
    letter = kind[0]
    for map_ in at.matrices(len(x)):
        for start in _starts(at.layer, letter, head, width):
            if start + width > map_.weight.shape[1]:
                continue
            yield _linear(at, f"{kind} = W_{letter.upper()} · attn_in", map_, x, start, width)
            inner = map_.apply(x, slice(start, start + width))
            label = f"(W_{letter.upper()} · attn_in)"
            yield from normed(at, kind, [(label, inner, lambda unit: "")])


def _linear(at: Spot, text: str, map_: Matrix, x: Tensor, start: int, width: int) -> Proposal:
    columns = slice(start, start + width)

    def cell(unit: int) -> Formula:
        column = start + unit
        bias = None if map_.bias is None else float(map_.bias[column])
        told = text if bias is None else f"{text} + bias"
        return dot(told, map_.weight[:, column], x, lambda i: f"W[{i}] · attn_in.unit[{i}]", bias=bias)

    return Proposal(lambda: map_.apply(x, columns), cell)


def _starts(layer: Layer, letter: str, head: int, width: int) -> list[int]:
    """Where the columns of a head may begin: in a matrix of its own, in a fused one, or in one fused head by head."""
    queries, keys = layer.n_heads * layer.d_head, layer.n_kv_heads * layer.d_head
    offset = {"q": 0, "k": queries, "v": queries + keys}[letter]
    place = {"q": 0, "k": 1, "v": 2}[letter]
    group = layer.n_heads // max(layer.n_kv_heads, 1)
    grouped = {
        "q": (head // group) * (group + 2) + head % group,
        "k": head * (group + 2) + group,
        "v": head * (group + 2) + group + 1,
    }[letter]
    found = [head * width, offset + head * width, (head * 3 + place) * width, grouped * width]
    return list(dict.fromkeys(found))


# --- rotary embedding ----------------------------------------------------------------------------------------


def rotated(at: Spot, kind: str, head: int) -> Iterator[Proposal]:
    """A query or key after rotary embedding: pairs of coordinates turned by the position times a frequency."""
    if not at.has(f"{kind}_pre_rope"):
        return
    before = at.row(f"{kind}_pre_rope")[head]
    site = at.site(f"{kind}_pre_rope", head=head)
    for frequencies in _frequencies(at):
        for interleaved in (False, True):
            if 2 * len(frequencies) <= len(before):
                yield _turned(at, kind, before, site, frequencies, interleaved)


def _frequencies(at: Spot) -> list[Tensor]:
    """The frequencies that the network's rotary embeddings hold."""
    found: dict[tuple[float, ...], Tensor] = {}
    for name, buffer in at.model.hf.named_buffers():
        if name.endswith("inv_freq") and buffer.dim() == 1:
            found.setdefault(tuple(buffer.tolist()), buffer.detach().double().cpu())
    return list(found.values())


def _turned(
    at: Spot, kind: str, x: Tensor, site: Callable[[int], str], frequencies: Tensor, interleaved: bool
) -> Proposal:
    half, values = len(frequencies), x.double().cpu()

    def partner(unit: int) -> tuple[int, int, float]:
        """The index of the pair, the other coordinate, and the sign of the sine."""
        if interleaved:
            return unit // 2, unit ^ 1, -1.0 if unit % 2 == 0 else 1.0
        return unit % half, (unit + half) % (2 * half), -1.0 if unit < half else 1.0

    def number(unit: int) -> float:
        if unit >= 2 * half:
            return float(values[unit])
        pair, other, sign = partner(unit)
        angle = at.position * frequencies[pair]
        return float(values[unit] * angle.cos() + sign * values[other] * angle.sin())

    def cell(unit: int) -> Formula:
        name = f"{kind}_pre_rope"
        mine = Operand(f"{name}[{unit}]", float(values[unit]), site(unit))
        if unit >= 2 * half:
            return Formula(f"{kind} = {name} (not rotated)", plain(mine.value), mine.value, (mine,))
        pair, other, sign = partner(unit)
        angle = at.position * frequencies[pair]
        cos, sin = float(angle.cos()), float(angle.sin())
        second = Operand(f"{name}[{other}]", float(values[other]), site(other))
        mark = "−" if sign < 0 else "+"
        text = f"{kind} = {name}[{unit}] · cos θ {mark} {name}[{other}] · sin θ,  θ = position × frequency"
        numbers = f"{plain(mine.value)}·{plain(cos)} {mark} {plain(second.value)}·{plain(sin)}"
        turn = (Operand("θ", float(angle)), Operand("cos θ", cos), Operand("sin θ", sin))
        operands = (
            mine,
            second,
            Operand("position", at.position),
            Operand("frequency", float(frequencies[pair])),
            *turn,
        )
        return Formula(text, numbers, number(unit), operands)

    return Proposal(lambda: torch.tensor([number(unit) for unit in range(len(values))]), cell)


# --- scores, pattern, z --------------------------------------------------------------------------------------


def key_head(at: Spot, head: int) -> int:
    """The key/value head that a query head shares."""
    assert at.layer is not None
    return head // max(1, at.layer.n_heads // max(at.layer.n_kv_heads, 1))


def scores(at: Spot, head: int) -> Iterator[Proposal]:
    """Query times key, scaled, and soft-capped where the network does so; masked keys say that they are."""
    assert at.layer is not None
    if not at.has("q", "k"):
        return
    actual = at.whole("scores")[head, at.position]
    query, keys = at.row("q")[head], at.whole("k")[:, key_head(at, head)]
    factor = scaling(at.layer)
    module: Any = at.layer.attention
    caps = [None, getattr(module, "attn_logit_softcapping", None)]
    for scale in dict.fromkeys([factor, at.layer.d_head**-0.5, 1.0]):
        for cap in dict.fromkeys(caps):
            if scale is not None:
                yield _scores(at, actual, query, keys, float(scale), cap)


def _scores(at: Spot, actual: Tensor, query: Tensor, keys: Tensor, scale: float, cap: float | None) -> Proposal:
    def row() -> Tensor:
        raw = (keys @ query.to(keys)) * scale
        raw = raw if cap is None else cap * torch.tanh(raw / cap)
        return torch.where(actual > MASKED, raw.to(actual), actual)

    def cell(unit: int) -> Formula:
        if float(actual[unit]) <= MASKED:
            why = "the query does not see this key: it comes later, or lies outside the window"
            return Formula(f"score = −∞ ({why})", "masked", float(actual[unit]))
        inside = dot(
            "score = q · k × scale",
            query,
            keys[unit],
            lambda i: f"q.unit[{i}] · k.unit[{i}] (key {unit})",
            factor=scale,
        )
        if cap is None:
            return inside
        value = cap * float(torch.tanh(torch.tensor(inside.value / cap, dtype=torch.float64)))
        numbers = f"{plain(cap)} · tanh({plain(inside.value)} / {plain(cap)})"
        operands = (*inside.operands, Operand("soft-cap", cap))
        text = "score = cap · tanh(q · k × scale / cap)"
        return Formula(text, numbers, value, operands, inside.terms, inside.count, inside.rest)

    return Proposal(row, cell)


def pattern(at: Spot, head: int) -> Iterator[Proposal]:
    """The softmax of the scores over the keys, with a sink beside them where the head has one."""
    assert at.layer is not None
    if not at.has("scores"):
        return
    logits = at.whole("scores")[head, at.position].double()
    sinks = getattr(at.layer.attention, "sinks", None)
    extras: list[float | None] = [None]
    if isinstance(sinks, Tensor) and sinks.numel() > head:
        extras.append(float(sinks.detach().flatten()[head]))
    for sink in extras:
        yield _softmax(at, head, logits, sink)


def _softmax(at: Spot, head: int, logits: Tensor, sink: float | None) -> Proposal:
    every = logits if sink is None else torch.cat([logits, logits.new_tensor([sink])])
    top = float(every.max())
    weights = (every - top).exp()
    whole = float(weights.sum())

    def cell(unit: int) -> Formula:
        score, above = float(logits[unit]), float(weights[unit])
        shown = score if score > MASKED else float("-inf")
        text = "pattern = exp(score − max) / Σ exp(score − max)"
        operands = [
            Operand("score", max(shown, -1e30), at.site("scores", head=head)(unit)),
            Operand("max", top),
            Operand("exp(score − max)", above),
            Operand("Σ over keys", whole),
        ]
        if sink is not None:
            text += " (the sum has a sink)"
            operands.append(Operand("sink", sink))
        said = f"exp({plain(shown)} − {plain(top)}) / {plain(whole)}"
        return Formula(text, said, above / whole, tuple(operands))

    return Proposal(lambda: weights[: len(logits)] / whole, cell)


def z(at: Spot, head: int) -> Iterator[Proposal]:
    """The values of all keys, weighted by the pattern."""
    if not at.has("pattern", "v"):
        return
    weights = at.whole("pattern")[head, at.position]
    values = at.whole("v")[:, key_head(at, head)]

    def cell(unit: int) -> Formula:
        return dot(
            "z = Σ over keys of pattern · v", weights, values[:, unit], lambda i: f"pattern[key {i}] · v[key {i}]"
        )

    yield Proposal(lambda: weights.to(values) @ values, cell)


def attn_out(at: Spot) -> Iterator[Proposal]:
    """The heads side by side, through the output projection."""
    assert at.layer is not None
    module = at.layer.output_projection
    if not at.has("z") or module is None or (map_ := matrix("W_O", module)) is None:
        return
    heads = at.row("z")
    flat, width = heads.reshape(-1), int(heads.shape[-1])
    if len(flat) != map_.weight.shape[0]:
        return

    def named(i: int) -> str:
        return f"W_O · z.head[{i // width}].unit[{i % width}]"

    def cell(unit: int) -> Formula:
        bias = None if map_.bias is None else float(map_.bias[unit])
        text = "attn_out = Σ over heads of W_O · z" + ("" if bias is None else " + bias")
        return dot(text, map_.weight[:, unit], flat, named, bias=bias)

    yield Proposal(lambda: map_.apply(flat), cell)
