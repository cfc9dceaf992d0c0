"""What does the model know of a subject? Facts of eight relations, in the manner of CounterFact [@meng2022].

    The official language of France is  ->  " French", not " Japanese"     contrast: … of Japan is
    The chemical symbol for gold is     ->  " Au", not " Fe"               contrast: … for iron is

Each relation has two forms of words. The contrast asks the same of another subject with another answer,
which is the wrong answer here. Named word: `subject`. All are public facts, compiled for the project. With
`relation="all"` the relations take turns, so that a small task has some of each.
Limits: an answer of several tokens is scored by its first; a subject of other length in tokens than its
counterpart is dropped by `Task.encode`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from cutaway.core.method import task
from cutaway.core.task import Task
from cutaway.data.countries import COUNTRIES
from cutaway.data.sampling import Count, Seed, choose, pick, pick_several
from cutaway.data.templates import Example, fill, spaced, task_of


@dataclass(frozen=True)
class Relation:
    """What is asked of every subject, in several forms of words, and the answers."""

    templates: tuple[str, ...]
    answers: Mapping[str, tuple[str, ...]]


def _table(lines: str) -> dict[str, tuple[str, ...]]:
    """`Paris: France; Milan: Italy` as a table."""
    pairs = (entry.split(":") for entry in lines.replace("\n", " ").split(";"))
    return {subject.strip(): (answer.strip(),) for subject, answer in pairs}


RELATIONS: dict[str, Relation] = {
    "capital": Relation(
        ("The capital of {subject} is", "The capital city of {subject} is"),
        {country.name: country.capital for country in COUNTRIES if country.capital},
    ),
    "language": Relation(
        ("The official language of {subject} is", "The language that is spoken in {subject} is"),
        {country.name: country.language for country in COUNTRIES if country.language},
    ),
    "continent": Relation(
        (
            "The country of {subject} is on the continent of",
            "On a map, {subject} is found on the continent of",
        ),
        {country.name: country.continent for country in COUNTRIES if country.continent},
    ),
    "currency": Relation(
        ("The currency of {subject} is the", "The money that is used in {subject} is the"),
        {country.name: country.currency for country in COUNTRIES if country.currency},
    ),
    "symbol": Relation(
        ("The chemical symbol for {subject} is", "In the periodic table, {subject} has the symbol"),
        _table(
            """
            hydrogen: H; helium: He; lithium: Li; carbon: C; nitrogen: N; oxygen: O; neon: Ne;
            sodium: Na; magnesium: Mg; aluminum: Al; silicon: Si; phosphorus: P; sulfur: S; chlorine: Cl;
            potassium: K; calcium: Ca; titanium: Ti; iron: Fe; nickel: Ni; copper: Cu; zinc: Zn;
            silver: Ag; tin: Sn; tungsten: W; platinum: Pt; gold: Au; mercury: Hg; lead: Pb; uranium: U;
            iodine: I
            """
        ),
    ),
    "city": Relation(
        ("The city of {subject} is in the country of", "The country in which {subject} lies is"),
        _table(
            """
            Barcelona: Spain; Beijing: China; Berlin: Germany; Budapest: Hungary; Cairo: Egypt;
            Dublin: Ireland; Florence: Italy; Frankfurt: Germany; Geneva: Switzerland; Hamburg: Germany;
            Havana: Cuba; Istanbul: Turkey; Kyoto: Japan; Lima: Peru; Lisbon: Portugal; Lyon: France;
            Madrid: Spain; Melbourne: Australia; Milan: Italy; Montreal: Canada; Moscow: Russia;
            Mumbai: India; Munich: Germany; Nairobi: Kenya; Naples: Italy; Oslo: Norway; Paris: France;
            Rome: Italy; Shanghai: China; Stockholm: Sweden; Sydney: Australia; Tokyo: Japan;
            Toronto: Canada; Vancouver: Canada; Venice: Italy; Vienna: Austria; Warsaw: Poland;
            Zurich: Switzerland
            """
        ),
    ),
    "maker": Relation(
        ("The company that makes {subject} is", "The name of the company behind {subject} is"),
        _table(
            """
            Android: Google; Chrome: Google; Excel: Microsoft; Firefox: Mozilla; Gmail: Google;
            Instagram: Facebook; Java: Oracle; Kindle: Amazon; Mac: Apple; Photoshop: Adobe;
            PlayStation: Sony; Windows: Microsoft; Xbox: Microsoft; YouTube: Google; iPad: Apple;
            iPhone: Apple
            """
        ),
    ),
    "field": Relation(
        ("The work of {subject} belongs to the field of", "The domain of activity of {subject} was"),
        _table(
            """
            Aristotle: philosophy; Bach: music; Beethoven: music; Chopin: music; Copernicus: astronomy;
            Darwin: biology; Einstein: physics; Freud: psychology; Galileo: astronomy; Hegel: philosophy;
            Kant: philosophy; Kepler: astronomy; Monet: painting; Mozart: music; Newton: physics;
            Nietzsche: philosophy; Picasso: painting; Plato: philosophy; Shakespeare: literature;
            Socrates: philosophy; Wagner: music
            """
        ),
    ),
}


@task(asks="What does the model know of a subject?", cites="meng2022")
def facts(
    *,
    n: Count = 50,
    seed: Seed = 0,
    relation: Annotated[
        Literal["all", "capital", "language", "continent", "currency", "symbol", "city", "maker", "field"],
        Field(description="what is asked of the subject"),
    ] = "all",
) -> Task:
    """Facts about countries, elements, cities, products and people."""
    rng = np.random.default_rng(seed)
    names = list(RELATIONS) if relation == "all" else [relation]
    turns = zip_longest(*(_questions(rng, name) for name in names))
    questions = [question for question in chain.from_iterable(turns) if question is not None]
    chosen = questions[:n] if n <= len(questions) else choose("facts", n, rng, questions)
    examples = [_example(rng, *question) for question in chosen]
    source = "public facts, compiled for Cutaway (cutaway.data.tasks.facts)"
    return task_of("facts", examples, positions=("subject",), seed=seed, source=source)


def _questions(rng: np.random.Generator, name: str) -> list[tuple[str, int, str]]:
    """Every (relation, form, subject) of a relation, in random order."""
    relation = RELATIONS[name]
    every = [(name, form, subject) for form in range(len(relation.templates)) for subject in relation.answers]
    return pick_several(rng, every, len(every))


def _example(rng: np.random.Generator, name: str, form: int, subject: str) -> Example:
    relation = RELATIONS[name]
    answers = relation.answers[subject]
    other = pick(rng, [each for each, theirs in relation.answers.items() if theirs != answers])
    prompt, contrast = (fill(relation.templates[form], {"subject": each}) for each in (subject, other))
    return Example(prompt, contrast, spaced(answers), spaced(relation.answers[other]), f"{name}-{form}")
