"""The page of known circuits says what is measured: some lines of it are measured again."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutaway.models.toy_programs import PROGRAMS
from cutaway.testing.known_circuits import REACH, SCORERS, page

PAGE = Path(__file__).parents[2] / "docs" / "known-circuits.md"


def test_every_program_and_method_is_on_the_page() -> None:
    written = PAGE.read_text(encoding="utf-8")
    for name in (*PROGRAMS, *SCORERS, "gates"):
        assert f"| {name} |" in written
    assert set(REACH) == {*SCORERS, "gates"}


@pytest.mark.all
def test_lines_of_the_page_are_what_is_measured() -> None:
    measured = page(("fraction", "gates")).splitlines()
    written = PAGE.read_text(encoding="utf-8").splitlines()
    lines = [line for line in measured if line.startswith(("| fraction", "| gates"))]
    assert len(lines) == 4
    for line in lines:
        assert line in written
