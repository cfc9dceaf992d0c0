"""What can be seen inside an attention call? Its heads, and through its one softmax its scores and its pattern.

On the model's own implementation q, k, v and z pass by as they are. Scores and patterns need the model's own eager
function: it runs under a mode that sees its softmax, soft-caps, sinks and biases included. A run that only reads them
keeps the z of the implementation in use.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Visitor = Callable[[Tensor], Tensor | None]


@dataclass(frozen=True)
class AttentionTap:
    """Visitors on one attention call.

    `q k v z` are [prompt, position, head, d_head], `scores pattern` [prompt, head, query, key].
    `k_per_query_head` and `v_per_query_head` see the keys and values once for every query head, `sink` what columns of
    the pattern beyond the keys take.
    """

    visitors: Mapping[str, Visitor] = field(default_factory=dict)
    writes_weights: bool = False

    @property
    def wants_weights(self) -> bool:
        """True when scores or pattern are asked for."""
        return "scores" in self.visitors or "pattern" in self.visitors


def attend(
    tap: AttentionTap,
    original: Callable[..., Any],
    default: Callable[..., Any],
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Make one attention call with a tap on it.

    Args:
        tap: the visitors.
        original: the function of the implementation in use.
        default: the model's own eager function.
        module: that makes the call.
        query, key, value: [prompt, head, position, d_head].
        args, kwargs: the rest of the call, the mask first.
    """
    see = tap.visitors
    query = _visit_heads(see.get("q"), query)
    key = _visit_heads(see.get("k"), key)
    value = _visit_heads(see.get("v"), value)
    with contextlib.ExitStack() as stack:
        if "k_per_query_head" in see or "v_per_query_head" in see:
            key, value = _per_query_head(see, query, key, value, module, stack)
        if tap.wants_weights:
            out = _attend_with_weights(tap, original, default, module, query, key, value, args, kwargs)
        else:
            out = original(module, query, key, value, *args, **kwargs)
    z = out[0]
    visit = see.get("z")
    new = visit(z) if visit is not None else None
    return out if new is None else (new, *out[1:])


def _visit_heads(visit: Visitor | None, value: Tensor) -> Tensor:
    """Show [prompt, head, position, d_head] as [prompt, position, head, d_head]."""
    if visit is None:
        return value
    new = visit(value.transpose(1, 2))
    return value if new is None else new.transpose(1, 2)


def _per_query_head(
    see: Mapping[str, Visitor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    module: nn.Module,
    stack: contextlib.ExitStack,
) -> tuple[Tensor, Tensor]:
    """Repeat keys and values for each query head; where one is written, attention runs on the repeated ones."""
    groups = query.shape[1] // key.shape[1]
    wide_key, wide_value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    new_key = _visit_heads(see.get("k_per_query_head"), wide_key)
    new_value = _visit_heads(see.get("v_per_query_head"), wide_value)
    if all(new is wide or _unchanged(new, wide) for new, wide in ((new_key, wide_key), (new_value, wide_value))):
        return key, value
    if groups > 1:
        before = module.num_key_value_groups
        setattr(module, "num_key_value_groups", 1)  # noqa: B010 - a plain attribute of the module, not a parameter
        stack.callback(setattr, module, "num_key_value_groups", before)
    return new_key, new_value


def _unchanged(new: Tensor, old: Tensor) -> bool:
    return not new.requires_grad and torch.equal(new, old)


class Softmax(TorchFunctionMode):
    """Sees the one softmax of an eager attention function: its input are the scores, its output the pattern."""

    def __init__(self, visitors: Mapping[str, Visitor], keys: int | None) -> None:
        super().__init__()
        self.visitors, self.keys, self.changed = visitors, keys, False

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function not in (torch.softmax, nn.functional.softmax, Tensor.softmax):
            return function(*args, **kwargs)
        scores = args[0] if args else kwargs["input"]
        rest = args[1:] if args else ()
        if not args:
            kwargs = {name: value for name, value in kwargs.items() if name != "input"}
        scores = self._seen("scores", scores)
        return self._seen("pattern", function(scores, *rest, **kwargs))

    def _seen(self, name: str, value: Tensor) -> Tensor:
        keys = value.shape[-1] if self.keys is None else self.keys
        visit, sink = self.visitors.get(name), self.visitors.get("sink")
        if visit is None:
            return value
        new = visit(value[..., :keys])  # an attention sink is one more column: it is not a key
        if name == "pattern" and sink is not None and keys < value.shape[-1]:
            sink(value[..., keys:])
        if new is None or _unchanged(new, value[..., :keys]):
            return value
        self.changed = True
        return new if keys == value.shape[-1] else torch.cat([new, value[..., keys:]], dim=-1)


class Linear(TorchFunctionMode):
    """Sees the one linear map with `width` outputs that a module computes by itself: the logits of a router."""

    def __init__(self, visit: Visitor, width: int) -> None:
        super().__init__()
        self.visit, self.width = visit, width

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        if function is nn.functional.linear and out.shape[-1] == self.width:
            new = self.visit(out)
            return out if new is None else new
        return out


def _attend_with_weights(
    tap: AttentionTap,
    original: Callable[..., Any],
    default: Callable[..., Any],
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    eager_mask, rest, kwargs_eager = _eager_arguments(module, query, key, args, kwargs, original is default)
    weights = {name: visit for name, visit in tap.visitors.items() if name in ("scores", "pattern", "sink")}
    mode = Softmax(weights, key.shape[-2])
    if original is default:
        with mode:
            return default(module, query, key, value, eager_mask, *rest, **kwargs_eager)
    if tap.writes_weights:
        with mode:
            out = default(module, query, key, value, eager_mask, *rest, **kwargs_eager)
        if mode.changed:
            return out
        return original(module, query, key, value, *args, **kwargs)
    # Reading must not change the answer: the model's own implementation gives z, its eager function the weights.
    out = original(module, query, key, value, *args, **kwargs)
    with mode:
        default(module, query, key, value, eager_mask, *rest, **kwargs_eager)
    return out


def _eager_arguments(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    is_eager: bool,
) -> tuple[Tensor | None, tuple[Any, ...], dict[str, Any]]:
    """The mask (and the rest of the arguments) as an eager attention function expects them."""
    kwargs = dict(kwargs)
    mask = args[0] if args else kwargs.pop("attention_mask", None)
    if is_eager:
        return mask, args[1:], kwargs
    if mask is None:
        is_causal = kwargs.get("is_causal")
        is_causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        if query.shape[2] > 1 and is_causal:
            shape = (query.shape[2], key.shape[2])
            mask = torch.ones(shape, dtype=torch.bool, device=query.device).tril(key.shape[2] - query.shape[2])
            mask = mask[None, None]
    if mask is not None and mask.dtype == torch.bool:
        lowest = torch.finfo(query.dtype).min
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, lowest)
    return mask, args[1:], kwargs
