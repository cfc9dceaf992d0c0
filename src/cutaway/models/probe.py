"""Which module is what? One short forward pass is watched, and the parts of a layer are told by their values.

No table of architectures: a layer adds the outputs of its branches to the residual stream, and the sums that it
computes are seen as inputs of its modules. So the branch outputs (with their post-norms and multipliers) are the
tensors that explain the steps of the stream: `resid_mid = resid_pre + s * out`. What no step explains is not served.

Works for pre-norm, post-norm and parallel layers, layers that add the residual inside their attention or MLP module,
fused projections, gated MLPs, mixtures of experts, and layers without attention. Limits: hyper-connections and other
streams of more than one lane are not explained by such steps, and are refused by name.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.models import taps

MLP_NAME = re.compile(r"mlp|ffn|feed_forward|feedforward|moe|expert|\bff\b|fc\d|intermediate|block_sparse", re.I)

ATTENTION_NAME = re.compile(r"attention|attn", re.I)


@dataclass
class Call:
    """One run of one module during the probe."""

    path: str
    module: nn.Module
    order: int
    inp: Tensor | None
    outs: list[tuple[int | None, Tensor]]

    @property
    def is_leaf(self) -> bool:
        """True for a module without children."""
        return next(self.module.children(), None) is None

    @property
    def has_matrix(self) -> bool:
        """True when it, or a module inside it, multiplies by a matrix."""
        return any(p.dim() >= 2 for p in self.module.parameters()) or _is_quantised(self.module)


@dataclass
class AttentionCall:
    """One call of the attention function during the probe."""

    module: nn.Module
    order: int
    q: Tensor
    k: Tensor
    v: Tensor
    z: Tensor


@dataclass
class Weights:
    """A softmax that was seen during the probe: its pattern [1, head, query, key] and the columns beyond the keys."""

    pattern: Tensor
    sinks: int
    calls: int


@dataclass
class Trace:
    """What the probe saw of one layer."""

    index: int
    path: str
    module: nn.Module
    calls: list[Call] = field(default_factory=list)
    attention: list[AttentionCall] = field(default_factory=list)
    experts: list[nn.Module] = field(default_factory=list)
    weights: dict[nn.Module, Weights] = field(default_factory=dict)
    linears: dict[nn.Module, list[int]] = field(default_factory=dict)
    fleeting: set[int] = field(default_factory=set)
    inp: Tensor | None = None
    out: Tensor | None = None
    out_index: int | None = None
    runs: int = 0
    shares: bool = False
    length: int = 0

    @property
    def once(self) -> list[Call]:
        """The calls in order, of modules that run once: a module that runs twice is no address of a value."""
        number = Counter(call.module for call in self.calls)
        return sorted((c for c in self.calls if number[c.module] == 1), key=lambda call: call.order)

    def is_fleeting(self, value: Tensor) -> bool:
        """True for values whose tensor was changed in place after it had passed."""
        return id(value) in self.fleeting


def _is_quantised(module: nn.Module) -> bool:
    return any("quant" in type(m).__module__ or "bitsandbytes" in type(m).__module__ for m in module.modules())


def tensors_of(output: Any) -> list[tuple[int | None, Tensor]]:
    """The floating tensors of a module's output, with their index in a tuple."""
    if isinstance(output, Tensor):
        return [(None, output)] if output.is_floating_point() else []
    if isinstance(output, tuple | list):
        return [(i, t) for i, t in enumerate(output) if isinstance(t, Tensor) and t.is_floating_point()]
    return []


def watch(
    hf: nn.Module,
    layers: list[tuple[str, nn.Module]],
    inputs: dict[str, Any],
    length: int,
    ends: Mapping[str, nn.Module],
) -> tuple[list[Trace], dict[str, list[Call]]]:
    """Run the model once on `inputs` (and once more for its softmax) and record what every module of every layer took and gave.

    The tensors are kept in float64 on the CPU: a probe is a few tokens long.
    """
    traces = [Trace(i, path, module, length=length) for i, (path, module) in enumerate(layers)]
    watched, owner = {}, {}
    number = Counter(module for trace in traces for module in trace.module.modules())
    for trace in traces:
        for name, module in trace.module.named_modules():
            if number[module] > 1:
                trace.shares = True  # a module of several layers is no address of a value of one
                continue
            watched[f"{trace.path}.{name}" if name else trace.path] = module
            owner[module] = trace
    clock = iter(range(10**9))
    calls: dict[str, list[Call]] = {}
    kept: dict[tuple[int, int], Tensor] = {}
    alive: list[tuple[Tensor, int, Tensor]] = []

    def keep(t: Tensor) -> Tensor:
        key = (id(t), t._version)  # a tensor that is changed in place is another value
        if key not in kept:
            kept[key] = t.detach().to("cpu", torch.float64, copy=True)
            alive.append((t, t._version, kept[key]))  # an id is only unique while its tensor lives
        return kept[key]

    def seen(path: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        trace, found = owner[module], taps.first_tensor(args, kwargs)
        outs = [(i, keep(t)) for i, t in tensors_of(output)]
        inp = keep(found[1]) if found else None
        if module is trace.module:
            trace.runs += 1
            if outs and inp is not None:
                same = [(i, t) for i, t in outs if t.shape == inp.shape]
                trace.inp, (trace.out_index, trace.out) = inp, (same or outs)[0]
            return
        trace.calls.append(Call(path[len(trace.path) + 1 :], module, next(clock), inp, outs))

    def seen_end(name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        found = taps.first_tensor(args, kwargs)
        outs = [(i, keep(t)) for i, t in tensors_of(output)]
        calls.setdefault(name, []).append(Call(name, module, next(clock), keep(found[1]) if found else None, outs))

    with (
        taps.watching(watched, seen),
        taps.watching(ends, seen_end),
        _attention_watched(owner, clock, keep),
        torch.no_grad(),
    ):
        hf(**inputs)
    fleeting = {id(value) for t, version, value in alive if t._version != version}
    for trace in traces:
        trace.fleeting = fleeting
    _watch_weights(hf, traces, inputs)
    return traces, calls


def _watch_weights(hf: nn.Module, traces: list[Trace], inputs: dict[str, Any]) -> None:
    """Run the model once more and see which softmax each layer's attention runs, if any."""
    attention: dict[nn.Module, taps.AttentionTap] = {}
    others = []
    for trace in traces:
        for module in {call.module: None for call in trace.attention}:
            attention[module] = taps.AttentionTap(_softmax_seen(trace, module))
        if not trace.attention and (core := attention_module(trace)) is not None:
            others.append(taps.softmax_inside(core, _softmax_seen(trace, core)))
        for call in trace.once:
            if widths := _linear_widths(call):
                trace.linears[call.module] = []
                others += [
                    taps.linear_inside(call.module, _linear_seen(trace.linears[call.module]), width) for width in widths
                ]
    with contextlib.ExitStack() as stack, torch.no_grad():
        stack.enter_context(taps.attention_taps(attention))
        for tap in others:
            stack.enter_context(tap)
        # An eager function that fails (a mask of another form) leaves the weights unseen: they are then refused.
        with contextlib.suppress(RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError):
            hf(**inputs)


def _linear_widths(call: Call) -> set[int]:
    """Outputs of the linear maps that a module with matrices of its own and several outputs may run by itself."""
    if len(call.outs) == 1 and call.outs[0][0] is None:
        return set()
    return {p.shape[0] for p in call.module.parameters(recurse=False) if p.dim() == 2}


def _linear_seen(widths: list[int]) -> taps.Visitor:
    def seen(value: Tensor) -> None:
        widths.append(int(value.shape[-1]))

    return seen


def _softmax_seen(trace: Trace, module: nn.Module) -> dict[str, taps.Visitor]:
    def pattern(value: Tensor) -> None:
        before = trace.weights.get(module)
        sinks = before.sinks if before is not None else 0
        calls = before.calls + 1 if before is not None else 1
        trace.weights[module] = Weights(value.detach().to("cpu", torch.float64), sinks, calls)

    def sink(value: Tensor) -> None:
        trace.weights[module].sinks = int(value.shape[-1])

    return {"pattern": pattern, "sink": sink}


def attention_module(trace: Trace) -> nn.Module | None:
    """The innermost module of a layer that is called attention, where the registry is not used."""
    named = [c for c in trace.calls if ATTENTION_NAME.search(type(c.module).__name__) and not c.is_leaf]
    return max(named, key=lambda c: c.path.count(".")).module if named else None


def _attention_watched(owner: dict[nn.Module, Trace], clock: Iterator[int], keep: Any) -> Any:
    attention: dict[nn.Module, taps.AttentionTap] = {}
    experts: dict[nn.Module, Any] = {}
    for module, trace in owner.items():
        seen: dict[str, Tensor] = {}

        def q(x: Tensor, seen: dict[str, Tensor] = seen) -> None:
            seen["q"] = x

        def k(x: Tensor, seen: dict[str, Tensor] = seen) -> None:
            seen["k"] = x

        def v(x: Tensor, seen: dict[str, Tensor] = seen) -> None:
            seen["v"] = x

        def z(x: Tensor, seen: dict[str, Tensor] = seen, trace: Trace = trace, module: nn.Module = module) -> None:
            parts = {name: keep(t) for name, t in {**seen, "z": x}.items()}
            trace.attention.append(AttentionCall(module, next(clock), **parts))

        def run(original: Any, m: nn.Module, *args: Any, trace: Trace = trace, **kwargs: Any) -> Any:
            trace.experts.append(m)
            return original(m, *args, **kwargs)

        attention[module] = taps.AttentionTap({"q": q, "k": k, "v": v, "z": z})
        experts[module] = run
    return taps.attention_taps(attention, experts)


def same(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """True when two tensors hold the same values up to the rounding of the model's dtype."""
    if a.numel() != b.numel():
        return False
    a, b = a.reshape(-1), b.reshape(-1)
    return bool((a - b).norm() <= tolerance * b.norm() + 1e-300)


def tokens_from(vocab_size: int) -> tuple[int, int]:
    """From and up to which token id random texts are drawn: not the special tokens at the ends of a large vocabulary."""
    return (5, min(vocab_size, 1000) - 5) if vocab_size > 20 else (0, vocab_size)
