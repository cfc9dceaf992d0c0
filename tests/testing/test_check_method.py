"""The laws of methods find what they are there to find: methods that break them, one law at a time."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from cutaway.core import view
from cutaway.core.errors import Cancelled, MethodError
from cutaway.core.method import Method, method
from cutaway.core.progress import track
from cutaway.core.result import Check, Result
from cutaway.core.task import Task
from cutaway.core.view import View
from cutaway.models.model import Model
from cutaway.testing import check_method, tiny

Body = Callable[[Model, Task], Any]


def result_of(model: Model, task: Task, **changed: Any) -> Result:
    """An honest little result: the largest logit of each prompt, with a check."""
    logits = model.run(task, logits="last").last_logits
    data = xr.Dataset({"largest": ("prompt", logits.max(-1).values.numpy())}, coords={"prompt": list(task.prompts)})
    check = Check("It is large.", "Compare with the smallest.", 2.0, 1.0, (0.5, 1.5), 20, True)
    views = (view.bars(value="largest", label="prompt", title="Largest logit"),)
    return Result(**{"data": data, "views": views, "checks": (check,), **changed})


def made(body: Body, **facts: Any) -> Method[Any, ...]:
    """A method with this body."""

    def tried(model: Model, task: Task, *, top: int = 1) -> Result:
        """A method under test."""
        given: Result = body(model, task)
        return given

    return method(**{"asks": "What is it?", **facts})(tried)


def broken(body: Body, law: str, **facts: Any) -> str:
    """What a law says of a method with this body."""
    with pytest.raises(AssertionError) as raised:
        check_method(made(body, **facts), laws=[law])
    return str(raised.value)


def test_an_honest_method_breaks_no_law() -> None:
    check_method(made(result_of))


def test_every_law_that_is_broken_is_said_at_once() -> None:
    with pytest.raises(AssertionError) as raised:
        check_method(made(lambda m, t: result_of(m, t, views=(), checks=()), asks="Statement."))
    said = str(raised.value)
    assert "asks is 'Statement.'; it is a question" in said
    assert "it has no view" in said
    assert "no check: test the claim by an intervention with a control" in said


def test_citations_are_looked_up(tmp_path: Path) -> None:
    references = tmp_path / "references.bib"
    references.write_text("@article{someone2020,\n title = {A}\n}\n")
    with pytest.raises(AssertionError) as raised:
        check_method(made(result_of, cites="nobody2021"), laws=["says_what_it_is"], references=references)
    assert "the module docstring does not cite [@nobody2021]" in str(raised.value)
    assert "'nobody2021' is not in references.bib" in str(raised.value)


def test_a_schema_that_the_command_line_cannot_say_is_found() -> None:
    def needy(model: Model, task: Task, *, toward: str) -> Result:
        """No default."""
        return result_of(model, task)

    with pytest.raises(AssertionError, match="toward: no default, so it does not run by its name alone"):
        check_method(method(asks="Where?")(needy), laws=["has_a_schema"])


def test_views_and_figures_are_looked_at() -> None:
    nameless = (View("bars", "", {"value": "largest", "label": "prompt"}),)
    assert "a bars view has no title" in broken(lambda m, t: result_of(m, t, views=nameless), "returns_a_result")
    odd = {"score": float("nan")}
    assert "the metric 'score' is not a number" in broken(lambda m, t: result_of(m, t, metrics=odd), "returns_a_result")


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (Check("", "How.", 1, 0, (0, 0), 5, True), "a check does not say its claim"),
        (Check("It is.", "How.", 1, 0, (0, 0), 0, True), "the check of 'It is.' has no control"),
        (Check("It is.", "How.", float("nan"), 0, (0, 0), 3, True), "has figures that are not numbers"),
    ],
)
def test_a_check_needs_a_claim_a_control_and_figures(check: Check, said: str) -> None:
    assert said in broken(lambda m, t: result_of(m, t, checks=(check,)), "checks_what_it_claims")


def test_a_method_that_only_describes_needs_no_check() -> None:
    check_method(made(lambda m, t: result_of(m, t, checks=()), describes_only=True), laws=["checks_what_it_claims"])


def test_a_result_that_changes_is_found() -> None:
    numbers: Iterator[int] = iter(range(100))
    said = broken(lambda m, t: result_of(m, t, metrics={"turn": next(numbers)}), "repeats")
    assert "run again with the same seed it gives another result" in said
    assert "with its parameters written out in another order it gives another result" in said


def leave_a_hook(model: Model, task: Task) -> Result:
    model.hf.register_forward_hook(lambda module, args, output: None)
    return result_of(model, task)


def leave_a_gradient(model: Model, task: Task) -> Result:
    next(model.hf.parameters()).requires_grad_(False)
    return result_of(model, task)


def change_a_weight(model: Model, task: Task) -> Result:
    with torch.no_grad():
        next(model.hf.parameters()).mul_(1.01)
    return result_of(model, task)


def replace_a_forward(model: Model, task: Task) -> Result:
    model.hf.model.layers[0].forward = model.hf.model.layers[0].forward
    return result_of(model, task)


def draw_from_torch(model: Model, task: Task) -> Result:
    torch.rand(1)
    return result_of(model, task)


def draw_from_numpy(model: Model, task: Task) -> Result:
    np.random.rand()
    return result_of(model, task)


def draw_from_python(model: Model, task: Task) -> Result:
    random.random()
    return result_of(model, task)


def change_the_mode(model: Model, task: Task) -> Result:
    model.hf.train()
    return result_of(model, task)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (leave_a_hook, "hooks of ._forward_hooks"),
        (leave_a_gradient, "requires_grad or grad of"),
        (change_a_weight, "the idle model gives other logits than before (they moved by up to"),
        (replace_a_forward, "attributes of model.layers.0 changed"),
        (draw_from_torch, "torch's global random state changed"),
        (draw_from_numpy, "numpy's global random state changed"),
        (draw_from_python, "Python's global random state changed"),
        (change_the_mode, "training mode changed"),
    ],
)
def test_what_is_left_behind_is_found(body: Body, said: str) -> None:
    state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        assert said in broken(body, "leaves_no_trace")
    finally:
        torch.set_rng_state(state[0])
        np.random.set_state(state[1])
        random.setstate(state[2])


def test_a_method_that_will_not_stop_is_found() -> None:
    def stubborn(model: Model, task: Task) -> Result:
        for step in (1, 2):
            try:
                list(track(range(step), "steps"))
            except Cancelled:
                continue
        return result_of(model, task)

    assert "it was cancelled at its first step and went on" in broken(stubborn, "stops_when_asked")


def test_a_method_for_one_family_only_is_found() -> None:
    def llama_only(model: Model, task: Task) -> Result:
        if model.name != "tiny-llama":
            raise MethodError("no.")
        return result_of(model, task)

    with pytest.raises(MethodError):
        check_method(made(llama_only), laws=["runs_on_another_family"])


def test_needs_are_refused_before_the_method_runs() -> None:
    check_method(made(result_of, needs=("contrast", "answers", "causal")), laws=["refuses_what_it_cannot_do"])
    runs = []
    check = made(lambda m, t: runs.append(m) or result_of(m, t), needs=("unembedding",))  # type: ignore[func-returns-value]
    check_method(check, laws=["refuses_what_it_cannot_do"])
    assert runs == []


def test_wrong_sites_get_the_nearest_kind() -> None:
    def placed(model: Model, task: Task, *, sites: str = "resid_post[*]@-1") -> Result:
        """Reads sites."""
        model.run(task, read=sites)
        return result_of(model, task)

    check_method(method(asks="Where?")(placed), laws=["refuses_wrong_parameters"])

    def careless(model: Model, task: Task, *, sites: str = "resid_post[*]@-1") -> Result:
        """Does not look at its sites."""
        return result_of(model, task)

    with pytest.raises(AssertionError, match="no SiteError that says 'resid_post'"):
        check_method(method(asks="Where?")(careless), laws=["refuses_wrong_parameters"])


def test_tiny_models_are_the_same_for_the_same_seed() -> None:
    state = torch.get_rng_state()
    first, again, other = (tiny(seed=seed).hf.lm_head.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())
