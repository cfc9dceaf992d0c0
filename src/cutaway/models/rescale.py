"""What would each operation have to be multiplied by, if it were a straight line between two inputs? DeepLIFT's rules.

A batch holds texts in its first half and their baselines in its second. Under `Rescale` the network computes what it
always computes; its backward pass, though, multiplies by differences instead of derivatives, so that multiplier times
difference is exact at every operation [@shrikumar2017]:

    elementwise f        (f(x) - f(x')) / (x - x')                        the Rescale rule
    product a · b        mean of b for a, mean of a for b                 also of matrices: attention, gates, norms
    softmax, logsumexp   the logarithmic mean of the two exponentials, for each term

Everything else that a transformer computes is linear in its input. So the attributions of a whole network sum to the
change of its score, up to rounding: norms, gates and attention included. An operation that no rule knows keeps its
derivative, and the sum then misses.

Limits: between input and baseline a rule knows the two ends only. Rules look at functions by their names in PyTorch; a
fused kernel that hides its steps is taken for linear.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

ELEMENTWISE = frozenset(
    [
        "abs",
        "celu",
        "cos",
        "elu",
        "erf",
        "exp",
        "expm1",
        "gelu",
        "hardswish",
        "hardtanh",
        "leaky_relu",
        "log",
        "log1p",
        "logsigmoid",
        "mish",
        "pow",
        "__pow__",
        "reciprocal",
        "relu",
        "relu6",
        "rsqrt",
        "selu",
        "sigmoid",
        "silu",
        "sin",
        "softplus",
        "softsign",
        "sqrt",
        "square",
        "tanh",
    ]
)
PRODUCTS = frozenset({"mul", "__mul__", "__rmul__", "multiply"})
MATRIX_PRODUCTS = frozenset({"matmul", "__matmul__", "bmm"})
QUOTIENTS = frozenset({"div", "__truediv__", "true_divide", "divide"})
CLOSE = 1e-6  # differences smaller than this part of the values have no ratio: the derivative is taken

Function = Callable[..., Any]


class Rescale(TorchFunctionMode):
    """Inside this mode gradients of the first half of a batch are DeepLIFT multipliers against the second half."""

    def __torch_function__(
        self, function: Function, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        first = args[0] if args else kwargs.get("input")
        if not torch.is_grad_enabled() or not any(_moves(value) for value in (*args, *kwargs.values())):
            return function(*args, **kwargs)
        rule = _rule_of(name)
        if rule is not None:
            return rule(*args, **kwargs)
        if name in ELEMENTWISE and isinstance(first, Tensor) and _moves(first) and not any(map(_moves, args[1:])):
            rest, named = tuple(args[1:]), {key: value for key, value in kwargs.items() if key != "input"}
            named.pop("inplace", None)
            return _each(first, lambda x: function(x, *rest, **named))
        if name in PRODUCTS and all(map(_moves, args[:2])):
            return _product(args[0], args[1], torch.mul)
        if name in MATRIX_PRODUCTS and all(map(_moves, args[:2])):
            return _product(args[0], args[1], torch.matmul)
        if name in QUOTIENTS and _moves(args[1]):
            return _times(args[0], _each(args[1], torch.reciprocal))
        return function(*args, **kwargs)


def _moves(value: Any) -> bool:
    """True for what depends on the text: it is another thing in the two halves."""
    return isinstance(value, Tensor) and value.requires_grad and value.is_floating_point()


def _times(first: Any, second: Tensor) -> Tensor:
    both = _moves(first)
    found: Tensor = _product(first, second, torch.mul) if both else first * second
    return found


def _rule_of(name: str) -> Function | None:
    match name:
        case "softmax":
            return _softmax
        case "log_softmax":
            return lambda input, dim=-1, *rest, dtype=None, **kwargs: _log_softmax(_as(input, dtype), dim)
        case "logsumexp":
            return lambda input, dim, keepdim=False: _log_sum_exp(input, dim, keepdim)
        case "scaled_dot_product_attention":
            return _attention
        case "layer_norm":
            return _layer_norm
        case "rms_norm":
            return _rms_norm
    return None


def _as(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    return value if dtype is None else value.to(dtype)


def _log_softmax(value: Tensor, dim: int) -> Tensor:
    return value - _log_sum_exp(value, dim, True)


def _softmax(input: Tensor, dim: int = -1, *rest: Any, dtype: torch.dtype | None = None, **kwargs: Any) -> Tensor:
    # log_softmax can be as low as a mask says: its exponential is zero in both halves, and so is what it passes on.
    found: Tensor = _each(_log_softmax(_as(input, dtype), dim), torch.exp)
    return found


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The steps of the fused function, each by its rule."""
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (x.repeat_interleave(groups, dim=-3) for x in (key, value))
    factor = scale if scale is not None else 1 / math.sqrt(query.shape[-1])
    scores: Tensor = _product(query, key.transpose(-1, -2), torch.matmul) * factor
    if is_causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, torch.finfo(scores.dtype).min)
    elif attn_mask is not None:
        scores = scores + attn_mask.clamp(min=torch.finfo(scores.dtype).min)
    found: Tensor = _product(_softmax(scores), value, torch.matmul)
    return found


def _layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    dims = tuple(range(-len(normalized_shape), 0))
    return _scaled(input - input.mean(dim=dims, keepdim=True), dims, weight, bias, eps)


def _rms_norm(input: Tensor, normalized_shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Tensor:
    dims = tuple(range(-len(normalized_shape), 0))
    return _scaled(input, dims, weight, None, torch.finfo(input.dtype).eps if eps is None else eps)


def _scaled(centred: Tensor, dims: tuple[int, ...], weight: Any, bias: Any, eps: float) -> Tensor:
    square = _each(centred, torch.square).mean(dim=dims, keepdim=True)
    found: Tensor = _product(centred, _each(square + eps, torch.rsqrt), torch.mul)
    found = found if weight is None else found * weight
    return found if bias is None else found + bias


def _each(value: Tensor, function: Function) -> Tensor:
    found: Tensor = _Elementwise.apply(value, function)  # type: ignore[no-untyped-call]
    return found


def _product(first: Tensor, second: Tensor, function: Function) -> Tensor:
    found: Tensor = _Product.apply(first, second, function)  # type: ignore[no-untyped-call]
    return found


def _log_sum_exp(value: Tensor, dim: int, keepdim: bool) -> Tensor:
    found: Tensor = _LogSumExp.apply(value, dim, keepdim)  # type: ignore[no-untyped-call]
    return found


def _in_half(gradient: Tensor) -> Tensor:
    """A gradient of the texts, with nothing for their baselines."""
    return torch.cat([gradient, torch.zeros_like(gradient)])


def _mean(value: Tensor) -> Tensor:
    first, second = value.chunk(2)
    return (first + second) / 2


class _Elementwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, function: Function) -> Tensor:
        found: Tensor = function(value)
        (x, base), (y, y_base) = value.chunk(2), found.chunk(2)
        change = x - base
        near = change.abs() <= CLOSE * (x.abs() + base.abs()) + torch.finfo(x.dtype).tiny
        with torch.enable_grad():
            middle = ((x + base) / 2).detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(function(middle).sum(), middle)
        ratio = (y - y_base) / torch.where(near, torch.ones_like(change), change)
        ctx.save_for_backward(torch.where(near, slope, ratio))
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (slope,) = ctx.saved_tensors
        return _in_half(grads[0].chunk(2)[0] * slope), None


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor, function: Function) -> Tensor:
        ctx.matrices = function is torch.matmul
        ctx.shapes = first.shape[1:], second.shape[1:]
        ctx.save_for_backward(_mean(first), _mean(second))
        found: Tensor = function(first, second)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        grad = grads[0].chunk(2)[0]
        first, second = ctx.saved_tensors
        if ctx.matrices:
            left, right = grad @ second.transpose(-1, -2), first.transpose(-1, -2) @ grad
        else:
            left, right = grad * second, grad * first
        return (
            _in_half(_summed(left, ctx.shapes[0])),
            _in_half(_summed(right, ctx.shapes[1])),
            None,
        )


def _summed(gradient: Tensor, shape: torch.Size) -> Tensor:
    """Summed over what was broadcast [half, *shape]."""
    while gradient.dim() > len(shape) + 1:
        gradient = gradient.sum(dim=1)
    wide = [axis for axis, size in enumerate(shape, 1) if size == 1 and gradient.shape[axis] != 1]
    return gradient.sum(dim=wide, keepdim=True) if wide else gradient


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, dim: int, keepdim: bool) -> Tensor:
        found = torch.logsumexp(value, dim, keepdim=True)
        (x, base), (y, y_base) = value.chunk(2), found.chunk(2)
        # The mean of each term over the mean of the sum, both in units of the larger sum.
        top = torch.maximum(y, y_base)
        ctx.save_for_backward(_logarithmic_mean(x - top, base - top) / _logarithmic_mean(y - top, y_base - top))
        ctx.dim, ctx.keepdim = dim, keepdim
        return found if keepdim else found.squeeze(dim)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (weights,) = ctx.saved_tensors
        grad = grads[0].chunk(2)[0]
        return _in_half((grad if ctx.keepdim else grad.unsqueeze(ctx.dim)) * weights), None, None


def _logarithmic_mean(first: Tensor, second: Tensor) -> Tensor:
    """(e^a - e^b) / (a - b), and e^a where the two are one; the larger one is taken out, so that nothing overflows."""
    high, low = torch.maximum(first, second), torch.minimum(first, second)
    change = (low - high).clamp(min=-1e4)
    ratio = torch.where(change > -1e-6, 1 + change / 2, torch.expm1(change) / torch.where(change == 0, -1.0, change))
    return functional.threshold(high, -1e4, -1e4).exp() * ratio
