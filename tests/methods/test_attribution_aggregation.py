"""Tokens put together keep their sums, their order and their names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.core.errors import ParameterError
from cutaway.core.task import Task
from cutaway.methods.attribute.input_x_gradient import input_x_gradient
from cutaway.methods.attribution_aggregation import HOW, aggregated, words_of
from cutaway.testing.tiny import tiny

MODEL = tiny("llama")
TASK = Task.from_prompts(["When Mary and Bartholomew went. Then Anna and Paul met", "Then Anna"])
MAP = input_x_gradient(MODEL, TASK, score="logit", continuation=" Mary and John", controls=0)


@pytest.mark.parametrize("by", ["word", "sentence", "chunk"])
def test_sums_stay_sums(by: str) -> None:
    pieces = aggregated(MAP, by=by, size=3)  # type: ignore[arg-type]
    before, after = (np.nansum(each.data["attribution"].values, axis=-1) for each in (MAP, pieces))
    assert np.allclose(before, after, atol=1e-5)
    assert pieces.data.sizes["position"] < MAP.data.sizes["position"]
    for prompt in range(2):
        joined = "".join(pieces.data["token"].values[prompt])
        assert joined == "".join(MAP.data["token"].values[prompt])
    assert pieces.checks == MAP.checks and "put together" in pieces.notes[-1]


def test_a_word_has_its_tokens_and_no_others() -> None:
    pieces = aggregated(MAP, by="word", how="l2", targets="all")
    texts = pieces.data["token"].values[0].tolist()
    place = texts.index(" Bartholomew")
    tokens = MAP.data["token"].values[0].tolist()
    numbers = words_of([text for text in tokens if text])
    mine = [i for i, number in enumerate(numbers) if number == numbers[tokens.index(" and") + 1]]
    each = np.sqrt((MAP.data["attribution"].values[0][:, mine].astype(float) ** 2).sum(-1))
    assert pieces.data["attribution"].values[0, place] == pytest.approx(each.mean(), rel=1e-5)
    assert pieces.data["target_token"].values[0] == " Mary and John"


def test_sentences_end_where_they_end() -> None:
    texts = [text for text in aggregated(MAP, by="sentence").data["token"].values[0].tolist() if text]
    assert texts[0].endswith(" went.") and texts[1].startswith(" Then Anna")


def test_places_that_are_named() -> None:
    pieces = aggregated(MAP, spans={"first": (1, 4), "rest": (4, 8)}, how="mean")
    texts = pieces.data["token"].values[0].tolist()
    assert texts[1:3] == ["first", "rest"]
    assert pieces.data["attribution"].values[0, 0, 1] == pytest.approx(
        MAP.data["attribution"].values[0, 0, 1:4].mean(), rel=1e-5
    )
    with pytest.raises(ParameterError, match="'far' is"):
        aggregated(MAP, spans={"far": (3, 400)})


def test_what_is_missing_stays_missing() -> None:
    rows = aggregated(MAP, by="chunk", size=2).data["attribution"].values[1]
    assert np.isnan(rows[0, -1]) and np.isfinite(rows[:, 0]).all()


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=6))
def test_ways_to_put_together(values: list[float]) -> None:
    array = np.array(values)
    assert HOW["absmax"](array) in values and abs(HOW["absmax"](array)) == max(map(abs, values))
    assert HOW["min"](array) <= HOW["mean"](array) + 1e-9 and HOW["mean"](array) <= HOW["max"](array) + 1e-9
    assert HOW["l2"](array) == pytest.approx(np.linalg.norm(array))
    assert HOW["prod"](array) == pytest.approx(np.prod(array))


def test_refusals() -> None:
    with pytest.raises(ParameterError, match="no way 'meen'.*mean"):
        aggregated(MAP, how="meen")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="no pieces 'words'.*word"):
        aggregated(MAP, by="words")  # type: ignore[arg-type]
    from cutaway.methods.attribute.step_scores import step_scores

    with pytest.raises(ParameterError, match="not a map of tokens"):
        aggregated(step_scores(MODEL, TASK))
