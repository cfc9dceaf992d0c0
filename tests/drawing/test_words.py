from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.drawing.words import column, label, number, readable, shortened, signed, tick, visible


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
