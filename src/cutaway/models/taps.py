"""How is a value read or written while the network runs? The only file that hooks torch.

There are three kinds of tap, and all of them are undone when their `with` block ends, also after an error:

*   on a module: an ordinary forward (pre-)hook on its input or output;
*   on attention: every architecture that uses transformers' registry asks `AttentionInterface.get_interface` for the
    function that turns q, k, v into z. While a tap is open, the answer is wrapped: q, k, v and z pass by on any
    implementation, without an adapter and without leaving SDPA. The wrapper is put in place with the first tap and
    taken away with the last; a model that no tap names gets the original function, called as ever.
    `ExpertsInterface` is the same for mixtures of experts;
*   on the softmax inside attention: the model's own eager function runs under a mode that sees its one softmax, so
    that scores and patterns (soft-caps, sinks and biases included) can be read and written.

A visitor gets a value in its canonical layout and returns None to leave it, or another tensor to write it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers.integrations.moe import ExpertsInterface
from transformers.modeling_utils import AttentionInterface

from cutaway.models.attention_call import AttentionTap, Linear, Softmax, Visitor, attend

__all__ = [
    "AttentionTap",
    "ModuleTap",
    "Stop",
    "Visitor",
    "attention_taps",
    "before",
    "first_tensor",
    "idle",
    "inside",
    "linear_inside",
    "module_taps",
    "softmax_inside",
    "watching",
]


class Stop(BaseException):
    """Raised by a tap when all that was asked for has been seen: the rest of the forward pass is not needed."""


# --- taps on modules ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModuleTap:
    """A visitor on the input or the output of a module.

    Attributes:
        module: the module.
        side: `in` (before it runs), `out` (after), or `skip` (it does not run: `visit` gets its input and returns
            its output, in the form of `template` where that is a tuple).
        visit: gets the hidden tensor; returns None or the tensor to put in its place.
        index: which element of a tuple output; None where the output is a tensor.
        template: what the module would have returned, for `skip`.
    """

    module: nn.Module
    side: str
    visit: Visitor
    index: int | None = None
    template: Any = None


def first_tensor(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int | str, Tensor] | None:
    """Where the hidden tensor stands among a module's arguments, and the tensor itself."""
    for name in ("hidden_states", "x", "input", "hidden_state"):
        if not args and isinstance(kwargs.get(name), Tensor):
            return name, kwargs[name]
    for place, value in enumerate(args):
        if isinstance(value, Tensor) and value.is_floating_point():
            return place, value
    for name, value in kwargs.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            return name, value
    return None


def _on_input(tap: ModuleTap) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        found = first_tensor(args, kwargs)
        if found is None:
            return None
        place, value = found
        new = tap.visit(value)
        if new is None:
            return None
        if isinstance(place, str):
            return args, {**kwargs, place: new}
        return (*args[:place], new, *args[place + 1 :]), kwargs

    return hook


def _with_element(output: Any, index: int | None, new: Tensor) -> Any:
    if isinstance(output, Tensor) or index is None:
        return new
    items = [new if place == index else item for place, item in enumerate(output)]
    return items if isinstance(output, list) else tuple(items)


def _on_output(tap: ModuleTap) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        value = output if isinstance(output, Tensor) else output[tap.index or 0]
        new = tap.visit(value)
        return None if new is None else _with_element(output, tap.index or 0, new)

    return hook


def _stub(tap: ModuleTap) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        found = first_tensor(args, kwargs)
        assert found is not None, "a skipped module has a tensor among its arguments"
        new = tap.visit(found[1])
        return _with_element(tap.template, tap.index, found[1] if new is None else new)

    return forward


def _place(tap: ModuleTap) -> Callable[[], None]:
    """Put one tap in place; returns what removes it."""
    if tap.side == "in":
        return tap.module.register_forward_pre_hook(_on_input(tap), with_kwargs=True).remove
    if tap.side == "out":
        # In front of transformers' own capture hooks: what they record is then what the rest of the model saw.
        return tap.module.register_forward_hook(_on_output(tap), prepend=True).remove
    before = tap.module.__dict__.get("forward")
    tap.module.forward = _stub(tap)

    def restore() -> None:
        if before is None:
            del tap.module.forward
        else:
            tap.module.forward = before  # accelerate had put its own in the instance

    return restore


@contextlib.contextmanager
def module_taps(taps: Sequence[ModuleTap]) -> Iterator[None]:
    """Keep taps on modules for the length of a `with` block. Taps on one value run in the order given."""
    removers: list[Callable[[], None]] = []
    # Hooks on outputs are put in front of others: the first to run is the last to be placed.
    ordered = [tap for tap in taps if tap.side != "out"] + [tap for tap in reversed(taps) if tap.side == "out"]
    try:
        for tap in ordered:
            removers.append(_place(tap))  # noqa: PERF401 - a failure halfway must remove what is in place
        yield
    finally:
        for remove in reversed(removers):
            remove()


@contextlib.contextmanager
def before(module: nn.Module, seen: Callable[[tuple[Any, ...], dict[str, Any]], None]) -> Iterator[None]:
    """Call `seen(args, kwargs)` before each run of a module."""

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen(args, kwargs)

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def watching(modules: Mapping[str, nn.Module], seen: Callable[..., None]) -> Iterator[None]:
    """Call `seen(name, module, args, kwargs, output)` after each run of each module: how anatomy learns its way."""
    handles = []
    try:
        for name, module in modules.items():

            def hook(m: nn.Module, args: Any, kwargs: Any, output: Any, name: str = name) -> None:
                seen(name, m, args, kwargs, output)

            handles.append(module.register_forward_hook(hook, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


# --- taps on attention -------------------------------------------------------------------------------------------


_attention_taps: dict[nn.Module, AttentionTap] = {}
_expert_taps: dict[nn.Module, Callable[..., Any]] = {}
_users = 0
_original_attention = AttentionInterface.get_interface
_original_experts = ExpertsInterface.get_interface


def _get_attention(self: Any, implementation: str, default: Callable[..., Any]) -> Callable[..., Any]:
    return partial(_attend, _original_attention(self, implementation, default), default)


def _get_experts(self: Any, implementation: str, default: Callable[..., Any]) -> Callable[..., Any]:
    return partial(_run_experts, _original_experts(self, implementation, default))


def _run_experts(original: Callable[..., Any], module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    tap = _expert_taps.get(module)
    return original(module, *args, **kwargs) if tap is None else tap(original, module, *args, **kwargs)


@contextlib.contextmanager
def attention_taps(
    attention: Mapping[nn.Module, AttentionTap], experts: Mapping[nn.Module, Callable[..., Any]] | None = None
) -> Iterator[None]:
    """Keep taps on attention and expert calls for the length of a `with` block.

    Args:
        attention: the module that makes the attention call -> its tap.
        experts: the experts module -> a function called as `f(original, module, hidden, indices, weights, ...)`.
    """
    global _users
    experts = experts or {}
    if not attention and not experts:
        yield
        return
    before = {module: _attention_taps.get(module) for module in attention}
    before_experts = {module: _expert_taps.get(module) for module in experts}
    _users += 1
    try:
        if _users == 1:
            AttentionInterface.get_interface = _get_attention
            ExpertsInterface.get_interface = _get_experts
        _attention_taps.update(attention)
        _expert_taps.update(experts)
        yield
    finally:
        _put_back(_attention_taps, before)
        _put_back(_expert_taps, before_experts)
        _users -= 1
        if _users == 0:
            AttentionInterface.get_interface = _original_attention
            ExpertsInterface.get_interface = _original_experts


def _put_back(table: dict[nn.Module, Any], old: Mapping[nn.Module, Any]) -> None:
    for module, tap in old.items():
        if tap is None:
            table.pop(module, None)
        else:
            table[module] = tap


def idle() -> bool:
    """True when no tap on attention or experts is open and transformers' own functions are in place."""
    return (
        _users == 0
        and AttentionInterface.get_interface is _original_attention
        and ExpertsInterface.get_interface is _original_experts
    )


def _attend(
    original: Callable[..., Any], default: Callable[..., Any], module: nn.Module, *args: Any, **kwargs: Any
) -> Any:
    tap = _attention_taps.get(module)
    if tap is None:
        return original(module, *args, **kwargs)
    return attend(tap, original, default, module, *args, **kwargs)


@contextlib.contextmanager
def inside(module: nn.Module, mode: Callable[[], TorchFunctionMode]) -> Iterator[None]:
    """Run one module's forward, and nothing else, under a mode."""
    before = module.__dict__.get("forward")
    original = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with mode():
            return original(*args, **kwargs)

    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


def softmax_inside(module: nn.Module, visitors: Mapping[str, Visitor]) -> contextlib.AbstractContextManager[None]:
    """See the softmax that runs inside one module's forward: attention that does not use the registry."""
    return inside(module, lambda: Softmax(visitors, None))


def linear_inside(module: nn.Module, visit: Visitor, width: int) -> contextlib.AbstractContextManager[None]:
    """See the linear map with `width` outputs inside one module's forward."""
    return inside(module, lambda: Linear(visit, width))
