"""A tiny network in double precision, and facts that it has single tokens for."""

from __future__ import annotations

import functools
from typing import Any

from cutaway.core.task import Task
from cutaway.models.model import Model
from cutaway.testing import tiny

TEXTS = ["The capital of France is Paris", "The capital of Italy is Rome", "The capital of Spain is Madrid"]


@functools.cache
def double(family: Any) -> Model:
    model = tiny(family, texts=TEXTS)
    model.hf.double()
    return model


def capital(**changes: Any) -> Task:
    given: dict[str, Any] = {"answers": " Rome", "wrong": " Paris", "positions": {"subject": "France"}, **changes}
    return Task.from_prompts("The capital of France is", **given)
