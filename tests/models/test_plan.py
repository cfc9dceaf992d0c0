"""A plan says what a run will do: its figures are counted here while the run does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from cutaway.core.edit import ablate, add
from cutaway.core.errors import SiteError
from cutaway.models.model import Model

Open = Callable[..., Model]
ALONE = [5, 9, 17, 33, 2, 8, 40, 3, 21]
EVEN = [ALONE, ALONE[::-1], [i + 3 for i in ALONE]]


class Counter:
    """Forward passes, and tokens through layers that really ran."""

    def __init__(self, model: Model) -> None:
        self.model, self.passes, self.layer_tokens, self.unembedded = model, 0, 0, 0

    def __enter__(self) -> Counter:
        def started(*_: Any) -> None:
            self.passes += 1

        def through(module: Any, args: Any, output: Any) -> None:
            self.layer_tokens += output.shape[:-1].numel()

        def unembed(module: Any, args: Any, output: Any) -> None:
            self.unembedded += output.numel()

        # The norm before the MLP does not run in a layer that is passed over; the last MLP itself runs at the end alone.
        stack = self.model.hf.model.layers
        self.hooks = [layer.post_attention_layernorm.register_forward_hook(through) for layer in stack]
        self.hooks.append(self.model.hf.register_forward_pre_hook(started))
        self.hooks.append(self.model.hf.lm_head.register_forward_hook(unembed))
        return self

    def __exit__(self, *_: Any) -> None:
        for hook in self.hooks:
            hook.remove()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"logits": "last"},
        {"read": "resid_post[1]", "logits": "none"},
        {"read": "resid_post[*]@-1, final", "logits": "none"},
        {"read": "z[1]", "edit": [ablate("z[0].head[1]")]},
        {"edit": add("resid_post[1]", torch.ones(32), scale=[1, 2, 3]), "batch": 2},
        {"batch": 1},
        {"strict": True, "read": "z[0]", "logits": "none"},
    ],
    ids=["plain", "last", "early", "to the end", "edit", "scales", "one by one", "strict"],
)
def test_the_figures_of_a_run_are_what_happens(opened: Open, options: dict[str, Any]) -> None:
    model = opened("llama", "sdpa")
    _ = model.anatomy.stacks
    plan = model.plan(EVEN, **options)
    with Counter(model) as count:
        run = model.run(EVEN, **options)
    assert plan.rows == len(run.ids)
    assert plan.batches == count.passes
    assert plan.layer_tokens[0] == count.layer_tokens
    if not options.get("strict"):
        assert plan.unembedded[0] == count.unembedded
    with Counter(model) as plain:
        for ids in run.ids:
            with torch.no_grad():
                model.hf(torch.tensor([ids]))
    assert plan.layer_tokens[1] == plain.layer_tokens
    assert plan.unembedded[1] == plain.unembedded
    assert plan.bytes > 0


def test_planning_runs_nothing(opened: Open, pairs: Any) -> None:
    model = opened("llama", "sdpa")
    model.sweep(pairs(), "resid_pre[0]@0")  # the tier is measured once
    with Counter(model) as count:
        model.plan(EVEN, read="z[1]")
        model.plan(pairs(), over="resid_pre[*]@*")
    assert count.passes == 0


def metric(logits: Tensor) -> Tensor:
    return logits[:, 3]


@pytest.mark.parametrize("edit", ["patch", "zero"])
def test_the_figures_of_a_sweep_are_what_happens(opened: Open, pairs: Any, edit: str) -> None:
    model = opened("llama", "sdpa")
    # From the fourth token on, everything differs.
    task = pairs((9,), (tuple(range(4, 9)),))
    model.sweep(task, "resid_pre[0]@0", metric=metric)
    over = "resid_pre[*]@*"
    plan = model.plan(task, over=over, edit=edit)
    with Counter(model) as count:
        found = model.sweep(task, over, edit=edit, metric=metric)
    assert plan.rows == found.computed == (20 if edit == "patch" else 36)
    assert plan.layer_tokens[0] == count.layer_tokens
    assert plan.layer_tokens[1] == 36 * 4 * 9
    assert plan.saving == pytest.approx(plan.layer_tokens[1] / plan.layer_tokens[0])
    assert plan.batches == count.passes - (2 if edit == "patch" else 1)


def test_a_plan_prints_what_will_be_done(opened: Open, pairs: Any) -> None:
    model = opened("llama", "sdpa")
    text = str(model.plan(EVEN, read="pattern[1], z[0]", edit=ablate("scores[0]"), logits="none"))
    assert text.startswith("3 rows in 1 forward passes")
    for words in (
        "encode 3 prompts of 9 tokens",
        "edit zero scores[0]",
        "read pattern[1], z[0]",
        "also run the eager attention function in 1 layers",
        "last bits differ from the plain run",
        "stop after layer 1 of 4",
        "unembed nothing",
        "layer-tokens (plain runs: 108, 2.0 × as many)",
    ):
        assert words in text, words
    swept = str(model.plan(pairs(), over="resid_pre[*]@*"))
    assert "rows resume from their layer and position" in swept
    with_gradients = str(model.plan(EVEN, grad="resid_pre[*]", metric=metric, logits="last"))
    assert (
        "differentiate the metric at resid_pre[0], resid_pre[1], resid_pre[2], resid_pre[3], no gradient of any weight"
        in (with_gradients)
    )


def test_a_plan_refuses_what_a_run_refuses(opened: Open) -> None:
    with pytest.raises(SiteError, match="does not exist"):
        opened("llama").plan(EVEN, read="z[9]")
