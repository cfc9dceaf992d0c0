"""Does the model know that a war ends after it begins? Greater-than [@hanna2023].

    The war lasted from the year 1741 to the year 17  ->  any two digits above 41

All later years of the century are right and all others wrong; the metric is the probability of the former
minus that of the latter. In the contrast the first year ends in 01 (the paper's `01` data), after which
nearly every year is later. Named words: `noun`, `yy` (the two digits that count) and `yy_tens` (the first
of them).

The paper's GPT-2 reads two digits as one token. Many tokenizers split numbers into single digits: then the
token after "17" is the tens digit, which is right or wrong by itself except where years of both sides begin
with it. `answer="year"` (the default) leaves it to `Task.encode`: such a digit counts for neither side, and a
first year such as 04 or 95, with no digit left for one side, is dropped with that reason.
`answer="tens_digit"` asks for the tens digit outright, and draws first years from 10 to 89 only, so that
nothing is dropped.
Limits: with single digits this is a comparison of tens digits, a smaller thing than the paper's; say so.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from cutaway.core.method import task
from cutaway.core.task import Task
from cutaway.data.sampling import Count, Seed, draw, pick
from cutaway.data.templates import Example, Filled, fill, task_of
from cutaway.data.words import listed

TEMPLATE = "The {noun} lasted from the year {century}{yy_tens}{yy_ones} to the year {century}"
NOUNS: tuple[str, ...] = listed(
    """
    alliance battle boycott campaign competition conflict construction crisis crusade debate depression
    dispute drought dynasty epidemic expansion expedition experiment famine friendship investigation journey
    marriage migration mission negotiation occupation plague project rebellion recession regime reign
    revolution search siege strike study survey tour tournament trial voyage war
    """
)
CENTURIES = tuple(range(11, 18))


@task(asks="In which year can it have ended? In a later one than it began.", cites="hanna2023")
def greater_than(
    *,
    n: Count = 50,
    seed: Seed = 0,
    answer: Annotated[
        Literal["year", "tens_digit"],
        Field(description="year: two digits, as in the paper; tens_digit: for tokenizers with single digits"),
    ] = "year",
) -> Task:
    """Sentences that give the first year of something and the century of its last."""

    def make(rng: np.random.Generator) -> Example:
        return _example(rng, tens_only=answer == "tens_digit")

    return task_of(
        "greater_than",
        draw("greater_than", n, np.random.default_rng(seed), make),
        positions=("noun", "yy", "yy_tens"),
        seed=seed,
        source="hanna2023; nouns of our own",
        metric="probability_difference",
    )


def _example(rng: np.random.Generator, tens_only: bool) -> Example:
    year = int(rng.integers(10, 90) if tens_only else rng.integers(2, 99))
    noun, century = pick(rng, NOUNS), str(pick(rng, CENTURIES))
    if tens_only:
        later = tuple(str(digit) for digit in range(year // 10 + 1, 10))
        earlier = tuple(str(digit) for digit in range(year // 10))
    else:
        later = tuple(f"{other:02}" for other in range(year + 1, 100))
        earlier = tuple(f"{other:02}" for other in range(year + 1))
    return Example(_sentence(noun, century, year), _sentence(noun, century, 1), later, earlier, century)


def _sentence(noun: str, century: str, year: int) -> Filled:
    digits = f"{year:02}"
    filled = fill(TEMPLATE, {"noun": noun, "century": century, "yy_tens": digits[0], "yy_ones": digits[1]})
    yy = (filled.spans["yy_tens"][0], filled.spans["yy_ones"][1])
    return Filled(filled.text, {**filled.spans, "yy": yy})
