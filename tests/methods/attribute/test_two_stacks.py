"""Attribution in encoder-decoders: to what is read and to what was said, against plain autograd."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from tests.methods.attribute.two_stacks import two_stacks

from cutaway.core.errors import MethodError, ParameterError
from cutaway.core.task import Task
from cutaway.methods.attribute.attention_map import attention_map
from cutaway.methods.attribute.deep_lift import deep_lift
from cutaway.methods.attribute.input_x_gradient import input_x_gradient
from cutaway.methods.attribute.integrated_gradients import integrated_gradients
from cutaway.methods.attribute.occlusion import occlusion
from cutaway.methods.attribute.saliency import saliency
from cutaway.methods.attribute.targets import targets_of
from cutaway.methods.attribute.value_zeroing import value_zeroing
from cutaway.models.model import Model

TASK = Task.from_prompts(["When Mary and John went to the store"])
SAID = "John gave a drink"


@pytest.fixture(params=["t5", "bart"], scope="module")
def model(request: pytest.FixtureRequest) -> Model:
    return two_stacks(request.param)


@pytest.fixture
def untouched(model: Model) -> Iterator[None]:
    def state() -> tuple[torch.Tensor, int]:
        logits = model.run(TASK, decoder=[[2, 5, 7]]).logits
        return logits, sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.hf.modules())

    before = state()
    yield
    after = state()
    assert torch.equal(before[0], after[0]) and before[1] == after[1]
    assert all(weight.requires_grad and weight.grad is None for weight in model.hf.parameters())


def by_hand(model: Model, targets: object, target: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of a target and its gradient at both stacks' embeddings, through plain transformers."""
    ids, source = targets.ids[0], targets.sources[0]  # type: ignore[attr-defined]
    leaves = [
        stack.get_input_embeddings()(torch.tensor([part])).detach().requires_grad_(True)
        for stack, part in ((model.hf.get_encoder(), ids[:source]), (model.hf.get_decoder(), ids[source:]))
    ]
    logits = model.hf(inputs_embeds=leaves[0], decoder_inputs_embeds=leaves[1]).logits[0]
    (token,) = targets.tokens[0][target]  # type: ignore[attr-defined]
    value = logits[targets.positions[0][target] - source].log_softmax(-1)[token]  # type: ignore[attr-defined]
    return value.detach(), torch.cat(torch.autograd.grad(value, leaves), dim=1)[0]


@pytest.mark.usefixtures("untouched")
def test_gradients_reach_what_is_read_and_what_was_said(model: Model) -> None:
    result = saliency(model, TASK, continuation=SAID, score="log_probability", controls=5)
    targets = targets_of(model, TASK, "log_probability", continuation=SAID)
    source = targets.sources[0]
    assert targets.ids[0][source] == model.hf.config.decoder_start_token_id
    for target in range(len(targets.positions[0])):
        value, slope = by_hand(model, targets, target)
        found = result.data["attribution"].values[0, target]
        seen = source + target + 1
        assert np.allclose(found[:seen], slope.norm(dim=-1)[:seen].numpy(), rtol=1e-4)
        assert np.isnan(found[seen:]).all() and found[:source].min() > 0
        assert result.data["score"].values[0, target] == pytest.approx(float(value), rel=1e-6)
    assert len(result.checks) == 1


@pytest.mark.usefixtures("untouched")
def test_what_must_sum_does(model: Model) -> None:
    asked = {"baseline": "eos", "score": "log_probability", "controls": 0}
    found = integrated_gradients(model, TASK, continuation=SAID, tolerance=0.05, max_steps=600, **asked)
    assert found.metrics["completeness_gap"] < 0.06
    lift = deep_lift(model, TASK, continuation=SAID, score="log_probability", controls=0)
    # T5's norms work in single precision whatever the weights are.
    assert lift.metrics["completeness_gap"] < 1e-4
    product = input_x_gradient(model, TASK, continuation=SAID, controls=0)
    assert np.isfinite(product.metrics["linearity_gap"])  # type: ignore[arg-type]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("instead", ["mean", "remove"])
def test_a_word_is_worth_what_its_hole_costs(model: Model, instead: str) -> None:
    result = occlusion(model, TASK, continuation=SAID, instead=instead, score="log_probability", controls=0)
    targets = targets_of(model, TASK, "log_probability", continuation=SAID)
    source, target, place = targets.sources[0], 2, 3
    found = result.data["attribution"].values[0]
    assert np.isfinite(found[target, :source]).all()
    assert np.isnan(found[:, source]).all(), "the decoder's start token stays"
    if instead == "remove":
        ids = [list(targets.ids[0][:source]), list(targets.ids[0][source:])]
        del ids[0][place]
        run = model.run([ids[0]], decoder=[ids[1]])
        without = run.logits[0, target].log_softmax(-1)[targets.tokens[0][target][0]]
        whole = result.data["score"].values[0, target]
        assert found[target, place] == pytest.approx(whole - float(without), abs=1e-5)


def test_attention_is_that_of_both_stacks(model: Model) -> None:
    result = attention_map(model, TASK, continuation=SAID, controls=5)
    rows = np.nansum(result.data["attribution"].values[0], axis=1)
    assert np.allclose(rows, 1, atol=1e-5)


def test_a_generated_text_is_explained(model: Model) -> None:
    result = saliency(model, TASK, generate=2, controls=0)
    written = model.generate(TASK, max_new_tokens=2).new_ids[0]
    assert result.data["target_token"].values[0].tolist() == model.token_strings(written)


def test_what_has_no_meaning_is_refused(model: Model) -> None:
    with pytest.raises(MethodError, match="has two stacks"):
        value_zeroing(model, TASK, continuation=SAID)
    with pytest.raises(ParameterError, match="in two stacks"):
        integrated_gradients(model, TASK, continuation=SAID, layer=0)
