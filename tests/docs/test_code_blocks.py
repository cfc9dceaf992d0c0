"""What the documentation shows is what happens: every block of Python and every command is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cutaway.testing.documents import blocks_of, is_long, needs_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _with_code() -> list[object]:
    """The pages that have something to run; those that need weights are marked `real`."""
    found: list[object] = []
    for page in PAGES:
        blocks = blocks_of(page.read_text(encoding="utf-8"))
        if any(block.language in ("python", "console") for block in blocks):
            marks = [pytest.mark.real] if needs_of(blocks) else []
            marks += [pytest.mark.all] if is_long(blocks) else []
            found.append(pytest.param(page, id=str(page.relative_to(ROOT)), marks=marks))
    return found


@pytest.mark.parametrize("page", _with_code())
def test_a_page_does_what_it_shows(page: Path, run_page: Callable[[Path], list[str]]) -> None:
    assert not run_page(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_says_its_language(page: Path) -> None:
    unnamed = [b.line for b in blocks_of(page.read_text(encoding="utf-8")) if not b.language]
    assert not unnamed, f"{page.name}: blocks at lines {unnamed}"
