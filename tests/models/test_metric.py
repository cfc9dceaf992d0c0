"""Metrics by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cutaway.core.errors import TaskError
from cutaway.core.task import Task
from cutaway.models.metric import METRICS, Metric, as_metric, metric_of
from cutaway.models.model import Model

ANSWERS, WRONG = ((1, 2), (3,)), ((4,), (5, 6, 7))


def logits_of(seed: int, rows: int = 2) -> torch.Tensor:
    return 3 * torch.randn(rows, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def metric(name: str) -> Metric:
    reference = logits_of(99).log_softmax(-1) if name == "kl" else None
    return Metric(name, ANSWERS, WRONG, reference)


@given(st.integers(0, 10_000))
def test_by_hand(seed: int) -> None:
    x = logits_of(seed)
    p, ours = x.softmax(-1), {name: metric(name)(x) for name in METRICS}
    for row in range(2):
        right, wrong = list(ANSWERS[row]), list(WRONG[row])
        expected = {
            "logit_difference": x[row, right].mean() - x[row, wrong].mean(),
            "probability_difference": p[row, right].sum() - p[row, wrong].sum(),
            "log_probability": p[row, right].sum().log(),
            "kl": torch.nn.functional.kl_div(
                p[row].log(), logits_of(99)[row].log_softmax(-1), log_target=True, reduction="sum"
            ),
            "rank": (x[row] > x[row, right].max()).sum().double(),
            "accuracy": (x[row, right].max() > x[row, wrong].max()).double(),
        }
        for name, value in expected.items():
            assert torch.allclose(ours[name][row], value, rtol=1e-9, atol=1e-12), name


def test_known_values() -> None:
    x = torch.tensor([[0.0, 2.0, 1.0, 0.0]])
    assert Metric("logit_difference", ((1,),), ((2,),))(x).tolist() == [1.0]
    assert Metric("rank", ((2,),))(x).tolist() == [1.0]
    assert Metric("rank", ((2, 1),))(x).tolist() == [0.0]
    assert Metric("accuracy", ((1,),))(x).tolist() == [1.0]
    assert Metric("accuracy", ((2,),))(x).tolist() == [0.0]
    assert Metric("accuracy", ((2,),), ((0,),))(x).tolist() == [1.0]
    assert Metric("accuracy", ((0,),), ((3,),))(x).tolist() == [0.0]  # a tie is no success
    assert Metric("accuracy", ((1,),)).against(x)(x).tolist() == [0.0]


@given(st.integers(0, 10_000), st.lists(st.integers(0, 1), min_size=1, max_size=5))
def test_rows_of_a_batch(seed: int, rows: list[int]) -> None:
    x = logits_of(seed, len(rows))
    for name in METRICS:
        mine = metric(name)
        batch = mine.for_rows(rows)(x)
        for i, row in enumerate(rows):
            assert torch.equal(batch[i], mine.for_rows([row])(x[i : i + 1])[0]), name


@given(st.integers(0, 10_000), st.lists(st.integers(0, 1), min_size=1, max_size=5))
def test_from_the_logits_of_its_tokens_alone(seed: int, rows: list[int]) -> None:
    x, mine = logits_of(seed, len(rows)), metric("logit_difference")
    assert mine.tokens == (1, 2, 3, 4, 5, 6, 7)
    assert not mine.needs_vocabulary
    assert torch.allclose(mine.of_tokens(x[:, list(mine.tokens)], rows), mine.for_rows(rows)(x), rtol=1e-12, atol=1e-12)
    assert all(metric(name).needs_vocabulary for name in METRICS if name != "logit_difference")


def test_half_precision_is_raised_and_double_is_kept() -> None:
    x = logits_of(0)
    for name in ("probability_difference", "log_probability", "kl"):
        assert metric(name)(x).dtype == torch.float64
        half = metric(name)(x.bfloat16())
        assert half.dtype != torch.bfloat16
        assert torch.allclose(half.double(), metric(name)(x.bfloat16().double()), atol=1e-5)
    assert metric("kl").against(x).reference.dtype == torch.float64


def test_tasks(spoken: Callable[[Task], Model]) -> None:
    task = Task.from_prompts(["Mary met", "Anna saw"], answers=[[" John", " Paul"], " Mary"], wrong=[" Anna", " Emma"])
    model = spoken(task)
    encoded = task.encode(model.tokenizer)
    found = metric_of(encoded)
    assert found.name == "logit_difference"
    assert [model.token_strings(ids) for ids in found.answers] == [[" John", " Paul"], [" Mary"]]
    assert metric_of(encoded, "rank").name == "rank"
    assert as_metric(None, encoded).answers == found.answers
    assert as_metric("accuracy", encoded).name == "accuracy"
    assert as_metric(len, encoded) is len
    run = model.run(task, metric=found)
    assert torch.allclose(run.metric, found(model.run(task).last_logits))
    alone = Task.from_prompts(["Mary met", "Anna saw"], answers=[" John", " Mary"]).encode(model.tokenizer)
    assert metric_of(alone).name == "log_probability"


ERRORS: list[tuple[Callable[[], Any], str]] = [
    (lambda: Metric("logit_diff", ANSWERS, WRONG), "'logit_diff' is not a metric: did you mean 'logit_difference'?"),
    (lambda: Metric("kl", ANSWERS), "kl compares with a reference run. Use metric.against(logits of the reference)."),
    (lambda: Metric("rank", ()), "rank needs an answer for each prompt. Give answers=[...] with the task."),
    (lambda: Metric("accuracy", ((1,), ())), "accuracy needs an answer for each prompt."),
    (
        lambda: Metric("logit_difference", ANSWERS),
        "logit_difference needs a wrong answer for each prompt. Give wrong=[...],",
    ),
    (
        lambda: Metric("probability_difference", ANSWERS, ((1,), ())),
        "probability_difference needs a wrong answer for each",
    ),
    (
        lambda: as_metric(None, [[1, 2]]),
        "Prompts alone have no metric. Give a task with answers, or metric=function of",
    ),
]


@pytest.mark.parametrize(("act", "says"), ERRORS, ids=[says[:36] for _, says in ERRORS])
def test_what_is_wrong_is_said(act: Callable[[], Any], says: str) -> None:
    with pytest.raises(TaskError) as caught:
        act()
    assert str(caught.value).startswith(says)


def test_prompts_without_answers_have_no_metric(spoken: Callable[[Task], Model]) -> None:
    task = Task.from_prompts(["Mary met", "Anna saw"])
    model = spoken(task)
    with pytest.raises(TaskError, match="needs an answer for each prompt"):
        metric_of(task.encode(model.tokenizer), "rank")


def test_a_narrowed_metric_counts_in_its_own_rows() -> None:
    metric = Metric("logit_difference", ((0,), (1,), (2,)), ((3,), (3,), (3,)))
    logits = torch.eye(4)[[1, 2]]
    narrowed = metric.for_rows([1, 2])
    assert narrowed(logits).tolist() == [1.0, 1.0]
    assert narrowed.for_rows([1, 0])(logits.flip(0)).tolist() == [1.0, 1.0]
