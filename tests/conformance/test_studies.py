"""Every study of the registry keeps the laws of studies."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutaway.core import registry
from cutaway.testing import STUDY_LAWS, check_study

REFERENCES = Path(__file__).parents[2] / "docs" / "references.bib"
STUDIES = [entry.name for entry in registry.entries("study") if entry.distribution == registry.OURS]


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("law", STUDY_LAWS)
def test_a_study_keeps_the_law(name: str, law: str) -> None:
    check_study(name, laws=[law], references=REFERENCES)


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_has_a_file_of_its_name(name: str) -> None:
    entry = registry.find("study", name)
    assert entry.path.stem == name
    assert name.startswith(entry.cites)
