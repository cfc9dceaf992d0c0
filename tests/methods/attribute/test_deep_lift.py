"""DeepLIFT's differences add up exactly, equal the rule by hand on a small network, and know a linear one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from cutaway.core.task import Task
from cutaway.methods.attribute.deep_lift import deep_lift
from cutaway.methods.attribute.input_x_gradient import input_x_gradient
from cutaway.methods.attribute.targets import targets_of
from cutaway.models.model import Model
from cutaway.models.rescale import Rescale


def multipliers(function: Callable[[Tensor], Tensor], x: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
    """Multipliers of `x` and the change of the function."""
    both = torch.stack([x, base]).requires_grad_(True)
    with Rescale():
        value = function(both)
        (slope,) = torch.autograd.grad(value[0].sum(), both)
    return slope[0], (value[0] - value[1]).detach()


RULES: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "relu": torch.relu,
    "power": lambda x: x.pow(2) + x**3,
    "gate": lambda x: functional.silu(x) * x,
    "softmax": lambda x: x.softmax(-1) * torch.arange(1.0, 6.0, dtype=torch.float64),
    "logsumexp": lambda x: x.logsumexp(-1),
    "log_softmax": lambda x: x.log_softmax(-1)[..., 0],
    "quotient": lambda x: x / (1 + x.exp()),
    "layer norm": lambda x: functional.layer_norm(x, (5,), torch.linspace(1, 2, 5, dtype=torch.float64)),
    "rms norm": lambda x: functional.rms_norm(x, (5,), eps=1e-6),
    "matrices": lambda x: (x[..., None] @ x[..., None, :]).softmax(-1).flatten(1),
    "attention": lambda x: functional.scaled_dot_product_attention(
        *(scale * x[:, None, :, None].expand(-1, 1, 5, 3) for scale in (1.0, 0.5, 2.0)), is_causal=True
    ).flatten(1),
}


@pytest.mark.parametrize("name", RULES)
@given(seed=st.integers(0, 10_000), size=st.floats(0.01, 30))
@settings(max_examples=15, deadline=None)
def test_differences_add_up_at_every_operation(name: str, seed: int, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, base = (size * torch.randn(5, generator=generator, dtype=torch.float64) for _ in range(2))
    slope, change = multipliers(RULES[name], x, base)
    assert float((slope * (x - base)).sum()) == pytest.approx(float(change.sum()), rel=1e-6, abs=1e-7)


def test_where_nothing_changes_it_is_the_gradient() -> None:
    x = torch.randn(5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    slope, _ = multipliers(functional.silu, x, x.clone())
    leaf = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(functional.silu(leaf).sum(), leaf)
    assert torch.allclose(slope, gradient)


def test_a_multilayer_network_is_the_rescale_rule_by_hand() -> None:
    generator = torch.Generator().manual_seed(1)
    first, second = nn.Linear(4, 6).double(), nn.Linear(6, 1).double()
    for layer in (first, second):
        layer.requires_grad_(False)
    x, base = (torch.randn(4, generator=generator, dtype=torch.float64) for _ in range(2))
    slope, _ = multipliers(lambda both: second(torch.relu(first(both)))[..., 0], x, base)
    h, h_base = first(x), first(base)
    rescaled = (h.relu() - h_base.relu()) / (h - h_base)
    assert torch.allclose(slope, (second.weight[0] * rescaled) @ first.weight)


@pytest.mark.parametrize("score", ["metric", "probability", "logit", "entropy"])
def test_the_whole_network_adds_up(model: Model, task: Task, score: str) -> None:
    result = deep_lift(model, task, score=score, controls=0)
    # Llama's norm works in single precision whatever the weights are.
    assert result.metrics["completeness_gap"] < (1e-5 if "llama" in model.name else 1e-10)  # type: ignore[operator]
    assert np.nanmax(np.abs(result.data["attribution"].values)) > 1e-4


def test_layers_and_continuations_add_up(one: Task, model: Model) -> None:
    result = deep_lift(model, one, layer=1, continuation=" Mary and", score="log_probability", controls=0)
    assert result.metrics["completeness_gap"] < 1e-5  # type: ignore[operator]
    assert result.data["attribution"].shape[1] == 2


def test_a_linear_network_is_known_exactly(straight: Model, one: Task) -> None:
    lift = deep_lift(straight, one, baseline="zero", score="logit", controls=0)
    product = input_x_gradient(straight, one, score="logit", controls=0)
    assert np.allclose(lift.data["attribution"], product.data["attribution"], atol=1e-9)


def test_the_forward_pass_is_the_plain_one(model: Model, one: Task) -> None:
    targets = targets_of(model, one, "logit")
    ids = torch.tensor([list(targets.ids[0])] * 2)
    plain = model.hf(ids).logits
    leaf = model.hf.get_input_embeddings()(ids).detach().requires_grad_(True)
    with Rescale():
        found = model.hf(inputs_embeds=leaf).logits
    assert torch.allclose(plain, found, atol=1e-5)
