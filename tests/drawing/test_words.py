from __future__ import annotations

import math

import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from cutaway.core import view as views
from cutaway.core.result import Result
from cutaway.drawing.words import (
    column,
    figure,
    label,
    number,
    readable,
    shortened,
    signed,
    standing,
    tick,
    visible,
    visible_text,
)


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" Mary", "·Mary"),
        ("\n\n", "↵↵"),
        ("\t", "⇥"),
        ("\x00\x1b", "⟨U+0000⟩⟨U+001B⟩"),
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("\ud83d", "⟨U+D83D⟩"),
        ("\xa0", "⟨U+00A0⟩"),
        ("👩‍🔬é中", "👩‍🔬é中"),
    ],
)
def test_tokens_are_shown_with_every_character_to_be_seen(token: str, shown: str) -> None:
    assert visible(token) == shown


def test_texts_keep_spaces_and_lines() -> None:
    assert readable("a b\n\tc\x00") == "a b\n    c⟨U+0000⟩"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.0, "0"),
        (12345, "12,345"),
        (0.012345, "0.0123"),
        (-1.5, "-1.50"),
        (123.456, "123"),
        (1e-7, "1.00e-07"),
        (3.2e12, "3.20e+12"),
        (math.nan, "missing"),
        (-math.inf, "-∞"),
        (True, "yes"),
    ],
)
def test_numbers_have_three_digits(value: float, shown: str) -> None:
    assert number(value) == shown


@given(st.floats(-1e300, 1e300))
def test_a_written_number_is_the_number_to_three_digits(value: float) -> None:
    assert float(number(value).replace(",", "")) == pytest.approx(value, rel=6e-3, abs=0)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6))
def test_numbers_below_each_other_lose_none(values: list[float]) -> None:
    largest = max(map(abs, values))
    for value, written in zip(values, column(values)):
        assert float(written.replace(",", "")) == pytest.approx(value, rel=1e-3, abs=largest * 1e-3)
        assert value == 0 or float(written.replace(",", "")) != 0


def test_small_things() -> None:
    assert tick(3.0) == "3"
    assert tick(2.5) == "2.50"
    assert signed(2.0) == "+2.00"
    assert signed(-2.0) == "-2.00"
    assert signed(0.0) == "0"
    assert label(" a") == "·a"
    assert label(7) == "7"
    assert shortened("abcdef", 4) == "abc…"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("head 23.3", "head 23.3"),
        ("  two before", "··two before"),
        ("after ", "after·"),
        ("9  John", "9 ·John"),
        ("  ", "··"),
        ("", ""),
        ("a\n b", "a↵ b"),
    ],
)
def test_only_spaces_that_could_be_overlooked_are_dots_in_labels(text: str, shown: str) -> None:
    assert label(text) == shown


@given(st.text(alphabet=" ab\n", max_size=8), st.text(alphabet=" ab\n", max_size=8))
def test_different_texts_have_different_labels(one: str, other: str) -> None:
    assert (label(one) == label(other)) == (one == other)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("says “ Mary” here", "says “·Mary” here"),
        ("“Mary”", "“Mary”"),
        ("“ ”", "“·”"),
        ("“  x ” and “y”", "“··x·” and “y”"),
        ("“\n”", "“↵”"),
        ("“\x1b” ' Mary'", "“⟨U+001B⟩” ' Mary'"),
    ],
)
def test_a_quoted_token_in_a_sentence_shows_its_spaces(said: str, shown: str) -> None:
    assert visible_text(said) == shown


def test_a_sign_is_written_where_there_are_two() -> None:
    assert figure(0.923, signs=False) == "0.923"
    assert figure(0.923, signs=True) == "+0.923"
    assert figure(-0.5, signs=False) == "-0.500"
    assert figure(math.nan, signs=True) == "missing"


def test_a_picture_says_where_it_stands_only_where_it_could_stand_elsewhere() -> None:
    data = xr.Dataset({"v": (("prompt", "layer", "x"), [[[1.0], [2.0]]])}, coords={"layer": [4, 5]})
    data["layer"].attrs["long_name"] = "layer of the stack"
    view = views.bars(value="v", label="x", at={"prompt": 0, "layer": 5})
    assert standing(view, Result(data, views=(view,)).data) == "layer of the stack 5"
