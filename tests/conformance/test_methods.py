"""Every method of the registry keeps the laws of methods."""

from __future__ import annotations

from pathlib import Path

import pytest

import cutaway
from cutaway.core import registry
from cutaway.testing import METHOD_LAWS, check_method

REFERENCES = Path(__file__).parents[2] / "docs" / "references.bib"
METHODS = [entry.name for entry in registry.entries("method") if entry.distribution == registry.OURS]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("law", METHOD_LAWS)
def test_a_method_keeps_the_law(name: str, law: str) -> None:
    check_method(name, laws=[law], references=REFERENCES)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_a_name_of_cutaway(name: str) -> None:
    if name in cutaway.__all__:  # `ablate` is an edit and a method: the method is reached beside its like
        assert getattr(cutaway.methods, name) is registry.get("method", name)
    else:
        assert getattr(cutaway, name) is registry.get("method", name)
    assert name in dir(cutaway)


def test_names_are_given_once() -> None:
    everything = [(e.kind, e.name) for kind in registry.KINDS for e in registry.entries(kind)]
    assert len(everything) == len(set(everything))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_a_file_of_its_name(name: str) -> None:
    entry = registry.find("method", name)
    assert entry.path.stem == name
    assert entry.path.parent.parent.name == "methods"
