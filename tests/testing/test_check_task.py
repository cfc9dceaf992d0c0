"""The laws of tasks find what they are there to find."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from pydantic import Field

from cutaway.core.method import TaskBuilder, task
from cutaway.core.task import Task
from cutaway.testing import TASK_LAWS, check_task, texts_of, tiny_task, tiny_tokenizer

NAMES = ("Mary", "John", "Anna", "Paul", "Rosa", "Mark", "Emma", "Carl", "Lucy", "Adam")


def honest(n: int, seed: int) -> Task:
    pairs = [np.random.default_rng([seed, i]).choice(len(NAMES), 2, replace=False) for i in range(n)]
    return Task(
        name="names",
        prompts=tuple(f"{NAMES[a]} and {NAMES[b]} met; {NAMES[b]} saw" for a, b in pairs),
        contrasts=tuple(f"{NAMES[b]} and {NAMES[a]} met; {NAMES[a]} saw" for a, b in pairs),
        answers=tuple((f" {NAMES[a]}",) for a, _ in pairs),
        wrong=tuple((f" {NAMES[b]}",) for _, b in pairs),
        seed=seed,
        source="written for tests",
    )


def made(asks: str = "Who is seen?", **changed: Any) -> TaskBuilder[...]:
    """A builder of tasks with some of their parts changed; a callable gets the task."""

    def names(*, n: Annotated[int, Field(ge=1)] = 8, seed: int = 0) -> Task:
        """Two people."""
        made = honest(n, seed)
        return replace(made, **{k: v(made) if callable(v) else v for k, v in changed.items()})

    return task(asks=asks)(names)


def test_an_honest_task_breaks_no_law() -> None:
    check_task(made())


@pytest.mark.parametrize(
    ("builder", "law", "said"),
    [
        (made(asks=""), "says_what_it_is", "it does not say what it asks"),
        (made(source=""), "says_what_it_is", "it does not say where its texts come from"),
        (made(seed=None), "follows_its_seed", "the task does not carry its seed"),
        (made(contrasts=lambda t: t.prompts), "fits_together", "a contrast is the same as its prompt"),
        (
            made(answers=(), wrong=(), metric="kl"),
            "fits_together",
            "it has no answers, so nothing can be scored",
        ),
        (
            made(contrasts=lambda t: tuple(c + " again" for c in t.contrasts)),
            "fits_together",
            "none of the 12",
        ),
    ],
)
def test_what_is_wrong_with_a_task_is_said(builder: TaskBuilder[...], law: str, said: str) -> None:
    with pytest.raises(Exception, match=said):
        check_task(builder, laws=[law])


def test_a_task_that_ignores_its_size_or_seed_is_found() -> None:
    @task(asks="Who?")
    def fixed(*, n: int = 3, seed: int = 0) -> Task:
        """Always the same."""
        return replace(honest(3, 0), seed=seed)

    with pytest.raises(AssertionError) as raised:
        check_task(fixed)
    said = str(raised.value)
    assert "n=1 gives 3 prompts" in said
    assert "its prompts are the same with every seed" in said
    assert "no ParameterError that says 'n'" in said


def test_a_task_that_draws_from_the_global_state_is_found() -> None:
    @task(asks="Who?")
    def careless(*, seed: int = 0) -> Task:
        """Draws where it should not."""
        return honest(int(torch.randint(2, 5, ())), seed)

    state = torch.get_rng_state()
    try:
        with pytest.raises(AssertionError, match="it draws from torch's global random state"):
            check_task(careless, laws=["follows_its_seed"])
    finally:
        torch.set_rng_state(state)


def test_every_law_is_run_by_default() -> None:
    assert set(TASK_LAWS) >= {"says_what_it_is", "fits_together", "can_be_scored", "can_be_repeated"}


def test_the_tiny_tokenizer_has_a_token_for_every_word_and_for_any_text() -> None:
    given = tiny_task()
    tokenizer = tiny_tokenizer(texts_of(given), start=False)
    words = tokenizer.convert_ids_to_tokens(tokenizer(given.prompts[0])["input_ids"])
    assert [word.replace("Ġ", " ") for word in words][:3] == ["When", " Mary", " and"]
    odd = "naïve 🦊\x00 \n 日本語"
    assert tokenizer.decode(tokenizer(odd)["input_ids"]) == odd
