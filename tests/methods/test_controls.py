"""A check may be left out, and the Result says so; a check with too few controls is refused."""

from __future__ import annotations

import pytest

from cutaway.core import registry
from cutaway.core.errors import ParameterError
from cutaway.testing import tiny, tiny_task

CHECKED = [
    entry.name
    for entry in registry.entries("method")
    if "controls" in registry.get("method", entry.name).schema()["properties"]
]


def test_most_methods_have_controls() -> None:
    assert len(CHECKED) >= 10


@pytest.mark.parametrize("name", CHECKED)
def test_without_controls_nothing_is_claimed(name: str) -> None:
    result = registry.get("method", name)(tiny("llama"), tiny_task(), controls=0)
    assert not result.checks
    assert [note for note in result.notes if note.startswith("Not checked: controls is 0")]


@pytest.mark.parametrize("name", CHECKED)
def test_too_few_controls_are_refused(name: str) -> None:
    with pytest.raises(ParameterError, match="5 random sets or more; 0 leaves the check out"):
        registry.get("method", name)(tiny("llama"), tiny_task(), controls=4)
