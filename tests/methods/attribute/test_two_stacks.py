"""Attribution in encoder-decoders: to what is read and to what was said, against plain autograd."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from tests.methods.attribute.two_stacks import two_stacks

from cutaway.core.edit import ablate, replace, scale
from cutaway.core.errors import MethodError, ParameterError
from cutaway.core.site import Site
from cutaway.core.task import Task
from cutaway.methods.attribute.alti import alti
from cutaway.methods.attribute.attention_map import attention_map
from cutaway.methods.attribute.context_attribution import context_attribution
from cutaway.methods.attribute.deep_lift import deep_lift
from cutaway.methods.attribute.input_x_gradient import input_x_gradient
from cutaway.methods.attribute.integrated_gradients import integrated_gradients
from cutaway.methods.attribute.occlusion import occlusion
from cutaway.methods.attribute.reagent import reagent
from cutaway.methods.attribute.saliency import saliency
from cutaway.methods.attribute.targets import targets_of
from cutaway.methods.attribute.value_zeroing import value_zeroing
from cutaway.models.model import Model
from cutaway.models.multigrad import values_at

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


def test_rollout_goes_through_both_stacks(model: Model) -> None:
    targets = targets_of(model, TASK, "logit", continuation=SAID)
    ids, source = list(targets.ids[0]), targets.sources[0]
    eager = copy.deepcopy(model.hf)  # which alone shows its patterns
    eager.set_attn_implementation("eager")
    with torch.no_grad():
        out = eager(
            torch.tensor([ids[:source]]), decoder_input_ids=torch.tensor([ids[source:]]), output_attentions=True
        )
    read = torch.eye(source, dtype=torch.float64)
    for pattern in out.encoder_attentions:
        read = (pattern[0].mean(0) + torch.eye(source)) / 2 @ read
    # What a state of the decoder is made of: tokens that were read, and tokens that were said.
    of_read, of_said = torch.zeros(len(ids) - source, source), torch.eye(len(ids) - source)
    of_read, of_said = of_read.double(), of_said.double()
    for own, across in zip(out.decoder_attentions, out.cross_attentions, strict=True):
        half = (own[0].mean(0) + torch.eye(len(own[0, 0]))) / 2
        of_read, of_said = half @ of_read, half @ of_said
        of_read, of_said = (across[0].mean(0) @ read + of_read) / 2, of_said / 2
    found = attention_map(model, TASK, continuation=SAID, kind="rollout", controls=0).data["attribution"].values[0]
    expected = torch.cat([of_read, of_said], dim=1).numpy()
    for target in range(len(found)):
        seen = source + target + 1
        assert np.allclose(found[target, :seen], expected[target, :seen], atol=1e-6)
        assert found[target, :seen].sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.usefixtures("untouched")
def test_value_zeroing_is_what_zeroing_does_in_both_stacks(model: Model) -> None:
    found = value_zeroing(model, TASK, continuation=SAID, layer=1, controls=0).data["attribution"].values[0]
    targets = targets_of(model, TASK, "logit", continuation=SAID)
    ids, source = list(targets.ids[0]), targets.sources[0]
    text = {"prompts": [ids[:source]], "decoder": [ids[source:]], "read": "resid_post[1]"}
    base = model.run(**text)["resid_post[1]"][0]  # type: ignore[arg-type]
    turns = []
    for place in range(len(ids)):
        site = f"cross.v[1]@{place}" if place < source else f"v[1]@{place - source}"
        without = model.run(**text, edit=ablate(site))["resid_post[1]"][0]  # type: ignore[arg-type]
        turns.append(1 - torch.cosine_similarity(base, without, dim=-1))
    rows = torch.stack(turns, dim=1).clamp(min=0).numpy()
    for target in range(len(found)):
        seen = source + target + 1
        assert np.allclose(found[target, :seen], (rows[target] / rows[target, :seen].sum())[:seen], atol=1e-5)
    whole = value_zeroing(model, TASK, continuation=SAID, controls=5)
    assert np.allclose(np.nansum(whole.data["attribution"].values[0], axis=1), 1, atol=1e-5)
    assert len(whole.checks) == 1


@pytest.mark.usefixtures("untouched")
def test_context_is_a_part_of_what_the_encoder_reads(model: Model) -> None:
    result = context_attribution(model, TASK, continuation=SAID, context="Then Anna met Paul.", controls=5)
    task = Task.from_prompts(["Then Anna met Paul." + TASK.prompts[0]])
    (with_it,), (without,) = (targets_of(model, each, "logit", continuation=SAID).ids for each in (task, TASK))
    logs = []
    for ids in (with_it, without):
        source = len(ids) - len(said_before(model))
        run = model.run([list(ids[:source])], decoder=[list(ids[source:])])
        logs.append(run.logits[0].log_softmax(-1))
    expected = (logs[0].exp() * (logs[0] - logs[1])).sum(-1)
    assert np.allclose(result.data["sensitivity"].values, expected.numpy(), atol=1e-6)
    marked = np.isfinite(result.data["attribution"].values).any(axis=0)
    assert marked.any() and not marked[len(with_it) - len(without) :].any()


def said_before(model: Model) -> tuple[int, ...]:
    """What the decoder has said before the last target, its start token among it."""
    targets = targets_of(model, TASK, "logit", continuation=SAID)
    return targets.ids[0][targets.sources[0] :]


def test_what_has_no_meaning_is_refused(model: Model) -> None:
    with pytest.raises(MethodError, match=r"'alti' cannot run: .* has two stacks; its vectors are those of the one"):
        alti(model, TASK, continuation=SAID)
    with pytest.raises(MethodError, match=r"'reagent' cannot run: .* an encoder expects none. Use attention_map"):
        reagent(model, TASK, continuation=SAID)
    with pytest.raises(ParameterError, match=r"layer is 2; 'tiny-.*' has 2 and 2 layers, 0 to 1, whose input can be"):
        integrated_gradients(model, TASK, continuation=SAID, layer=2)


@pytest.mark.usefixtures("untouched")
def test_the_streams_that_enter_a_layer_of_both_stacks(model: Model) -> None:
    asked = {"continuation": SAID, "score": "log_probability", "controls": 0}
    lift = integrated_gradients(model, TASK, layer=1, baseline="eos", tolerance=0.05, max_steps=600, **asked)
    assert lift.metrics["completeness_gap"] < 0.06
    assert np.isfinite(lift.data["attribution"].values[0, -1]).all()
    targets = targets_of(model, TASK, "log_probability", continuation=SAID)
    ids, source = list(targets.ids[0]), targets.sources[0]
    at = values_at(model, [ids], source=source, at=Site("resid_pre", 1))
    run = model.run([ids[:source]], decoder=[ids[source:]], read="encoder.resid_pre[1], resid_pre[1]")
    assert torch.equal(at[0], torch.cat([run["encoder.resid_pre[1]"][0], run["resid_pre[1]"][0]]))
    product = input_x_gradient(model, TASK, layer=1, **asked).data["attribution"].values[0, 2]
    step = 1e-3  # T5's norms work in single precision
    for place in (2, source + 1):
        site = f"encoder.resid_pre[1]@{place}" if place < source else f"resid_pre[1]@{place - source}"
        scores = []
        for factor in (1 + step, 1 - step):
            # What the decoder's earlier layers took from the encoder is in the decoder's stream, which is held.
            held = [replace("resid_pre[1]", at[:, source:]), scale(site, factor)]
            moved = model.run([ids[:source]], decoder=[ids[source:]], edit=held)
            scores.append(float(moved.logits[0, 2].log_softmax(-1)[targets.tokens[0][2][0]]))
        assert product[place] == pytest.approx((scores[0] - scores[1]) / (2 * step), abs=2e-3)
