"""Which of a task's prompts? Some of them by their places, or those that the model already answers as the task does.

Limits: what is chosen by the model's own answer says nothing about the prompts that were left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cutaway.core.errors import TaskError
from cutaway.core.task import EncodedTask
from cutaway.models.metric import metric_of
from cutaway.models.model import Model


def part_of(encoded: EncodedTask, prompts: Sequence[int]) -> EncodedTask:
    """The encoded task with only these of its prompts, by their places in it."""
    columns = ("kept", "ids", "contrast_ids", "answer_ids", "wrong_ids")
    changed: dict[str, Any] = {
        name: tuple(column[p] for p in prompts) for name in columns if (column := getattr(encoded, name))
    }
    positions = {name: tuple(where[p] for p in prompts) for name, where in encoded.positions.items()}
    return replace(encoded, positions=positions, **changed)


def where_preferred(model: Model, encoded: EncodedTask) -> tuple[EncodedTask, tuple[str, ...]]:
    """The prompts in which the answer is likelier than the wrong one, and how many they are.

    Raises:
        TaskError: there is none.
    """
    lead = metric_of(encoded, "logit_difference")(model.run(encoded, logits="last").last_logits)
    kept = [prompt for prompt, value in enumerate(lead.tolist()) if value > 0]
    if not kept:
        raise TaskError(
            f"in none of the {len(encoded)} prompts the answer is likelier than the wrong one;",
            "only those in which it is were asked for.",
            "Leave preferred out.",
        )
    if len(kept) == len(encoded):
        return encoded, ()
    return part_of(encoded, kept), (f"{len(kept)} of {len(encoded)} prompts are kept: there the answer is preferred.",)
