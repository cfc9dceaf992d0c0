from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cutaway.store.escape import escaped, needs_escape, unescaped

odd = st.text(st.one_of(st.characters(), st.sampled_from("\x00\\u0041\ud800\udfff")))


def words(*items: str) -> np.ndarray:
    made = np.empty(len(items), dtype=object)
    made[:] = items
    return made


@given(st.lists(odd))
def test_escapes_are_undone(items: list[str]) -> None:
    assert unescaped(escaped(words(*items))).tolist() == items


@given(st.lists(odd, min_size=1))
def test_what_is_escaped_can_be_written(items: list[str]) -> None:
    for text in escaped(words(*items)).tolist():
        assert "\x00" not in text
        text.encode("utf-8")


def test_only_what_cannot_be_held_needs_it() -> None:
    assert not needs_escape(words("a\\b", "\n", "🙂", ""))
    assert needs_escape(words("a", "b\x00"))
    assert needs_escape(words("\udc00"))
