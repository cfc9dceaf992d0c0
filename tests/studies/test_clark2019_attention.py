"""Recipes of the studies of encoders and of spelling: their texts, and figures that follow from them."""

from __future__ import annotations

import numpy as np
import pytest

from cutaway.core.study import InMemory, StudyRun
from cutaway.studies.clark2019_attention import clark2019_attention, texts_of_treebank


def test_sentences_are_joined_until_a_text_is_long_enough() -> None:
    task = texts_of_treebank("made", 12, 20, seed=1)
    lengths = [len(prompt.split()) for prompt in task.prompts]
    assert len(lengths) > 1 and all(length >= 20 for length in lengths[:-1])
    alone = texts_of_treebank("made", 12, 1, seed=1)
    assert len(alone) == 12 and " ".join(alone.prompts) == " ".join(task.prompts)


def test_figures_are_those_of_the_methods() -> None:
    keeper = InMemory()
    findings = clark2019_attention(StudyRun("tiny", 1, keeper))
    relations = keeper.kept["relations"].data
    accuracy = relations["accuracy"].sel(relation="obj")
    gain = float(accuracy.sel(by="best head") - accuracy.sel(by="best fixed distance"))
    assert findings.figures["object"].value == pytest.approx(gain)
    assert findings.figures["all_relations"].value == pytest.approx(float(relations["accuracy"].values[0, 0]))
    heads = keeper.kept["statistics"].data["attention"].sel(place="previous").values
    assert findings.figures["previous_heads"].value == float((heads > 0.5).sum())
    distance = keeper.kept["clusters"].data["distance"].values
    layers = keeper.kept["clusters"].data["layer"].values
    off = ~np.eye(len(layers), dtype=bool)
    ratio = distance[off & (layers[:, None] == layers)].mean() / distance[off].mean()
    assert findings.figures["layers_alike"].value == pytest.approx(ratio)
