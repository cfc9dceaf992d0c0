'''Which argument is described next? A Python docstring, broken off [@heimersheim2023].

    def load(self, size, mode, path, name, token, rate):
        """river stone lamp

        :param path: oil order
        :param name: town guest
        :param                                             ->  " token"

Two arguments come first, three are described in turn, one comes last. The third of the three is the answer,
the five others in the definition are wrong. All names and words are random, so that only the order of the
definition tells. Named words: `a_def`, `b_def`, `c_def` (the three in the definition), `a_doc` and `b_doc`
(described).

Contrasts, as in the original: `random_random` (the default) has other names in the definition and yet
others in the docstring; `random_def` changes the first two of the three in the definition, `random_doc` in
the docstring, and `random_answer` changes the answer in the definition.
Limits: the original scores against the best wrong answer; the metric here is chosen by the task's `metric`.
'''

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from cutaway.core.method import task
from cutaway.core.task import Task
from cutaway.data.sampling import Count, Seed, draw, pick, pick_several
from cutaway.data.templates import Example, fill, spaced, task_of
from cutaway.data.words import NOUNS, listed

TEMPLATE = '''def {method}(self, {before_1}, {before_2}, {a_def}, {b_def}, {c_def}, {after}):
    """{word_0} {word_1} {word_2}

    :param {a_doc}: {word_3} {word_4}
    :param {b_doc}: {word_5} {word_6}
    :param'''
METHODS: tuple[str, ...] = listed(
    """
    build call check close connect copy create draw export filter find insert load merge move open paint
    print read remove render run save search send sort split start stop test update visit write
    """
)
ARGUMENTS: tuple[str, ...] = listed(
    """
    action address angle area array audio batch body branch buffer cache child city code color column
    content cost count country data date depth edge email end error event field file filter font format
    frame graph group header height image index input key label layer left length level limit link list log
    map matrix maximum mean member message method minimum mode model name node offset option order output
    owner page parent password path phone point policy port price query queue radius rank rate ratio record
    region report request response result right role row rule sample scale score secret seed shape signal
    size sound source speed stack start state status step style sum table tag target text theme time title
    token top total tree type user value vector version video weight width window year zone
    """
)


@task(asks="Which argument does a docstring describe next?", cites="heimersheim2023")
def docstring(
    *,
    n: Count = 50,
    seed: Seed = 0,
    contrast: Annotated[
        Literal["random_random", "random_def", "random_doc", "random_answer"],
        Field(description="which argument names are others in the contrast"),
    ] = "random_random",
) -> Task:
    """Python methods with a docstring that breaks off where the next argument would be named."""

    def make(rng: np.random.Generator) -> Example:
        return _example(rng, contrast)

    examples = draw("docstring", n, np.random.default_rng(seed), make)
    positions = ("a_def", "b_def", "c_def", "a_doc", "b_doc")
    source = "heimersheim2023; names and words of our own"
    return task_of("docstring", examples, positions=positions, seed=seed, source=source)


def _example(rng: np.random.Generator, contrast: str) -> Example:
    a, b, c, before_1, before_2, after, *spare = pick_several(rng, ARGUMENTS, 11)
    around = {"method": pick(rng, METHODS), "before_1": before_1, "before_2": before_2, "after": after}
    around |= {f"word_{place}": word for place, word in enumerate(pick_several(rng, NOUNS, 7))}
    words = around | {"a_def": a, "b_def": b, "c_def": c, "a_doc": a, "b_doc": b}
    changes = {
        "random_random": dict(zip(("a_def", "b_def", "c_def", "a_doc", "b_doc"), spare)),
        "random_def": dict(zip(("a_def", "b_def"), spare)),
        "random_doc": dict(zip(("a_doc", "b_doc"), spare)),
        "random_answer": {"c_def": spare[0]},
    }
    prompt, changed = fill(TEMPLATE, words), fill(TEMPLATE, words | changes[contrast])
    return Example(prompt, changed, spaced([c]), spaced([before_1, before_2, a, b, after]), contrast)
