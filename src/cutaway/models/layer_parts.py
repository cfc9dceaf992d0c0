"""Where in a layer does each site's value pass? From what the probe saw of the layer to places that taps can use."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor, nn

from cutaway.models import attention_parts, probe
from cutaway.models.place import ATTENTION_KINDS, LAYER_KINDS, Place
from cutaway.models.probe import Call, Trace
from cutaway.models.steps import Step, steps_of

if TYPE_CHECKING:
    from cutaway.models.anatomy import Anatomy, Layer


def fill(layer: Layer, trace: Trace, tolerance: float, anatomy: Anatomy) -> Layer | None:
    """Give a layer its places and its refusals; returns the layer's cross-attention as a layer of its own."""
    layer.places["resid_pre"] = Place(layer.module, layer.path, "in")
    layer.places["resid_post"] = Place(layer.module, layer.path, "out", layer.out_index)
    if trace.runs != 1:
        reason = f"the layer ran {trace.runs} times in one forward pass"
        layer.refused.update({kind: reason for kind in LAYER_KINDS if kind not in layer.places})
        if trace.runs == 0:
            layer.places.clear()
            layer.refused.update(dict.fromkeys(LAYER_KINDS, reason))
        else:
            layer.refused.update(dict.fromkeys(("resid_pre", "resid_post"), reason))
            layer.places.clear()
        return None
    calls = trace.once
    cross = attention_parts.attention(layer, trace, anatomy)
    steps = steps_of(trace, tolerance)
    if steps is None:
        reason = "no sum of branches explains how the layer changes the residual stream"
        layer.refused.update(dict.fromkeys(("resid_mid", "attn_contrib", "mlp_contrib"), reason))
        attention_step = mlp_step = cross_step = None
    else:
        attention_step, cross_step, mlp_step = _named_steps(layer, trace, steps)
        layer.parallel = steps[0].parallel
        layer.complete = len(steps) == sum(s is not None for s in (attention_step, cross_step, mlp_step))
        layer.post_norm = any(step.norm is not None for step in steps)
        if layer.post_norm and steps[-1].norm is not None:
            layer.norms["resid_post"] = steps[-1].norm.module
        _stream(layer, steps, attention_step, cross_step, mlp_step, calls)
    _branch(layer, "attn", attention_step, calls, trace, tolerance)
    _branch(layer, "mlp", mlp_step, calls, trace, tolerance)
    _mlp_inside(layer, mlp_step, calls, trace)
    _experts(layer, trace, calls, mlp_step, anatomy)
    attention_parts.output_projection(layer, trace, calls, anatomy)
    attention_parts.before_rotation(layer, trace, calls)
    if cross is not None:
        _branch(cross, "attn", cross_step, calls, trace, tolerance)
        if cross_step is not None:
            step = cross_step
            cross.places["attn_contrib"] = Place(step.call.module, step.call.path, "out", step.index, step.scale)
        _validate(cross, trace, anatomy)
        cross.refused = {kind: why for kind, why in cross.refused.items() if kind not in cross.places}
    _refuse_unwritable_middle(layer, cross)
    _validate(layer, trace, anatomy)
    for kind in LAYER_KINDS:
        if kind not in layer.places:
            reason = _missing(kind, layer, attention_step, mlp_step, steps)
            shared = "it is part of a module that several layers share" if trace.shares else ""
            layer.refused.setdefault(kind, shared or reason)
    return cross


def _refuse_unwritable_middle(layer: Layer, cross: Layer | None) -> None:
    """`resid_mid` is written through what is added before it: without that it is not served."""
    place = layer.places.get("resid_mid")
    added = [part for part in (layer, cross) if part is not None]
    if place is not None and place.side == "in" and any("attn_contrib" not in part.places for part in added):
        layer.places.pop("resid_mid")
        layer.refused["resid_mid"] = "no one module gives what is added before it"


def _validate(layer: Layer, trace: Trace, anatomy: Anatomy) -> None:
    """Refuse values that do not have the form of their kind; mark tensors that are changed in place later."""
    from cutaway.core.site import KINDS

    length = trace.length
    for kind, place in list(layer.places.items()):
        if (raw := _raw_value(place, layer, trace)) is None:
            continue
        if trace.is_fleeting(raw):
            layer.places[kind] = replace(place, fleeting=True)
        place = layer.places[kind] = replace(layer.places[kind], flat=raw.dim() == 2)
        value = place.get(raw, 1)
        shape, dims = tuple(value.shape), KINDS[kind][1]
        fits = len(shape) == 1 + len(dims) and shape[:2] == (1, length)
        if fits and dims[-1] == "d_model":
            fits = shape[-1] == anatomy.d_model
        if not fits:
            layer.places.pop(kind)
            layer.refused[kind] = f"its value has the shape {tuple(raw.shape)} for one prompt of {length} tokens"


def _raw_value(place: Place, layer: Layer, trace: Trace) -> Tensor | None:
    """What the module of a place gave in the probe; None for values that are not a module's input or output."""
    if place.side not in ("in", "out"):
        return None
    if place.module is layer.module:
        return trace.inp if place.side == "in" else trace.out
    call = next((c for c in trace.calls if c.module is place.module), None)
    if call is None or place.side == "in":
        return None if call is None else call.inp
    return next((t for i, t in call.outs if i == place.index), None)


def _missing(kind: str, layer: Layer, attention: Step | None, mlp: Step | None, steps: list[Step] | None) -> str:
    if kind in ("router", "expert_out"):
        return "the layer has no mixture of experts"
    if kind in ("q_pre_rope", "k_pre_rope"):
        return "no rotated query or key was found: where there is no rotary embedding, q and k are the same"
    if kind.startswith("attn") and attention is None and steps is not None:
        return "the layer has no attention or other token mixer"
    if kind.startswith("mlp") and layer.n_experts and kind in ("mlp_pre", "mlp_act"):
        return "the MLP is a mixture of experts: read router and expert_out"
    if kind.startswith("mlp") and mlp is None and steps is not None:
        return "the layer has no MLP"
    if kind in ATTENTION_KINDS:
        return "the layer makes no attention call that could be tapped"
    return "the probe did not find it"


def _named_steps(layer: Layer, trace: Trace, steps: list[Step]) -> tuple[Step | None, Step | None, Step | None]:
    """Which step is attention (or another token mixer), which cross-attention, which the MLP."""
    times = sorted({call.module: call.order for call in reversed(trace.attention)}.values())
    if times and steps[0].parallel and len(steps) == 2:
        inside = _child_of(layer, layer.attention)
        by_path = [s for s in steps if s.call.path.split(".")[0] == inside]
        nearest = by_path[0] if len(by_path) == 1 else min(steps, key=lambda s: abs(s.call.order - times[0]))
        return nearest, None, next(s for s in steps if s is not nearest)
    if times:
        after = [s for s in steps if s.call.order > times[0]]
        attention = after[0] if after else None
        cross = None
        if len(times) > 1:
            later = [s for s in after if s.call.order > times[1] and s is not attention]
            cross = later[0] if later else None
        rest = [s for s in steps if s is not attention and s is not cross]
        return attention, cross, rest[0] if len(rest) == 1 else None
    by_name = [s for s in steps if probe.MLP_NAME.search(s.call.path)]
    mixers = [s for s in steps if s not in by_name]
    if len(steps) == 2 and len(by_name) != 1:
        return steps[0], None, steps[1]
    if len(mixers) > 1:
        return None, None, None
    if len(by_name) > 1:
        return (mixers[0] if mixers else None), None, None
    return (mixers[0] if mixers else None), None, (by_name[0] if by_name else None)


def _child_of(layer: Layer, module: nn.Module | None) -> str:
    for name, child in layer.module.named_children():
        if module is not None and any(m is module for m in child.modules()):
            return name
    return ""


def _stream(
    layer: Layer,
    steps: list[Step],
    attention: Step | None,
    cross: Step | None,
    mlp: Step | None,
    calls: list[Call],
) -> None:
    for name, step in (("attn_contrib", attention), ("mlp_contrib", mlp)):
        if step is not None:
            layer.places[name] = Place(step.call.module, step.call.path, "out", step.index, step.scale)
    if mlp is None and not layer.complete:
        layer.refused["mlp_contrib"] = "the MLP is more than one branch: no one module gives what it adds"
    previous = cross if cross is not None else attention
    if layer.parallel:
        layer.refused["resid_mid"] = "attention and MLP are added in one sum (a parallel layer)"
    elif previous is None or len(steps) == 1:
        layer.refused["resid_mid"] = "the layer has one branch only"
    elif steps.index(previous) == len(steps) - 1:
        layer.refused["resid_mid"] = "the MLP comes before attention"
    else:
        _between(layer, previous, calls)


def _between(layer: Layer, previous: Step, calls: list[Call]) -> None:
    """The stream between attention and MLP: what the post-norm gives, or what the next module takes."""
    if previous.norm is not None:
        layer.norms["resid_mid"] = previous.norm.module
        layer.places["resid_mid"] = Place(previous.norm.module, previous.norm.path, "out")
        return
    takers = [c for c in calls if c.inp is not None and probe.same(c.inp, previous.target, 0)]
    # The outermost: what happens at a module inside it (an edit of `mlp_in`) comes later.
    taker = min(takers, key=lambda c: c.path.count("."), default=None)
    if taker is None:
        layer.refused["resid_mid"] = "no module takes the stream between attention and MLP"
        return
    layer.places["resid_mid"] = Place(taker.module, taker.path, "in")


# --- branches ----------------------------------------------------------------------------------------------------


def _branch(layer: Layer, name: str, step: Step | None, calls: list[Call], trace: Trace, tolerance: float) -> None:
    """`*_out`, what the branch's module returns, and `*_in`, what it takes."""
    if step is None:
        return
    producer, index = _producer(step, calls)
    layer.places[f"{name}_out"] = Place(producer.module, producer.path, "out", index)
    value = next(t for i, t in producer.outs if i == index)
    same_out = [c for c in calls if any(probe.same(t, value, 0) for _, t in c.outs) and c.has_matrix]
    outer = min(same_out, key=lambda c: c.path.count("."), default=None)
    numel = trace.inp.numel() if trace.inp is not None else 0
    taker: Call | None = None
    if outer is not None and not outer.is_leaf and outer.inp is not None and outer.inp.numel() == numel:
        taker = outer
    elif name == "attn" and layer.core is not None:
        taker = next(
            (c for c in calls if c.module is layer.core and c.inp is not None and c.inp.numel() == numel),
            None,
        )
    if taker is None:
        since = max((c.order for c in calls if c.order < producer.order and _ends_before(c, step, calls)), default=-1)
        takers = [c for c in calls if since < c.order <= producer.order and c.is_leaf and c.has_matrix]
        takers = [c for c in takers if c.inp is not None and c.inp.numel() == numel]
        same_input = [c for c in takers if probe.same(c.inp, takers[0].inp, 0)] if takers else []  # type: ignore[arg-type]
        taker = same_input[0] if len(same_input) == 1 else None
    if taker is None:
        layer.refused[f"{name}_in"] = "no one module takes the branch's input"
    else:
        layer.places[f"{name}_in"] = Place(taker.module, taker.path, "in")


def _ends_before(call: Call, step: Step, calls: list[Call]) -> bool:
    """True for calls that gave the stream from which the branch starts: a norm."""
    return call.is_leaf and not call.has_matrix and "norm" in type(call.module).__name__.lower()


def _producer(step: Step, calls: list[Call]) -> tuple[Call, int | None]:
    """Back through norms, dropouts and multipliers to the module that computed the branch's output."""
    call, index = step.call, step.index
    for _ in range(4):
        if call.has_matrix or call.inp is None:
            break
        earlier = [
            (c, i)
            for c in calls
            for i, t in c.outs
            if c.order < call.order and probe.same(t, call.inp, 0) and c is not call
        ]
        if not earlier:
            break
        call, index = earlier[-1]
    return call, index


def _mlp_inside(layer: Layer, step: Step | None, calls: list[Call], trace: Trace) -> None:
    """`mlp_act`, the input of the projection that gives `mlp_out`, and `mlp_pre`, before the activation function."""
    if step is None:
        return
    producer, index = _producer(step, calls)
    value = next(t for i, t in producer.outs if i == index)
    down = [c for c in calls if c.is_leaf and c.has_matrix and any(probe.same(t, value, 0) for _, t in c.outs)]
    if len(down) != 1 or down[0].inp is None or down[0].inp.dim() != 3:
        layer.refused.update(dict.fromkeys(("mlp_pre", "mlp_act"), "no one projection gives the MLP's output"))
        return
    neurons = down[0].inp
    layer.d_mlp = int(neurons.shape[-1])
    layer.places["mlp_act"] = Place(down[0].module, down[0].path, "in")
    prefix = down[0].path.rpartition(".")[0]
    before = [c for c in calls if c.order < down[0].order and c.order > _attention_end(layer, calls, step)]
    activations = [
        c
        for c in before
        if c.is_leaf
        and next(c.module.parameters(), None) is None
        and not isinstance(c.module, nn.Dropout | nn.Identity)
        and c.inp is not None
        and c.inp.shape == neurons.shape
    ]
    if len(activations) == 1:
        layer.places["mlp_pre"] = Place(activations[0].module, activations[0].path, "in")
        return
    wide = [c for c in before if c.is_leaf and c.has_matrix and c.outs and c.outs[0][1].shape == neurons.shape]
    gate = [c for c in wide if re.search(r"gate|w1$", c.path)] or wide[:1]
    if gate and (not prefix or gate[0].path.startswith(prefix.split(".")[0]) or len(wide) == 1):
        layer.places["mlp_pre"] = Place(gate[0].module, gate[0].path, "out", gate[0].outs[0][0])
    else:
        layer.refused["mlp_pre"] = "no one module gives the neurons before their activation function"


def _attention_end(layer: Layer, calls: list[Call], step: Step) -> int:
    if layer.parallel or layer.core is None:
        return -1
    ends = [c.order for c in calls if c.module is layer.core]
    return ends[0] if ends and ends[0] < step.call.order else -1


# --- experts -----------------------------------------------------------------------------------------------------


def _experts(layer: Layer, trace: Trace, calls: list[Call], step: Step | None, anatomy: Anatomy) -> None:
    number = next(
        (
            n
            for name in ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
            if isinstance(n := getattr(anatomy.text_config, name, None), int) and n > 1
        ),
        0,
    )
    if not number or (not trace.experts and not any("expert" in c.path for c in calls)):
        return
    layer.n_experts = number
    _router(layer, trace, calls, number)
    if trace.experts:
        layer.experts = trace.experts[0]
        layer.places["expert_out"] = Place(trace.experts[0], "", "experts")
    else:
        layer.refused["expert_out"] = "the experts do not use transformers' experts registry"


def _router(layer: Layer, trace: Trace, calls: list[Call], number: int) -> None:
    """The logits of the experts: the output of a matrix with a row for each, or a linear map inside such a module."""
    for call in calls:
        own = [p for p in call.module.parameters(recurse=False) if p.dim() == 2 and p.shape[0] == number]
        if not own and getattr(call.module, "out_features", 0) != number:
            continue
        plain = [i for i, t in call.outs if i is None and t.shape[-1] == number]
        if plain and call.is_leaf:
            layer.places["router"] = Place(call.module, call.path, "out")
            return
        # A router that picks its experts inside: its logits are seen as they arise.
        if trace.linears.get(call.module) == [number]:
            layer.places["router"] = Place(call.module, call.path, "linear")
            return
    layer.refused["router"] = "no module gives one logit for each expert"
