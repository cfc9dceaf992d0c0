"""Where do queries, keys, values, patterns and z pass? From the attention calls, the softmax and the projections seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cutaway.models import probe
from cutaway.models.place import ATTENTION_KINDS, LAYER_KINDS, Place
from cutaway.models.probe import Call, Trace

if TYPE_CHECKING:
    from cutaway.models.anatomy import Anatomy, Layer


def attention(layer: Layer, trace: Trace, anatomy: Anatomy) -> Layer | None:
    """Places of q, k, v, scores, pattern and z; returns cross-attention where there is a second call."""
    from cutaway.models.anatomy import Layer as NewLayer

    number: dict[nn.Module, int] = {}
    for call in trace.attention:
        number[call.module] = number.get(call.module, 0) + 1
    if not number:
        _attention_outside_registry(layer, trace, anatomy)
        return None
    seen = {call.module: call for call in reversed(trace.attention)}
    own = [seen[module] for module in number if not anatomy.is_encoder_decoder or _is_self(seen[module])]
    across = [seen[module] for module in number if seen[module] not in own]
    if len(own) == 1 and number[own[0].module] == 1:
        _tapped(layer, own[0], trace)
    elif own:
        calls_made = sum(number[call.module] for call in own)
        layer.refused.update(dict.fromkeys(ATTENTION_KINDS, f"the layer makes {calls_made} attention calls"))
    if len(across) != 1:
        return None
    cross = NewLayer(layer.index, layer.path, layer.module, is_cross=True)
    _tapped(cross, across[0], trace)
    for kind in LAYER_KINDS:
        if kind not in cross.places:
            cross.refused.setdefault(kind, "of cross-attention, only its heads and its contribution are served")
    return cross


def _is_self(call: probe.AttentionCall) -> bool:
    """True for attention over the stack's own positions: the probe's two texts differ in length."""
    return call.q.shape[1] == call.k.shape[1]


def _tapped(layer: Layer, call: probe.AttentionCall, trace: Trace) -> None:
    layer.attention = layer.core = call.module
    layer.n_heads, layer.n_kv_heads = int(call.q.shape[2]), int(call.k.shape[2])
    layer.d_head, layer.d_value = int(call.z.shape[-1]), int(call.v.shape[-1])
    for kind in ATTENTION_KINDS:
        layer.places[kind] = Place(call.module, "", "attention")
    if call.z.dim() != 4 or call.z.shape[2] != call.q.shape[2]:
        layer.places.pop("z")
        layer.refused["z"] = f"the attention call returns {tuple(call.z.shape)}, not one z for each of its heads"
    _refuse_other_positions(layer, trace, call)
    _softmax_weights(layer, trace, call)
    if not hasattr(call.module, "num_key_value_groups") and layer.n_heads != layer.n_kv_heads:
        for kind in ("k_per_query_head", "v_per_query_head"):
            layer.places.pop(kind)
            layer.refused[kind] = "the attention module does not say how it shares its keys among heads"


def _refuse_other_positions(layer: Layer, trace: Trace, call: probe.AttentionCall) -> None:
    """Refuse values whose positions are not the tokens: latent queries, or keys of compressed blocks."""
    queries, keys = int(call.q.shape[1]), int(call.k.shape[1])
    gone: tuple[str, ...] = ()
    if queries != trace.length:
        gone = ATTENTION_KINDS
    elif keys != trace.length and not layer.is_cross:
        gone = ("k", "v", "k_per_query_head", "v_per_query_head", "scores", "pattern")
    for kind in gone:
        layer.places.pop(kind, None)
        layer.refused[kind] = f"attention has {queries} queries and {keys} keys for {trace.length} tokens"


def _softmax_weights(layer: Layer, trace: Trace, call: probe.AttentionCall) -> None:
    """Keep scores and pattern where one softmax over the keys was seen, and its pattern times v is z."""
    reason = ""
    weights = trace.weights.get(call.module)
    expected = (1, call.q.shape[2], call.q.shape[1], call.k.shape[1])
    if weights is None:
        reason = "no softmax was seen in the attention call"
    elif weights.calls != 1 or tuple(weights.pattern.shape) != expected:
        reason = f"the softmax of the attention call gives {tuple(weights.pattern.shape)}, not {expected}"
    else:
        layer.sinks = weights.sinks
    for kind in ("scores", "pattern"):
        if reason and layer.places.pop(kind, None) is not None:
            layer.refused[kind] = reason


def _attention_outside_registry(layer: Layer, trace: Trace, anatomy: Anatomy) -> None:
    """Attention that does not use the registry: its softmax can be seen, and its z before the output projection."""
    layer.core = probe.attention_module(trace)
    if layer.core is None:
        return
    path = next(c.path for c in trace.calls if c.module is layer.core)
    weights, reason = trace.weights.get(layer.core), ""
    if weights is None:
        fused = getattr(anatomy.config, "_attn_implementation", "eager") != "eager"
        remedy = "; attn_implementation='eager' may have one" if fused else ""
        reason = f"its token mixer runs no softmax{remedy}"
    elif weights.calls != 1 or weights.pattern.dim() != 4 or weights.pattern.shape[2:] != (trace.length, trace.length):
        reason = f"its attention runs {weights.calls} softmax, the last one gives {tuple(weights.pattern.shape)}"
    for kind in ("scores", "pattern"):
        if reason:
            layer.refused[kind] = reason
        else:
            layer.places[kind] = Place(layer.core, path, "softmax")
    for kind in ("q", "k", "v", "k_per_query_head", "v_per_query_head"):
        layer.refused[kind] = "this architecture does not use transformers' attention registry"


def output_projection(layer: Layer, trace: Trace, calls: list[Call], anatomy: Anatomy) -> None:
    """The matrix W_O that takes every head's z to the residual stream."""
    leaves = [c for c in calls if c.is_leaf and c.has_matrix and c.inp is not None]
    if trace.attention and "z" in layer.places:
        z = trace.attention[0].z
        matches = [c for c in leaves if probe.same(c.inp, z, 0) and c.inp.dim() == 3]  # type: ignore[arg-type, union-attr]
        if matches:
            layer.output_projection = matches[0].module
        return
    if layer.core is None or "attn_out" not in layer.places:
        return
    out = layer.places["attn_out"].module
    heads = next(
        (
            n
            for name in ("num_attention_heads", "n_head", "n_heads", "num_heads")
            if (n := getattr(anatomy.text_config, name, 0))
        ),
        0,
    )
    out_calls = [c for c in calls if c.module is out and c.outs]
    value = out_calls[0].outs[layer.places["attn_out"].index or 0][1] if out_calls else None
    found = [c for c in leaves if value is not None and any(probe.same(t, value, 0) for _, t in c.outs)]
    if not found or not heads or found[0].inp is None or found[0].inp.shape[-1] % heads or found[0].inp.dim() != 3:
        layer.refused["z"] = "no output projection takes the heads' outputs side by side"
        return
    layer.n_heads = layer.n_kv_heads = int(heads)
    layer.d_head = layer.d_value = int(found[0].inp.shape[-1] // heads)
    layer.output_projection = found[0].module
    layer.places["z"] = Place(found[0].module, found[0].path, "in", heads=int(heads))


def before_rotation(layer: Layer, trace: Trace, calls: list[Call]) -> None:
    """Queries and keys before rotary embedding: at position 0 the rotation is by nothing, so the values tell."""
    if not trace.attention:
        return
    call = trace.attention[0]
    before = [c for c in calls if c.order < call.order]
    for kind, rotated in (("q_pre_rope", call.q), ("k_pre_rope", call.k)):
        if (found := _unrotated(rotated, before)) is not None:
            layer.places[kind] = found


def _unrotated(rotated: Tensor, before: list[Call]) -> Place | None:
    """The last module that gave the values of `rotated` [1, position, head, d_head] at position 0, unrotated later."""
    _, length, heads, width = rotated.shape
    first = rotated[0, 0]
    for call in reversed(before):
        for index, out in call.outs:
            if not call.is_leaf or out.shape[0] != 1:
                continue
            if out.shape == (1, length, heads, width) and torch.equal(out[0, 0], first):
                return _unless_equal(out, rotated, Place(call.module, call.path, "out", index, heads=heads))
            if out.shape == (1, heads, length, width) and torch.equal(out[0, :, 0], first):
                value = out.transpose(1, 2)
                return _unless_equal(value, rotated, Place(call.module, call.path, "out", index, head_first=True))
            if out.dim() == 3 and out.shape[1] == length and out.shape[-1] >= heads * width:
                columns = _columns(first, out[0, 0])
                if columns is not None:
                    place = Place(call.module, call.path, "out", index, columns=columns)
                    return _unless_equal(out[..., columns], rotated, place)
    return None


def _unless_equal(value: Tensor, rotated: Tensor, place: Place) -> Place | None:
    return None if torch.equal(value, rotated) else place


def _columns(values: Tensor, row: Tensor) -> Tensor | None:
    """Where in `row` each number of `values` [head, d_head] stands, if each stands in one place only."""
    order = torch.argsort(row, stable=True)
    ordered = row[order]
    spot = torch.searchsorted(ordered, values.contiguous()).clamp(max=len(row) - 1)
    found = order[spot]
    if not torch.equal(row[found], values) or len(found.unique()) != values.numel():
        return None
    return found
