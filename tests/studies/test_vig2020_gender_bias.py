"""The recipe of the study on gender bias: its sentences, and figures that follow from them."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from cutaway.core.result import Result
from cutaway.core.study import InMemory, StudyRun
from cutaway.data.tasks.gender_pronoun import gender_pronoun
from cutaway.studies.vig2020_gender_bias import _middle, either_way, vig2020_gender_bias


def test_each_sentence_comes_with_either_pronoun_and_the_word_that_speaks_for_the_other() -> None:
    sentences = gender_pronoun(n=3, seed=1)
    task = either_way(sentences)
    assert len(task) == 6
    for index, text in enumerate(sentences.prompts):
        start, end = sentences.positions["profession"][index]
        for place, (answer, other) in enumerate(((" she", "man"), (" he", "woman"))):
            row = 2 * index + place
            assert task.prompts[row] == text and task.answers[row] == (answer,)
            assert task.contrasts[row] == f"{text[:start]}{other}{text[end:]}"
            assert task.wrong[row] == ({" she": " he", " he": " she"}[answer],)
            assert task.positions["profession"][row] == (start, end)


@pytest.mark.parametrize(("layers", "value"), [((3, 4, 5), 1.0), ((0, 8), 0.0), (range(9), 1 / 3)])
def test_the_share_of_the_middle_third(layers: tuple[int, ...], value: float) -> None:
    grid = np.zeros((9, 2))
    grid[list(layers), 1] = 0.5
    grid[4, 0] = -7.0  # a head that works against the effect carries none of it
    figure = _middle(Result(xr.Dataset({"effect_pattern": (("layer", "head"), grid)})))
    assert figure.value == pytest.approx(value) and figure.control == pytest.approx(1 / 3)


def test_what_goes_through_everything_is_the_mean_total_effect() -> None:
    keeper = InMemory()
    findings = vig2020_gender_bias(StudyRun("tiny", 3, keeper))
    total = np.expm1(keeper.kept["attention"].data["log_total_effect"].values)
    assert findings.figures["total_effect"].value == pytest.approx(total.mean())
    assert set(keeper.kept["all heads"]) >= {"total", "through", "past"}
    assert "indirect_over_direct" not in findings.figures  # its sentences are not here: not tested
    assert findings.result.data["heads"].shape == (3, 4)
