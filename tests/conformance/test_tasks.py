"""Every task of the registry keeps the laws of tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

import cutaway
from cutaway.core import registry
from cutaway.testing import TASK_LAWS, check_task

REFERENCES = Path(__file__).parents[2] / "docs" / "references.bib"
TASKS = [entry.name for entry in registry.entries("task") if entry.distribution == registry.OURS]


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("law", TASK_LAWS)
def test_a_task_keeps_the_law(name: str, law: str) -> None:
    check_task(name, laws=[law], references=REFERENCES)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_reached_by_its_name(name: str) -> None:
    assert getattr(cutaway.tasks, name) is registry.get("task", name)
    assert name in dir(cutaway.tasks)
    assert registry.find("task", name).path.stem == name


def test_there_are_tasks() -> None:
    assert len(TASKS) >= 8
