"""What is explained: the task's metric, or every token of a continuation."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from cutaway.core.errors import MethodError, ParameterError
from cutaway.core.task import Task
from cutaway.methods.attribute.targets import targets_of
from cutaway.models.metric import metric_of
from cutaway.models.model import Model
from cutaway.testing.tiny import tiny


def logits_of(rows: int, targets: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    size = tiny("llama").anatomy.vocab_size
    return torch.randn(rows, targets, size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("metric", ["logit_difference", "probability_difference", "log_probability"])
def test_the_metric_of_the_task_is_the_score(task: Task, metric: str) -> None:
    model = tiny("llama")
    task = dataclasses.replace(task, metric=metric)
    targets = targets_of(model, task, "metric")
    logits = logits_of(3)
    found = targets.score([2, 0, 2])(logits)
    expected = metric_of(task.encode(model.tokenizer)).for_rows([2, 0, 2])(logits[:, 0])
    assert targets.score_name == metric and torch.allclose(found[:, 0], expected)


@pytest.mark.parametrize("metric", ["rank", "accuracy", "kl"])
def test_a_metric_without_a_gradient_is_replaced_and_said(task: Task, metric: str) -> None:
    found = targets_of(tiny("llama"), dataclasses.replace(task, metric=metric), "metric")
    assert found.score_name == "logit_difference"
    assert f"The metric {metric} has no gradient" in found.notes[-1]
    alone = dataclasses.replace(task, metric=metric, wrong=())
    assert targets_of(tiny("llama"), alone, "metric").score_name == "log_probability"


def test_without_answers_the_prediction_is_explained(task: Task) -> None:
    model = tiny("llama")
    bare = Task.from_prompts(task.prompts)
    targets = targets_of(model, bare, "metric")
    predicted = model.run(bare, logits="last").last_logits.argmax(-1).tolist()
    assert targets.tokens == tuple(((token,),) for token in predicted)
    assert targets.score_name == "log_probability"
    assert any("no answers" in note for note in targets.notes)


def test_scores_of_several_answers() -> None:
    model = tiny("llama")
    task = Task.from_prompts(
        ["When Mary and John went to", "Then Anna"], answers=[[" Mary", " John", " Anna"], [" Paul"]]
    )
    logits = logits_of(2)
    log = logits[:, 0].log_softmax(-1)
    found = {
        name: targets_of(model, task, name).score([0, 1])(logits)[:, 0]  # type: ignore[arg-type]
        for name in ("logit", "log_probability", "probability")
    }
    encoded = task.encode(model.tokenizer)
    for row, answers in enumerate(map(list, encoded.answer_ids)):
        assert found["logit"][row] == pytest.approx(float(logits[row, 0, answers].mean()))
        assert found["probability"][row] == pytest.approx(float(log[row, answers].exp().sum()))
        assert found["log_probability"][row] == pytest.approx(float(log[row, answers].logsumexp(-1)))


def test_a_generated_continuation_is_the_models_own(task: Task) -> None:
    model = tiny("llama")
    targets = targets_of(model, task, "logit", generate=3)
    written = model.generate(task, max_new_tokens=3)
    encoded = task.encode(model.tokenizer)
    for prompt, new in enumerate(written.new_ids):
        assert targets.ids[prompt] == (*encoded.ids[prompt], *new[:-1])
        assert targets.tokens[prompt] == tuple((token,) for token in new)
        assert targets.positions[prompt][0] == len(encoded.ids[prompt]) - 1


def test_a_given_continuation_is_taken_token_by_token(one: Task) -> None:
    model = tiny("llama")
    targets = targets_of(model, one, "metric", continuation=" Mary and John")
    assert targets.words == ((" Mary", " and", " John"),)
    assert targets.score_name == "log_probability"
    assert len(targets.ids[0]) == len(one.encode(model.tokenizer).ids[0]) + 2


def test_one_target_of_several_can_be_scored_alone(one: Task) -> None:
    targets = targets_of(tiny("llama"), one, "logit", continuation=" Mary and John")
    logits = logits_of(2, 3)
    every = targets.score([0, 0])(logits)
    for target in range(3):
        assert torch.equal(
            targets.score([0, 0], wanted=[target])(logits[:, target : target + 1])[:, 0], every[:, target]
        )


def test_prompts_that_can_share_a_pass_are_grouped(task: Task) -> None:
    targets = targets_of(tiny("llama"), task, "metric")
    assert targets.groups() == [[0, 1], [2, 3]]


def test_refusals(one: Task) -> None:
    model = tiny("llama")
    cut = Task.from_prompts(["When Mary and John went t"])
    with pytest.raises(ParameterError, match="which changes the tokens of 'When Mary and John went t'") as caught:
        targets_of(model, cut, "metric", continuation="o the store")
    assert "Begin the continuation with a space" in str(caught.value)
    bert = tiny("bert")
    with pytest.raises(MethodError, match="generate and continuation need a causal model"):
        targets_of(Model(bert.hf, bert.tokenizer, name="bert"), one, "metric", generate=2)
