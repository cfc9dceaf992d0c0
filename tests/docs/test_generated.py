"""The pages that are made from the code are those that the code would make now."""

from __future__ import annotations

import re

import pytest

from cutaway.core import registry
from cutaway.core.errors import CutawayError
from cutaway.core.site import KINDS
from cutaway.testing import pages


def test_the_generated_pages_are_current() -> None:
    assert not pages.stale(), "run make docs"


def test_a_stale_page_is_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = pages.pages()
    path = pages.DOCS / "references.md"
    monkeypatch.setattr(pages, "pages", lambda: {**found, path: found[path] + "more"})
    assert "references.md" in pages.stale()
    assert pages.main(["--check"]) == 1
    assert "docs/references.md is not what the code would write: run make docs" in capsys.readouterr().err


def test_every_method_has_its_parameters_on_the_page() -> None:
    text = (pages.DOCS / "reference" / "methods.md").read_text(encoding="utf-8")
    for entry in (e for e in registry.entries("method") if e.distribution == registry.OURS):
        part = text.partition(f"\n## {entry.name}\n")[2].partition("\n## ")[0]
        assert [p.name for p in entry.parameters] == re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)


def test_a_kind_of_site_without_a_definition_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "definitions", lambda: dict.fromkeys(set(KINDS) - {"z"}, "something."))
    with pytest.raises(CutawayError, match=r"The glossary does not define z\. .*Write a line `\* \*\*z\*\*: …`"):
        pages.pages()


def test_references_are_readable() -> None:
    text = (pages.DOCS / "references.md").read_text(encoding="utf-8")
    assert "Kramár J., Lieberum T., Shah R. et al. (2024). [AtP*: An efficient" in text
    assert not re.search(r"[{}\\]", text)
