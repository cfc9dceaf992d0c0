"""Who gets the drink? Indirect object identification [@wang2022].

    When Mary and John went to the store, John gave a drink to  ->  " Mary", not " John"

The fifteen sentence forms of the paper (its figure 14), each with the names in both orders (BABA: the giver
comes first; ABBA: the receiver does), and with lists of common names, places and objects of our own. Named
words: `io` (the indirect object, the answer), `s1` and `s2` (the two mentions of the subject) and
`s1_plus_1` (the word after `s1`).

Two contrasts. `abc` (the default, as in the paper) puts three unrelated names in place of `io`, `s1` and
`s2`, so that nobody is mentioned twice: the sentence keeps its form and loses what tells the answer. `swap`
changes one word: `s2` becomes the other name, so that the answers trade places; it suits patching one
position at a time.
Limits: names that are several tokens are scored by the first; places and objects carry no meaning for the
answer.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from cutaway.core.method import task
from cutaway.core.task import Task
from cutaway.data.sampling import Count, Seed, draw, pick, pick_several
from cutaway.data.templates import Example, Filled, fill, spaced, task_of
from cutaway.data.words import listed

# The first two names are written as {one} and {two}: which of them is the subject is the order.
TEMPLATES: tuple[str, ...] = (
    "Then, {one} and {two} went to the {place}. {s2} gave a {object} to",
    "Then, {one} and {two} had a lot of fun at the {place}. {s2} gave a {object} to",
    "Then, {one} and {two} were working at the {place}. {s2} decided to give a {object} to",
    "Then, {one} and {two} were thinking about going to the {place}. {s2} wanted to give a {object} to",
    "Then, {one} and {two} had a long argument, and afterwards {s2} said to",
    "After {one} and {two} went to the {place}, {s2} gave a {object} to",
    "When {one} and {two} got a {object} at the {place}, {s2} decided to give it to",
    "When {one} and {two} got a {object} at the {place}, {s2} decided to give the {object} to",
    "While {one} and {two} were working at the {place}, {s2} gave a {object} to",
    "While {one} and {two} were commuting to the {place}, {s2} gave a {object} to",
    "After the lunch, {one} and {two} went to the {place}. {s2} gave a {object} to",
    "Afterwards, {one} and {two} went to the {place}. {s2} gave a {object} to",
    "Then, {one} and {two} had a long argument. Afterwards {s2} said to",
    "The {place} {one} and {two} went to had a {object}. {s2} gave it to",
    "Friends {one} and {two} found a {object} at the {place}. {s2} gave it to",
)
NAMES: tuple[str, ...] = listed(
    """
    Aaron Adam Alan Albert Alex Alexander Alice Amanda Amy Andrea Andrew Angela Ann Anna Anne Anthony Arthur
    Barbara Ben Benjamin Betty Bill Bob Brian Bruce Carl Carol Caroline Catherine Charles Charlie Charlotte
    Chris Christine Christopher Claire Clara Craig Daniel David Dennis Diana Donald Dorothy Douglas Edward
    Eleanor Elizabeth Ellen Emily Emma Eric Ethan Eva Frances Frank Fred Gary George Grace Graham Greg
    Hannah Harold Harry Helen Henry Howard Ian Jack Jacob James Jane Janet Jason Jean Jeff Jennifer Jeremy
    Jessica Jim Joan Joe John Jonathan Joseph Joshua Judith Julia Julie Justin Karen Kate Katherine Keith
    Kelly Kenneth Kevin Kim Larry Laura Lauren Lawrence Leo Leonard Lewis Linda Lisa Louis Louise Lucy Luke
    Margaret Maria Marie Mark Martha Martin Mary Matthew Max Melissa Michael Michelle Mike Molly Nancy
    Nathan Nicholas Nick Nicole Nina Oliver Oscar Patricia Patrick Paul Peter Philip Rachel Ralph Raymond
    Rebecca Richard Robert Robin Roger Ronald Rose Roy Russell Ruth Ryan Sam Samuel Sandra Sara Sarah Scott
    Sean Sharon Simon Sophia Sophie Stephen Steve Steven Stuart Susan Teresa Thomas Tim Tom Tony Tyler
    Victor Victoria Vincent Walter Wayne William
    """
)
PLACES: tuple[str, ...] = listed(
    """
    airport bank beach church farm garden hospital hotel house library market museum office park
    restaurant school station store theater village
    """
)
OBJECTS: tuple[str, ...] = listed(
    """
    bag basketball bone book cap card coin computer cup drink flower gift hat key letter map necklace
    pen phone ring snack ticket toy watch
    """
)


@task(asks="Who is given the thing? The name that is mentioned once.", cites="wang2022")
def ioi(
    *,
    n: Count = 50,
    seed: Seed = 0,
    contrast: Annotated[
        Literal["abc", "swap"],
        Field(description="abc: three unrelated names; swap: the second mention becomes the other name"),
    ] = "abc",
    order: Annotated[
        Literal["both", "baba", "abba"],
        Field(description="which name comes first: the giver (baba), the receiver (abba), or either"),
    ] = "both",
) -> Task:
    """Sentences in which one of two people gives something to the other."""

    def make(rng: np.random.Generator) -> Example:
        return _example(rng, contrast, order)

    examples = draw("ioi", n, np.random.default_rng(seed), make)
    positions = ("io", "s1", "s1_plus_1", "s2")
    return task_of("ioi", examples, positions=positions, seed=seed, source="wang2022; names of our own")


def _example(rng: np.random.Generator, contrast: str, order: str) -> Example:
    number = int(rng.integers(len(TEMPLATES)))
    giver_first = order == "baba" or (order == "both" and bool(rng.integers(2)))
    io, subject, *others = pick_several(rng, NAMES, 5)
    words = {"place": pick(rng, PLACES), "object": pick(rng, OBJECTS)}
    prompt = _sentence(number, giver_first, io=io, s1=subject, s2=subject, **words)
    if contrast == "swap":
        other = _sentence(number, giver_first, io=io, s1=subject, s2=io, **words)
    else:
        other = _sentence(number, giver_first, io=others[0], s1=others[1], s2=others[2], **words)
    label = f"{'baba' if giver_first else 'abba'}-{number}"
    return Example(prompt, other, spaced([io]), spaced([subject]), label)


def _sentence(number: int, giver_first: bool, **words: str) -> Filled:
    first, second = ("s1", "io") if giver_first else ("io", "s1")
    form = TEMPLATES[number].replace("{one}", f"{{{first}}}").replace("{two}", f"{{{second}}}")
    return fill(form, words).named_after("s1_plus_1", "s1")
