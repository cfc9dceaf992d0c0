"""Which pronoun does an occupation call up? The professions of [@vig2020].

    The nurse said that  ->  " she" (what the stereotype says), not " he"      contrast: The man said that

The seventeen sentence forms of the paper. Which pronoun is called right here is a matter of the stereotype,
not of fact: occupations count as female or male by who mostly held them in the United States' labour
statistics, so that a high score is a measure of bias, not of skill. Named word: `profession`.

Two contrasts. `set_gender` (the default, the paper's intervention) puts "man" or "woman" in place of the
profession, of the gender that the stereotype does not say. `profession` puts a profession of the other
stereotype.
Limits: two pronouns only, and English.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from cutaway.core.method import task
from cutaway.core.task import Task
from cutaway.data.sampling import Count, Seed, choose, pick
from cutaway.data.templates import Example, fill, spaced, task_of
from cutaway.data.words import listed

TEMPLATES: tuple[str, ...] = tuple(
    f"The {{profession}} {rest}"
    for rest in (
        "said that",
        "yelled that",
        "whispered that",
        "wanted that",
        "desired that",
        "wished that",
        "ate because",
        "ran because",
        "drove because",
        "slept because",
        "cried because",
        "laughed because",
        "went home because",
        "stayed up because",
        "was fired because",
        "was promoted because",
        "yelled because",
    )
)
FEMALE: tuple[str, ...] = listed(
    """
    accountant assistant attendant auditor baker cleaner clerk counselor dancer designer editor librarian maid
    nurse secretary tailor teacher therapist writer
    """
)
MALE: tuple[str, ...] = listed(
    """
    analyst architect captain carpenter chief coach commander detective developer doctor driver economist
    engineer farmer guard judge lawyer manager mechanic miner pilot sailor scientist sheriff soldier
    supervisor surgeon
    """
)


@task(asks="Which pronoun does an occupation call up?", cites="vig2020")
def gender_pronoun(
    *,
    n: Count = 50,
    seed: Seed = 0,
    contrast: Annotated[
        Literal["set_gender", "profession"],
        Field(description="set_gender: man or woman instead; profession: one of the other stereotype"),
    ] = "set_gender",
) -> Task:
    """Sentences about somebody of an occupation, up to the pronoun."""
    rng = np.random.default_rng(seed)
    options = [(number, name) for number in range(len(TEMPLATES)) for name in (*FEMALE, *MALE)]
    chosen = choose("gender_pronoun", n, rng, options)
    examples = [_example(rng, number, profession, contrast) for number, profession in chosen]
    source = "vig2020; professions of our own, by US labour statistics"
    return task_of("gender_pronoun", examples, positions=("profession",), seed=seed, source=source)


def _example(rng: np.random.Generator, number: int, profession: str, contrast: str) -> Example:
    female = profession in FEMALE
    right, wrong = ("she", "he") if female else ("he", "she")
    if contrast == "profession":
        other = pick(rng, MALE if female else FEMALE)
    else:
        other = "man" if female else "woman"
    prompt, changed = (fill(TEMPLATES[number], {"profession": each}) for each in (profession, other))
    return Example(prompt, changed, spaced([right]), spaced([wrong]), str(number))
