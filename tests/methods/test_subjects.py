"""Tokens of subjects, their places, and their noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cutaway.core.errors import TaskError
from cutaway.core.task import Task
from cutaway.methods.subjects import LAST_SUBJECT, PLACES, embedding_deviation, noise_for, subjects_of
from cutaway.testing import tiny, tiny_task

TEXTS = ("The official language of New Zealand is really", "The capital of France is")
TASK = Task.from_prompts(
    TEXTS,
    answers=[" English", " Paris"],
    positions={"subject": ["New Zealand", "France"], "other": ["official", "capital"]},
)


def test_a_subject_is_all_the_tokens_of_its_word() -> None:
    model = tiny("llama", texts=TEXTS)
    encoded = TASK.encode(model.tokenizer)
    found = subjects_of(model, encoded)
    words = [model.token_strings(ids[start:stop]) for ids, (start, stop) in zip(encoded.ids, found.spans, strict=True)]
    assert words == [[" New", " Zealand"], [" France"]]
    assert found.notes == ()
    other = subjects_of(model, encoded, "other")
    assert [stop - start for start, stop in other.spans] == [1, 1]


def test_every_position_from_the_subject_on_has_one_place() -> None:
    model = tiny("llama", texts=TEXTS)
    encoded = TASK.encode(model.tokenizer)
    found = subjects_of(model, encoded)
    start, stop = found.spans[0]
    places = found.places(0, len(encoded.ids[0]))
    assert places == {
        "first subject token": [start],
        "middle subject tokens": [],
        "last subject token": [stop - 1],
        "first token after": [stop],
        "further tokens": [],
        "last token": [stop + 1],
    }
    short = found.places(1, len(encoded.ids[1]))
    assert short[LAST_SUBJECT] == [found.spans[1][0]] and short[PLACES[0]] == [] and short[PLACES[3]] == []
    assert sorted(p for every in places.values() for p in every) == list(range(start, len(encoded.ids[0])))


def test_without_a_subject_another_word_or_everything_is_taken_and_said() -> None:
    model = tiny("llama", texts=TEXTS)
    renamed = replace(TASK, positions={"place": TASK.positions["subject"]})
    found = subjects_of(model, renamed.encode(model.tokenizer))
    assert found.name == "place" and "“place” is taken" in found.notes[0]
    encoded = replace(TASK, positions={}).encode(model.tokenizer)
    everything = subjects_of(model, encoded)
    assert everything.spans == tuple((1, len(ids) - 1) for ids in encoded.ids)  # without the start token
    assert "every token but special ones" in everything.notes[0]


def test_words_that_are_not_there_or_end_the_prompt_are_refused() -> None:
    model = tiny("llama", texts=TEXTS)
    encoded = TASK.encode(model.tokenizer)
    with pytest.raises(TaskError, match="names no word 'subjct'.*did you mean 'subject'"):
        subjects_of(model, encoded, "subjct")
    ending = Task.from_prompts("The capital of France", answers=" is", positions={"subject": "France"})
    with pytest.raises(TaskError, match="ends prompt 0"):
        subjects_of(model, ending.encode(model.tokenizer))


def test_the_deviation_is_that_of_all_numbers_of_the_distinct_subjects() -> None:
    model = tiny("gpt2")
    encoded = tiny_task().encode(model.tokenizer)
    found = subjects_of(model, encoded)
    weights = model.hf.get_input_embeddings().weight
    tokens = sorted({ids[start] for ids, (start, _) in zip(encoded.ids, found.spans, strict=True)})
    expected = float(weights[tokens].detach().double().std())
    assert embedding_deviation(model, encoded, found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_noise_lies_on_the_subject_has_its_size_and_follows_its_seed(distribution: str) -> None:
    model = tiny("llama")

    def draw(*seed: int) -> torch.Tensor:
        return noise_for(model, 9, (2, 5), 0.5, samples=200, distribution=distribution, seed=seed)  # type: ignore[arg-type]

    noise = draw(1, 2)
    assert noise.shape == (200, 9, 32) and not noise[:, :2].any() and not noise[:, 5:].any()
    expected = 0.5 if distribution == "normal" else 0.5 / np.sqrt(3)
    assert float(noise[:, 2:5].std()) == pytest.approx(expected, rel=0.02)
    assert torch.equal(noise, draw(1, 2)) and not torch.equal(noise, draw(1, 3))
