"""Does the model go on as before? Random words, said twice [@olsson2022].

    Words: apple river stone lamp apple river  ->  " stone"

`length` random nouns are said once and then begun again; the answer is the noun that followed the last one
the first time. Nothing but the repetition tells it. The wrong answer is the noun after another one. Named
words: `first` (where the last word was said before), `copied` (the word after it, the answer) and `repeat`
(where the second saying begins).

Two contrasts. `last` (the default) changes the last word to another one of the list, which makes its
follower the right answer and the wrong answer the right one: one word differs. `fresh` says other words the
first time, so that there is nothing to copy.
Limits: words, not tokens: a noun of several tokens in a vocabulary is scored by its first.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from cutaway.core.method import task
from cutaway.core.task import Task
from cutaway.data.sampling import Count, Seed, draw, pick, pick_several
from cutaway.data.templates import Example, Filled, fill, spaced, task_of
from cutaway.data.words import NOUNS

_LONGEST = len(NOUNS) // 2  # `fresh` needs as many other words


@task(asks="Which word followed this one the last time?", cites="olsson2022")
def induction(
    *,
    n: Count = 50,
    seed: Seed = 0,
    length: Annotated[int, Field(ge=4, le=_LONGEST, description="how many words are said before they repeat")] = 12,
    contrast: Annotated[
        Literal["last", "fresh"],
        Field(description="last: another last word; fresh: other words the first time"),
    ] = "last",
) -> Task:
    """Lists of random words that begin again."""

    def make(rng: np.random.Generator) -> Example:
        return _example(rng, length, contrast)

    examples = draw("induction", n, np.random.default_rng(seed), make)
    positions = ("first", "copied", "repeat")
    return task_of("induction", examples, positions=positions, seed=seed, source="olsson2022; nouns of our own")


def _example(rng: np.random.Generator, length: int, contrast: str) -> Example:
    drawn = pick_several(rng, NOUNS, 2 * length)
    words, fresh = drawn[:length], drawn[length:]
    last = int(rng.integers(1, length - 1))  # at least two words are said again, and one is left to say
    # Not the word before the last: its follower is the last word itself.
    other = pick(rng, [place for place in range(length - 1) if place not in (last - 1, last)])
    again = words[: last + 1]
    prompt = _sentence(words, again)
    changed = _sentence(fresh, again) if contrast == "fresh" else _sentence(words, [*again[:-1], words[other]])
    return Example(prompt, changed, spaced([words[last + 1]]), spaced([words[other + 1]]), str(last))


def _sentence(words: list[str], again: list[str]) -> Filled:
    blanks = {f"w{place}": word for place, word in enumerate([*words, *again])}
    filled = fill("Words: " + " ".join(f"{{{blank}}}" for blank in blanks), blanks)
    last = len(again) - 1
    places = {"first": last, "copied": last + 1, "repeat": len(words)}
    return Filled(filled.text, {name: filled.spans[f"w{place}"] for name, place in places.items()})
