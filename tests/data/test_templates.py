from __future__ import annotations

import pytest

from cutaway.data.templates import fill, spaced


def test_words_are_remembered_where_they_come_first() -> None:
    filled = fill("{b} and {a}, {b} said", {"a": "Anna", "b": "Bo"})
    assert filled.text == "Bo and Anna, Bo said"
    assert filled.spans == {"b": (0, 2), "a": (7, 11)}


def test_the_word_after_a_word_can_be_named() -> None:
    filled = fill("{b}, and then {a}", {"a": "Anna", "b": "Bo"}).named_after("next", "b")
    assert filled.spans["next"] == (4, 7)
    with pytest.raises(ValueError, match="no word follows 'a' in 'Bo, and then Anna'"):
        filled.named_after("more", "a")


def test_answers_are_new_words() -> None:
    assert spaced(["Mary", "New York"]) == (" Mary", " New York")
