"""What is the capital of France? One fact a prompt, in four forms of words.

    The capital of France is  ->  " Paris", not " Rome"        contrast: The capital of Italy is

The contrast asks the same of another country, whose capital is the wrong answer. Named word: `country`.
Countries and capitals are public facts, compiled for the project (`cutaway.data.countries`). `facts` has
other relations.
Limits: a capital of several tokens is scored by its first.
"""

from __future__ import annotations

import numpy as np

from cutaway.core.method import task
from cutaway.core.task import Task
from cutaway.data.countries import COUNTRIES, SOURCE, Country
from cutaway.data.sampling import Count, Seed, choose, pick
from cutaway.data.templates import Example, fill, spaced, task_of

TEMPLATES: tuple[str, ...] = (
    "The capital of {country} is",
    "The capital city of {country} is",
    "The capital of {country} is the city of",
    "The name of the capital of {country} is",
)
WITH_CAPITAL = tuple(country for country in COUNTRIES if country.capital)


@task(asks="What is the capital of a country?")
def capitals(*, n: Count = 50, seed: Seed = 0) -> Task:
    """Questions for the capitals of countries."""
    rng = np.random.default_rng(seed)
    options = [(number, country) for number in range(len(TEMPLATES)) for country in WITH_CAPITAL]
    chosen = choose("capitals", n, rng, options)
    examples = [_example(rng, number, country) for number, country in chosen]
    return task_of("capitals", examples, positions=("country",), seed=seed, source=SOURCE)


def _example(rng: np.random.Generator, number: int, country: Country) -> Example:
    other = pick(rng, [each for each in WITH_CAPITAL if each.capital != country.capital])
    prompt, contrast = (fill(TEMPLATES[number], {"country": each.name}) for each in (country, other))
    return Example(prompt, contrast, spaced(country.capital), spaced(other.capital), str(number))
