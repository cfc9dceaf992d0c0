"""Recipes of the study of spelling."""

from __future__ import annotations

import numpy as np
import pytest

from cutaway.core.study import InMemory, StudyRun
from cutaway.studies.watkins2023_spellgpt import letters_right, watkins2023_spellgpt


def test_letters_in_their_places() -> None:
    answers, words = ["TABLE", "TXBLE", "TABBE", "", "AB"], ["TABLE", "TABLE", "TABLE", "TABLE", "AB"]
    assert letters_right(answers, words, "first").tolist() == [1, 1, 1, 0]  # two letters have no middle
    assert letters_right(answers, words, "middle").tolist() == [1, 1, 1, 0]
    assert letters_right(answers, words, "last").tolist() == [1, 1, 1, 0]
    assert letters_right(["TAXL"], ["TABLE"], "middle").tolist() == [0]
    assert letters_right(["TAXL"], ["TABLE"], "last").tolist() == [0]


def test_figures_are_those_of_the_methods() -> None:
    keeper = InMemory()
    findings = watkins2023_spellgpt(StudyRun("tiny", 0, keeper))
    scores = keeper.kept["spelling"].data["score"].values
    control = keeper.kept["spelling"].checks[0].control
    assert findings.figures["spells"].value == pytest.approx(scores.mean() - control)
    accuracy = keeper.kept["probe"].data["accuracy"]
    assert findings.figures["first_letter_probe"].value == pytest.approx(
        float(accuracy.sel(letter="first", by="embeddings"))
    )
    later = accuracy.sel(by="embeddings")
    assert findings.figures["later_letters_probe"].value == pytest.approx(
        float(later.sel(letter="first") - later.sel(letter="third"))
    )
    assert np.isfinite([figure.value for figure in findings.figures.values()]).all()
