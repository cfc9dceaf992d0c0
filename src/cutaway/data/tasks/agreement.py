"""Does the verb agree with its subject, past a noun that does not? Subject-verb agreement [@linzen2016].

    The keys near the cabinet  ->  " are", not " is"        contrast: The key near the cabinet

A noun of the other number (the attractor) stands between the subject and its verb. The contrast has the
subject in the other number, which turns the answers round. Named words: `subject` and `attractor`. Singular
and plural subjects take turns. Nouns and prepositions are lists of our own.
Limits: only regular plurals, and only one attractor.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from cutaway.core.method import task
from cutaway.core.task import Task
from cutaway.data.sampling import Count, Seed, draw, pick
from cutaway.data.templates import Example, fill, spaced, task_of
from cutaway.data.words import listed

TEMPLATE = "The {subject} {preposition} the {attractor}"
PREPOSITIONS = ("near", "behind", "beside", "by", "next to", "in front of", "across from")
SUBJECTS: tuple[str, ...] = listed(
    """
    key book door window table letter picture car boat horse dog bird tree river road house teacher student
    doctor lawyer artist farmer player leader engine machine report plan song cup chair coat ring tower
    garden bottle
    """
)
ATTRACTORS: tuple[str, ...] = listed(
    """
    cabinet school office hotel building room kitchen wall bridge station museum hospital street forest
    mountain manager guard king officer village
    """
)
VERBS = {"is": ("is", "are"), "was": ("was", "were"), "has": ("has", "have")}


@task(asks="Is the verb singular or plural? As its subject, not as the nearest noun.", cites="linzen2016")
def agreement(
    *,
    n: Count = 50,
    seed: Seed = 0,
    attractor: Annotated[
        Literal["opposite", "same", "any"],
        Field(description="number of the noun between subject and verb, seen from the subject"),
    ] = "opposite",
    verb: Annotated[Literal["is", "was", "has"], Field(description="the verb, by its singular")] = "is",
) -> Task:
    """Beginnings of sentences, up to the verb."""
    numbers = {"opposite": (True,), "same": (False,), "any": (True, False)}[attractor]

    def make(rng: np.random.Generator) -> Example:
        return _example(rng, plural=bool(rng.integers(2)), opposite=pick(rng, numbers), verb=verb)

    examples = draw("agreement", n, np.random.default_rng(seed), make)
    positions = ("subject", "attractor")
    return task_of("agreement", examples, positions=positions, seed=seed, source="linzen2016; nouns of our own")


def _example(rng: np.random.Generator, *, plural: bool, opposite: bool, verb: str) -> Example:
    subject, between = pick(rng, SUBJECTS), pick(rng, ATTRACTORS)
    between_plural = plural != opposite
    words = {"preposition": pick(rng, PREPOSITIONS), "attractor": _in_number(between, between_plural)}
    prompt, contrast = (
        fill(TEMPLATE, {**words, "subject": _in_number(subject, number)}) for number in (plural, not plural)
    )
    singular, many = VERBS[verb]
    right, wrong = (many, singular) if plural else (singular, many)
    label = f"{'plural' if plural else 'singular'}-{'plural' if between_plural else 'singular'}"
    return Example(prompt, contrast, spaced([right]), spaced([wrong]), label)


def _in_number(noun: str, plural: bool) -> str:
    return f"{noun}s" if plural else noun
