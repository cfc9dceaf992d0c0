from __future__ import annotations

import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.errors import TaskError
from cutaway.data import corpora
from cutaway.data.corpora import paragraphs, plain_text


@given(st.integers(1, 200), st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_a_draw_is_repeatable_and_repeats_nothing(n: int, seed: int) -> None:
    drawn = plain_text(n, seed)
    assert drawn == plain_text(n, seed)
    assert len(set(drawn)) == len(drawn) == n


def test_a_larger_draw_begins_with_the_smaller() -> None:
    assert plain_text(50, 3)[:20] == plain_text(20, 3)
    assert plain_text(20, 3) != plain_text(20, 4)


def test_the_corpus_is_prose_of_this_python() -> None:
    found = paragraphs()
    assert len(found) > 500
    assert len(set(found)) == len(found)
    assert platform.python_version() in corpora.SOURCE
    for text in found:
        assert 80 <= len(text) <= 600
        assert text[0].isupper()
        assert text.endswith(".")
        assert text.isascii()
        assert "\n" not in text
        assert ">>>" not in text
        assert sum(character.isalpha() for character in text) >= 0.75 * len(text)


def test_reading_it_imports_nothing() -> None:
    code = (
        "import sys; from cutaway.data.corpora import plain_text; plain_text(1); "
        "sys.exit(any(name in sys.modules for name in ('turtle', 'smtplib', 'doctest')))"
    )
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0


def test_too_many_are_refused_with_their_number() -> None:
    available = len(paragraphs())
    assert len(plain_text(available)) == available
    for n in (available + 1, 0):
        with pytest.raises(TaskError) as caught:
            plain_text(n)
        assert str(caught.value).endswith(f"there are {available} here. Write 1 to {available}.")


def test_a_python_without_its_source_files_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bdb.py").write_text("def broken(:\n", encoding="utf-8")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    paragraphs.cache_clear()
    try:
        with pytest.raises(TaskError, match="This Python has no source files of its library"):
            plain_text(1)
    finally:
        paragraphs.cache_clear()
