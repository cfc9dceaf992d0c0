"""What is this network made of? Its parts with shapes and parameter counts, which add up to the module's total."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from torch import nn

from cutaway.apps.inspection.parts import Counter, Part, is_norm, parts_of
from cutaway.core.errors import ModelError, SiteError
from cutaway.core.site import KINDS
from cutaway.models.anatomy import Layer
from cutaway.models.memory import free_bytes
from cutaway.models.model import Model

_ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function", "activation", "feed_forward_proj")
_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "top_k_experts", "moe_k")


def describe(model: Model) -> dict[str, Any]:
    """The anatomy of a model as JSON values."""
    a, hf, counter = model.anatomy, model.hf, Counter()
    paths = {id(module): path for path, module in hf.named_modules()}
    layers = a.stacks[""].layers
    embed = _end(a.embed, paths, counter)
    parts = [parts_of(layer, counter) for layer in layers]
    norm = _final_norm(model, paths, counter)
    unembed = _end(a.unembed, paths, counter)
    if unembed is not None:
        unembed["tied"] = unembed["parameters"] == 0 and embed is not None
    return {
        "model": model.name,
        "class_name": type(hf).__name__,
        "source": model.source,
        "n_layers": a.n_layers,
        "n_heads": a.n_heads,
        "n_kv_heads": a.n_kv_heads,
        "d_model": a.d_model,
        "d_head": a.d_head,
        "d_mlp": a.d_mlp,
        "vocab_size": a.vocab_size,
        "causal": a.is_causal,
        "has_unembedding": a.has_unembedding,
        "parameters": sum(weight.numel() for weight in hf.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "attention_implementation": model.attention_implementation,
        "features": sorted(a.features),
        "memory": _memory(model),
        "embed": embed,
        "unembed": unembed,
        "final_norm": norm,
        "layers": [_layer(model, layer, own) for layer, own in zip(layers, parts, strict=True)],
        "other": _rest(model, counter),
        "refused": _refused(model, layers),
    }


def _end(module: nn.Module | None, paths: dict[int, str], counter: Counter) -> dict[str, Any] | None:
    weight = getattr(module, "weight", None)
    if module is None or not isinstance(weight, nn.Parameter):
        return None
    counted = counter.count(*module.parameters())
    return {"path": paths.get(id(module), ""), "shape": list(weight.shape), "parameters": counted}


def _final_norm(model: Model, paths: dict[int, str], counter: Counter) -> dict[str, Any] | None:
    """The norm before the unembedding; without an unembedding, the last norm beside the layers."""
    module: nn.Module | None = None
    if model.anatomy.has_unembedding and "final" not in model.anatomy.refused_ends:
        with contextlib.suppress(SiteError, ModelError):  # where the last stream cannot be read, the structure decides
            module = model.final_norm.module
    if module is None:
        stack = model.anatomy.stacks[""]
        inside = {id(m) for layer in stack.layers for m in layer.module.modules()}
        holder = stack.path.rpartition(".")[0]
        beside = [
            m
            for path, m in model.hf.named_modules()
            if is_norm(m) and id(m) not in inside and path.rpartition(".")[0] == holder
        ]
        module = beside[-1] if beside else None
    if module is None or next(module.parameters(), None) is None or is_norm(module) is False:
        return None
    path = paths.get(id(module), "")
    return {"path": path, "type": type(module).__name__, "parameters": counter.count(*module.parameters())}


def _rest(model: Model, counter: Counter) -> list[dict[str, Any]]:
    """What is neither embedding, layer, final norm nor unembedding: positions, poolers, other stacks."""
    found = []
    for path, module in model.hf.named_modules():
        own = dict(module.named_parameters(recurse=False))
        counted = counter.count(*own.values())
        if counted:
            largest = max(own.values(), key=lambda weight: weight.numel())
            name, kind = path.rpartition(".")[2], type(module).__name__
            found.append(
                {"name": name, "path": path, "type": kind, "shape": list(largest.shape), "parameters": counted}
            )
    return found


def _layer(model: Model, layer: Layer, parts: list[Part]) -> dict[str, Any]:
    by_group = {name: [p for p in parts if p.group == name] for name in ("attention", "mlp", "norms", "other")}
    return {
        "index": layer.index,
        "path": layer.path,
        "type": type(layer.module).__name__,
        "parameters": sum(part.parameters for part in parts),
        "window": _window(model, layer),
        "parallel": layer.parallel,
        "post_norm": layer.post_norm,
        "attention": _attention(model, layer, by_group["attention"]),
        "mlp": _mlp(model, layer, by_group["mlp"]),
        "norms": [part.record for part in by_group["norms"]],
        "other": [part.record for part in by_group["other"]],
        "sites": [kind for kind in KINDS if kind in layer.places],
    }


def _attention(model: Model, layer: Layer, parts: list[Part]) -> dict[str, Any] | None:
    if not parts and not layer.n_heads:
        return None
    module = layer.attention or layer.core
    config = model.anatomy.text_config
    cap = getattr(module, "attn_logit_softcapping", None) or getattr(config, "attn_logit_softcapping", None)
    return {
        "path": _path(model, module),
        "type": type(module).__name__ if module is not None else "",
        "n_heads": layer.n_heads,
        "n_kv_heads": layer.n_kv_heads,
        "d_head": layer.d_head,
        "rotary": "q_pre_rope" in layer.places or "k_pre_rope" in layer.places,
        "softcap": float(cap) if isinstance(cap, int | float) and cap else None,
        "sinks": layer.sinks > 0,
        "scaling": scaling(layer),
        "parameters": sum(part.parameters for part in parts),
        "parts": [part.record for part in parts],
    }


def scaling(layer: Layer) -> float | None:
    """The factor of q·k, where the attention module names it."""
    for name in ("scaling", "softmax_scale", "scale"):
        value = getattr(layer.attention, name, None)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return float(layer.d_head**-0.5) if layer.d_head else None


def _mlp(model: Model, layer: Layer, parts: list[Part]) -> dict[str, Any] | None:
    if not parts:
        return None
    config, roles = model.anatomy.text_config, {part.role for part in parts}
    activation = next((v for name in _ACTIVATIONS if isinstance(v := getattr(config, name, None), str)), "")
    per_token = next((v for name in _PER_TOKEN if isinstance(v := getattr(config, name, None), int)), None)
    return {
        "path": _path(model, _common(layer, parts)),
        "gated": bool(roles & {"gate", "gate_up"}),
        "activation": activation,
        "d_mlp": layer.d_mlp or None,
        "experts": layer.n_experts or None,
        "experts_per_token": per_token if layer.n_experts else None,
        "parameters": sum(part.parameters for part in parts),
        "parts": [part.record for part in parts],
    }


def _common(layer: Layer, parts: list[Part]) -> nn.Module | None:
    """The one child of the layer that holds all parts of its MLP."""
    names = {part.path[len(layer.path) + 1 :].split(".")[0] for part in parts}
    return getattr(layer.module, names.pop(), None) if len(names) == 1 else None


def _path(model: Model, module: nn.Module | None) -> str:
    return next((path for path, one in model.hf.named_modules() if one is module), "") if module is not None else ""


def _window(model: Model, layer: Layer) -> int | None:
    """How many keys a query sees, in a layer with a sliding window."""
    config = model.anatomy.text_config
    kinds = getattr(config, "layer_types", None)
    if isinstance(kinds, list) and layer.index < len(kinds) and "sliding" not in str(kinds[layer.index]):
        return None
    value = getattr(layer.attention, "sliding_window", None)
    if value is None and isinstance(kinds, list):
        value = getattr(config, "sliding_window", None)
    return int(value) if isinstance(value, int) and value > 0 else None


def _memory(model: Model) -> dict[str, int]:
    a = model.anatomy
    size = model.dtype.itemsize
    cached = sum(layer.n_kv_heads * (layer.d_head + layer.d_value) for layer in a.stacks[""].layers)
    return {
        "weights_bytes": _bytes(model.hf.parameters()),
        "buffers_bytes": _bytes(model.hf.buffers()),
        "cache_bytes_per_token": cached * size,
        "stream_bytes_per_token": a.d_model * size,
        "free_bytes": free_bytes(model.device),
    }


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _refused(model: Model, layers: list[Layer]) -> list[dict[str, str]]:
    """Why sites are refused: one line where every layer that lacks it has the same reason."""
    found = [{"site": kind, "reason": why} for kind, why in model.anatomy.refused_ends.items()]
    for kind in KINDS:
        reasons: dict[str, list[int]] = {}
        for layer in layers:
            if kind in layer.refused and kind not in layer.places:
                reasons.setdefault(layer.refused[kind], []).append(layer.index)
        for reason, which in reasons.items():
            name = "*" if len(which) == len(layers) else ", ".join(map(str, which))
            found.append({"site": f"{kind}[{name}]", "reason": reason})
    return found
