"""Which weights does each part of a layer own? Every parameter once, so that the parts add up to the whole.

A part is a module that owns weights (a projection, a norm), or one parameter of a module that owns several (the experts
of a mixture). It belongs to attention, to the MLP, to the norms of the stream, or to the rest, by where the layer's
sites pass. Its role (q, k, v, o, gate, up, down, …) comes from its place where that decides and from its name otherwise;
a name that says nothing leaves the role empty. Limits: a parameter that several layers share is counted in the first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from cutaway.models.anatomy import Layer

_ROLES = (
    ("qkv", r"c_attn|qkv|query_key_value|Wqkv|in_proj"),
    ("kv", r"kv_proj|key_value"),
    ("q", r"q_proj|query|q_lin|^wq$|^q$|q_b_proj"),
    ("k", r"k_proj|key|k_lin|^wk$|^k$"),
    ("v", r"v_proj|value|v_lin|^wv$|^v$"),
    ("o", r"o_proj|out_proj|out_lin|^wo$|^o$|c_proj|^dense$"),
)
_MLP_ROLES = (
    ("gate_up", r"gate_up"),
    ("router", r"router|^gate$"),
    ("gate", r"gate_proj|^w1$|wi_0|linear_v"),
    ("up", r"up_proj|^w3$|wi_1|^wi$|c_fc|fc1|fc_in|lin1|h_to_4h$|^dense$|linear_1"),
    ("down", r"down_proj|^w2$|^wo$|c_proj|fc2|fc_out|lin2|4h_to_h"),
)


@dataclass(frozen=True)
class Part:
    """Weights that belong together.

    Attributes:
        name: the last word of its path.
        path: where it is in the model.
        type: the class of its module.
        shape: of its matrix (or vector), as the module holds it.
        parameters: how many weights, biases included; those counted elsewhere left out.
        role: what it does: q k v qkv o, gate up gate_up down router, norm; "" where that is not known.
        group: `attention`, `mlp`, `norms` or `other`.
        heads: into how many heads its rows fall; 0 for none.
        module: the module itself.
    """

    name: str
    path: str
    type: str
    shape: tuple[int, ...]
    parameters: int
    role: str
    group: str
    heads: int
    module: nn.Module

    @property
    def record(self) -> dict[str, Any]:
        """As JSON values."""
        kept = ("name", "path", "type", "parameters", "role", "heads")
        return {**{name: getattr(self, name) for name in kept}, "shape": list(self.shape)}


@dataclass
class Counter:
    """Parameters that have been counted: tied and shared ones count once."""

    seen: set[int] = field(default_factory=set)

    def count(self, *weights: nn.Parameter | None) -> int:
        """How many weights these hold that no part had before."""
        total = 0
        for weight in weights:
            if weight is not None and id(weight) not in self.seen:
                self.seen.add(id(weight))
                total += weight.numel()
        return total


def parts_of(layer: Layer, counter: Counter) -> list[Part]:
    """The parts of one layer, in the order in which the layer holds them."""
    groups = _groups(layer)
    found: list[Part] = []
    for path, module in layer.module.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if not own:
            continue
        group = _group(layer, path, module, groups)
        full = f"{layer.path}.{path}" if path else layer.path
        kind, name = type(module).__name__, path.rpartition(".")[2]
        role = "norm" if is_norm(module) else _role(layer, module, path, group)
        if "weight" in own and set(own) <= {"weight", "bias"}:
            shape = tuple(own["weight"].shape)
            found.append(
                Part(name, full, kind, shape, counter.count(*own.values()), role, group, _heads(layer, role), module)
            )
            continue
        for weight, value in own.items():
            role = _role_named(weight, _MLP_ROLES if group == "mlp" else _ROLES)
            counted = counter.count(value)
            found.append(Part(weight, f"{full}.{weight}", kind, tuple(value.shape), counted, role, group, 0, module))
    return found


def is_norm(module: nn.Module) -> bool:
    """True for a norm, by the name of its class."""
    return bool(re.search(r"norm", type(module).__name__, re.IGNORECASE)) and next(module.children(), None) is None


def _groups(layer: Layer) -> dict[str, set[str]]:
    """The children of a layer that attention, and those that the MLP, live in."""
    attention = {_child(layer, module) for module in (layer.attention, layer.core, layer.output_projection)}
    attention |= {_child(layer, layer.places[kind].module) for kind in ("attn_out",) if kind in layer.places}
    kinds = ("mlp_out", "mlp_act", "mlp_pre", "router")
    mlp = {_child(layer, layer.places[kind].module) for kind in kinds if kind in layer.places}
    mlp |= {_child(layer, layer.experts)}
    mlp |= {name for name, _ in layer.module.named_children() if re.search(r"mlp|ffn|feed_forward|fc\d|expert", name)}
    return {"attention": attention - {""}, "mlp": mlp - {""}}


def _child(layer: Layer, module: nn.Module | None) -> str:
    if module is None or module is layer.module:
        return ""
    return next(
        (name for name, child in layer.module.named_children() if any(m is module for m in child.modules())), ""
    )


def _group(layer: Layer, path: str, module: nn.Module, groups: dict[str, set[str]]) -> str:
    child = path.split(".")[0]
    inside = layer.attention is not None and any(m is module for m in layer.attention.modules())
    if is_norm(module) and not inside and not (child in groups["mlp"] and path.count(".") > 1):
        return "norms"
    if child in groups["attention"]:
        return "attention"
    return "mlp" if child in groups["mlp"] else "other"


def _role(layer: Layer, module: nn.Module, path: str, group: str) -> str:
    if module is layer.output_projection:
        return "o"
    for kind, role in (("mlp_act", "down"), ("router", "router")):
        place = layer.places.get(kind)
        if place is not None and place.module is module:
            return role
    name = path.rpartition(".")[2]
    return _role_named(name, _MLP_ROLES if group == "mlp" else _ROLES) if group in ("attention", "mlp") else ""


def _role_named(name: str, table: tuple[tuple[str, str], ...]) -> str:
    return next((role for role, pattern in table if re.search(pattern, name)), "")


def _heads(layer: Layer, role: str) -> int:
    return {"q": layer.n_heads, "o": layer.n_heads, "k": layer.n_kv_heads, "v": layer.n_kv_heads}.get(role, 0)
