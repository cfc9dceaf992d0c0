"""Step functions by their definitions; those that compare; dropout; and functions of other packages."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.errors import ParameterError
from cutaway.core.task import Task
from cutaway.methods.attribute.gradients import dropping
from cutaway.methods.attribute.saliency import saliency
from cutaway.methods.attribute.step_functions import FUNCTIONS, NAMES, Step
from cutaway.methods.attribute.step_scores import step_scores
from cutaway.methods.attribute.targets import targets_of
from cutaway.models.model import Model
from cutaway.testing.tiny import tiny

SAID, FOIL = " Mary and", " John and"


def step(seed: int, foils: bool = True) -> Step:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 11, generator=generator, dtype=torch.float64) * 3
    tokens = torch.randint(0, 11, (2, 3, 1), generator=generator)
    other = torch.randn(2, 3, 11, generator=generator, dtype=torch.float64).log_softmax(-1)
    against = torch.randint(0, 11, (2, 3), generator=generator) if foils else None
    return Step(logits, tokens, torch.ones_like(tokens, dtype=torch.bool), against, other)


@given(st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_definitions(seed: int) -> None:
    one = step(seed)
    found = {name: function(one) for name, function in FUNCTIONS.items()}
    p = one.logits.softmax(-1)
    mine = p.gather(-1, one.tokens)[..., 0]
    assert one.foils is not None and one.reference is not None
    theirs = p.gather(-1, one.foils[..., None])[..., 0]
    q = one.reference.exp()
    expected = {
        "probability": mine,
        "log_probability": mine.log(),
        "logit": one.logits.gather(-1, one.tokens)[..., 0],
        "entropy": -(p * p.log()).sum(-1),
        "cross_entropy": -mine.log(),
        "perplexity": 1 / mine,
        "contrast_probability": theirs,
        "probability_difference": mine - theirs,
        "log_probability_difference": (mine / theirs).log(),
        "kl": (p * (p / q).log()).sum(-1),
        "pcxmi": (mine / q.gather(-1, one.tokens)[..., 0]).log2(),
    }
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=1e-9), name
    assert torch.equal(found["in_context_pvi"], found["pcxmi"])
    assert torch.allclose(found["logit_difference"], found["logit"] - found["contrast_logit"])
    assert (found["kl"] >= -1e-12).all() and (found["entropy"] <= math.log(11) + 1e-12).all()


def test_a_context_that_is_the_same_says_nothing(model: Model, one: Task) -> None:
    same = Task.from_prompts(one.prompts, contrasts=one.prompts)
    for name in ("kl", "pcxmi"):
        targets = targets_of(model, same, name, continuation=SAID)
        result = saliency(model, same, score=name, continuation=SAID, controls=0)
        assert np.allclose(result.data["score"].values, 0, atol=1e-6)
        assert targets.unit == ("bits" if name == "pcxmi" else "nats of KL divergence")


def test_the_other_context_is_the_contrast(model: Model, one: Task) -> None:
    found = step_scores(model, one, continuation=SAID)
    for place in range(2):
        both = []
        for text in (one.prompts[0], one.contrasts[0]):
            ids = [*one.encode(model.tokenizer).ids[0]] if text == one.prompts[0] else model.encode(text)
            targets = targets_of(model, one, "probability", continuation=SAID)
            row = [*ids, *[token for (token,) in targets.tokens[0]][:place]]
            both.append(
                float(model.run([row], logits="last").last_logits[0].log_softmax(-1)[targets.tokens[0][place][0]])
            )
        assert found.data["pcxmi"].values[0, place] == pytest.approx((both[0] - both[1]) / math.log(2), abs=1e-5)
    assert found.metrics["mean_perplexity"] == pytest.approx(
        np.exp(found.data["cross_entropy"].values).mean(), rel=1e-6
    )


def test_in_context_information_is_against_nothing(model: Model, one: Task) -> None:
    targets = targets_of(model, one, "in_context_pvi", continuation=SAID)
    tokens = [token for (token,) in targets.tokens[0]]
    start = model.tokenizer.bos_token_id
    alone = model.run([[start, *tokens[:1]]]).logits[0].log_softmax(-1)
    with_all = model.run([list(targets.ids[0])]).logits[0].log_softmax(-1)
    result = saliency(model, one, score="in_context_pvi", continuation=SAID, controls=0)
    for place, position in enumerate(targets.positions[0]):
        bits = float(with_all[position, tokens[place]] - alone[place, tokens[place]]) / math.log(2)
        assert result.data["score"].values[0, place] == pytest.approx(bits, abs=1e-5)


def test_a_foil_is_held_against_each_token(model: Model, one: Task) -> None:
    result = saliency(model, one, score="logit_difference", continuation=SAID, foil=FOIL, controls=0)
    targets = targets_of(model, one, "logit_difference", continuation=SAID, foil=FOIL)
    logits = model.run([list(targets.ids[0])]).logits[0]
    position = targets.positions[0][0]
    expected = logits[position, model.token_id(" Mary")] - logits[position, model.token_id(" John")]
    assert result.data["score"].values[0, 0] == pytest.approx(float(expected), abs=1e-5)
    assert result.data["score"].values[0, 1] == 0, "the second token is its own foil"
    assert result.data["target_token"].values[0, 0] == " Mary −  John"


def test_dropout_is_left_as_it_was() -> None:
    model = tiny("gpt2")
    task = Task.from_prompts(["When Mary and John"])
    plain = saliency(model, task, score="probability", controls=0)
    blurred = saliency(model, task, score="mc_dropout_probability", controls=0)
    again = saliency(model, task, score="mc_dropout_probability", controls=0)
    assert blurred.id == again.id and blurred.data["score"].values != plain.data["score"].values
    assert not any(module.training for module in model.hf.modules())
    with pytest.raises(RuntimeError, match="broken"), dropping(model.hf, seed=0):
        assert any(module.training for module in model.hf.modules())
        raise RuntimeError("broken")
    assert not any(module.training for module in model.hf.modules())
    assert saliency(model, task, score="probability", controls=0).id == plain.id


def test_a_step_function_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runner_up.py").write_text(
        "def margin(step):\n    top = step.logits.topk(2, dim=-1).values\n    return top[..., 0] - top[..., 1]\n"
    )
    folder = tmp_path / "runner_up-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: runner-up\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[cutaway.step_functions]\nmargin = runner_up:margin\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    model = tiny("gpt2")
    task = Task.from_prompts(["When Mary and John"])
    result = saliency(model, task, score="margin", controls=5)
    top = model.run(task, logits="last").last_logits.topk(2).values[0]
    assert result.data["score"].values[0] == pytest.approx(float(top[0] - top[1]), abs=1e-6)
    sys.modules.pop("runner_up", None)


def test_every_built_in_score_has_a_gradient(model: Model, one: Task) -> None:
    for name in NAMES:
        result = saliency(model, one, score=name, continuation=SAID, foil=FOIL, controls=0)
        assert np.nanmax(result.data["attribution"].values) > 0, name


def test_refusals(one: Task) -> None:
    model = tiny("llama")
    with pytest.raises(ParameterError, match="there is no step function 'entrpy'.*entropy"):
        saliency(model, one, score="entrpy")
    with pytest.raises(ParameterError, match="nothing that the tokens are held against"):
        saliency(model, one, score="logit_difference", continuation=SAID)
    with pytest.raises(ParameterError, match="the task has no contrast"):
        saliency(model, Task.from_prompts(["When Mary"]), score="kl")
    with pytest.raises(ParameterError, match="aligned by contrast_attributions"):
        saliency(model, one, score="logit_difference", continuation=SAID, foil=" John")
    with pytest.raises(ParameterError, match="no text that it takes the place of"):
        saliency(model, one, foil=FOIL)
