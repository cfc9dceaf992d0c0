"""Occlusion against texts with holes that are made by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cutaway.core.errors import ParameterError
from cutaway.core.task import Task
from cutaway.methods.attribute.deletion import removable, scores_without
from cutaway.methods.attribute.neutral import neutral_embedding
from cutaway.methods.attribute.occlusion import _scores_closed_up, occlusion, words_of
from cutaway.methods.attribute.targets import targets_of
from cutaway.models import pass_groups, shared_prefix
from cutaway.models.model import Model
from cutaway.testing.tiny import tiny


def log_probability(model: Model, embeddings: torch.Tensor, token: int) -> float:
    with torch.no_grad():
        return float(model.hf(inputs_embeds=embeddings[None]).logits[0, -1].log_softmax(-1)[token])


def test_a_token_is_worth_what_its_hole_costs(model: Model, one: Task) -> None:
    result = occlusion(model, one, instead="eos", score="log_probability", controls=5)
    encoded = one.encode(model.tokenizer)
    weight, token = model.hf.get_input_embeddings().weight.detach(), encoded.answer_ids[0][0]
    own = weight[list(encoded.ids[0])]
    whole = log_probability(model, own, token)
    for place, found in enumerate(result.data["attribution"].values[0]):
        holed = own.clone()
        holed[place] = weight[model.tokenizer.eos_token_id]
        if encoded.ids[0][place] in model.tokenizer.all_special_ids:
            assert np.isnan(found)
        else:
            assert found == pytest.approx(whole - log_probability(model, holed, token), abs=1e-5)


def test_removing_closes_the_text_up(model: Model, one: Task) -> None:
    result = occlusion(model, one, instead="remove", score="logit", continuation=" Mary and", controls=5)
    targets = targets_of(model, one, "logit", continuation=" Mary and")
    ids = list(targets.ids[0])
    for target, place in enumerate(targets.positions[0]):
        (token,) = targets.tokens[0][target]
        whole = float(model.run([ids[: place + 1]], logits="last").last_logits[0, token])
        for at in (3, place):
            rest = [each for i, each in enumerate(ids[: place + 1]) if i != at]
            expected = whole - float(model.run([rest], logits="last").last_logits[0, token])
            assert result.data["attribution"].values[0, target, at] == pytest.approx(expected, abs=1e-5)


def test_a_text_that_is_taken_out_whole_has_no_score() -> None:
    model = tiny("gpt2")
    targets = targets_of(model, Task.from_prompts(["When"]), "logit", continuation=" Mary and")
    found = _scores_closed_up(model, targets, 0, [(), (0,), (1,), (0, 1)])
    assert np.isnan(found[[1, 3], 0]).all() and np.isfinite(found[[0, 2], 0]).all()
    assert np.isfinite(found[:3, 1]).all() and np.isnan(found[3, 1])
    assert found[2, 0] == found[0, 0]


@pytest.mark.parametrize("unit", ["token", "word"])
def test_shared_prefixes_give_what_whole_texts_give(
    model: Model, one: Task, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"unit": unit, "instead": "eos", "score": "log_probability", "controls": 0}
    whole = occlusion(model, one, continuation=" Mary and John", **asked).data  # type: ignore[arg-type]
    monkeypatch.setattr(shared_prefix, "WORTH", 0)
    targets = targets_of(model, one, "log_probability", continuation=" Mary and John")
    each = [[place] for place in range(1, len(targets.ids[0]))]
    monkeypatch.setitem(pass_groups.PASS_TOKENS, "cpu", 0)
    assert shared_prefix.is_shorter(model, len(targets.ids[0]), each)
    shared = occlusion(model, one, continuation=" Mary and John", **asked).data  # type: ignore[arg-type]
    # Norms and softmax of transformers work in single precision whatever the weights are.
    np.testing.assert_allclose(shared["attribution"], whole["attribution"], atol=2e-6, rtol=0)
    assert np.nanmax(np.abs(whole["attribution"])) > 1e-3


def test_taking_nothing_out_changes_nothing(model: Model, task: Task) -> None:
    targets = targets_of(model, task, "metric")
    neutral = neutral_embedding(model, "zero")
    for prompt in range(len(task)):
        scores = scores_without(model, targets, prompt, [(), (1,), ()], neutral)
        assert scores[0] == pytest.approx(scores[2], abs=1e-9) and abs(scores[0] - scores[1]) > 1e-6
        run = model.run([list(targets.ids[prompt])], logits="last")
        assert scores[0] == pytest.approx(float(targets.score([prompt])(run.logits)), abs=1e-6)


def test_a_word_is_taken_out_whole() -> None:
    model = tiny("llama")
    task = Task.from_prompts(["When Mary and Bartholomew went to the store,"], answers=[" Mary"])
    result = occlusion(model, task, unit="word", score="logit", controls=5)
    texts = result.data["token"].values[0].tolist()
    words = words_of(texts)
    longest = max(set(words), key=words.count)
    name = [place for place, word in enumerate(words) if word == longest]
    assert len(name) > 3 and "".join(texts[place] for place in name) == " Bartholomew"
    assert len({float(result.data["attribution"].values[0, place]) for place in name}) == 1
    targets = targets_of(model, task, "logit")
    scores = scores_without(model, targets, 0, [(), name], neutral_embedding(model, "mean"))[:, 0]
    assert result.data["attribution"].values[0, name[0]] == pytest.approx(scores[0] - scores[1], abs=1e-5)


@given(st.lists(st.sampled_from(["a", " a", "'", ",", " the", "ing", "7", " ", "\n"]), max_size=12))
def test_words_are_runs_of_tokens(texts: list[str]) -> None:
    numbers = words_of(texts)
    assert len(numbers) == len(texts)
    assert all(later - earlier in (0, 1) for earlier, later in itertools.pairwise(numbers))
    for place in range(1, len(texts)):
        same = numbers[place] == numbers[place - 1]
        before = texts[place - 1]
        assert same == (before == " " or (before[-1].isalnum() and texts[place][0].isalnum()))


def test_special_tokens_stay() -> None:
    model = tiny("llama")
    task = Task.from_prompts(["When Mary and John"], answers=[" went"])
    targets = targets_of(model, task, "metric")
    assert model.tokenizer.bos_token_id == targets.ids[0][0]
    assert removable(model, targets, 0) == list(range(1, len(targets.ids[0])))


def test_the_check_takes_out_the_marked_against_other_tokens(straight: Model, one: Task) -> None:
    """There only the last token is seen: taking it out costs everything, taking others out nothing."""
    result = occlusion(straight, one, instead="zero", share=0.05, score="logit", controls=10)
    (check,) = result.checks
    attribution = result.data["attribution"].values[0]
    if np.nanargmax(attribution) == len(attribution) - 1:
        assert check.passed and check.interval == (0.0, 0.0) and check.measured == pytest.approx(np.nanmax(attribution))
    else:
        assert not check.passed


def test_a_text_without_two_tokens_has_no_check() -> None:
    model = tiny("llama")
    result = occlusion(model, Task.from_prompts(["When"], answers=[" Mary"]))
    assert result.checks == () and any("Not checked" in note for note in result.notes)


def test_refusals(one: Task) -> None:
    with pytest.raises(ParameterError, match="'unit'"):
        occlusion(tiny("llama"), one, unit="sentence")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="has no token for 'unk'"):
        occlusion(tiny("llama"), one, instead="unk")


@pytest.mark.parametrize(("unit", "said"), [("token", "tokens that cost"), ("word", "tokens of the words that cost")])
def test_the_check_says_by_what_its_tokens_were_chosen(unit: str, said: str) -> None:
    task = Task.from_prompts(["When Mary and John went"], answers=[" to"])
    result = occlusion(tiny("llama"), task, unit=unit, score="probability", share=0.25, controls=5)
    (check,) = result.checks
    assert f"Take out together the 25 % of the {said} the most when hidden alone (1 prediction)" in check.how
    assert "the log-probability (in nats, for nearly any gap" in check.how and check.unit == "nats"
    assert result.data["attribution"].attrs == {
        "long_name": f"fall of the score without the {unit}",
        "units": "probability",
    }
