"""How fast is a causal trace? Layers × positions × three kinds × ten samples, against the plain loop.

The loop is how the original does it: for each cell one forward of a batch of the clean run and ten damaged ones, with
hooks that carry the clean values over. It does a sample of the cells, spread evenly, ours the whole map; the seconds are
for one cell, and all cells of layers × positions × kinds are counted for both.

How much can be shared depends on where the subject stands: positions before it cannot differ. Two prompts have it in their
second half, as most statements of facts do; the third begins with it, so that every cell has to be computed, and only
informs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.harness import Bench, Row, compare, largest_difference, pairs_of, rounds
from bench.prompts import ids_of
from bench.sides import Answer, Side

LAYERS, KINDS, SAMPLES, WINDOW = 30, 3, 10, 10
TOLERANCE = 1e-5
REACH = 8.0
STEP = 7  # of the loop's sample: no divisor of layers or kinds, so that all of them are in it


@dataclass(frozen=True)
class Fact:
    """A prompt with its subject and answer."""

    prompt: str
    subject: str
    answer: str
    reach: float | None


FACTS = (
    Fact("The official language of France is", "France", " French", REACH),
    Fact("In the periodic table, magnesium has the symbol", "magnesium", " Mg", REACH),
    Fact("The Space Needle is in the city of", "The Space Needle", " Seattle", None),
)


def subject_tokens(bench: Bench, fact: Fact) -> tuple[int, int]:
    """The subject's first token and the one after its last."""
    start = fact.prompt.index(fact.subject)
    end = start + len(fact.subject)
    offsets = bench.tokenizer(fact.prompt, return_offsets_mapping=True)["offset_mapping"]
    inside = [index for index, (a, b) in enumerate(offsets) if a < end and b > start]
    return inside[0], inside[-1] + 1


def row(bench: Bench, ours: Side, plain: Side, fact: Fact) -> Row:
    """One prompt."""
    bench.say(f"  {fact.prompt}")
    ids, span = ids_of(bench.tokenizer, fact.prompt), subject_tokens(bench, fact)
    answer = ids_of(bench.tokenizer, fact.answer)[0]
    every = [[k, layer, p] for k in range(KINDS) for layer in range(LAYERS) for p in range(len(ids))]
    done = every[:: STEP * (12 if bench.quick else 1)]
    found = rounds(
        {
            "ours": lambda: ours.ask(
                "trace",
                prompt=fact.prompt,
                subject=fact.subject,
                answer=fact.answer,
                samples=SAMPLES,
                window=WINDOW,
                values=True,
            ),
            "theirs": lambda: plain.ask(
                "trace", ids=ids, span=span, answer=answer, cells=done, samples=SAMPLES, window=WINDOW, values=True
            ),
        },
        bench.count(3),
        warm=0,
    )
    return compare(
        f"causal trace, {LAYERS} × {len(ids)} × {KINDS} × {SAMPLES}, subject at {span[0]}–{span[1] - 1} of {len(ids)}",
        "causal_trace",
        f"a forward a cell, {len(done)} cells",
        "speed",
        pairs_of(found["ours"], found["theirs"]),
        reach=fact.reach,
        cells=(len(every), len(done)),
        unit="cell",
        difference=largest_difference(_of_cells(found["ours"][-1], done), found["theirs"][-1].values["effect"]),
        tolerance=TOLERANCE,
        facts={"prompt": fact.prompt, "cells": len(every)},
    )


def _of_cells(answer: Answer, cells: list[list[int]]) -> np.ndarray:
    """Our map [kind, layer, position] in the order of the loop's cells."""
    table = answer.values["effect"]
    return np.array([table[k, layer, position] for k, layer, position in cells])


def measure(bench: Bench) -> tuple[list[Row], list[Side]]:
    """A row for each prompt."""
    with bench.side("ours") as ours, bench.side("plain") as plain:
        first = ids_of(bench.tokenizer, FACTS[0].prompt)
        ours.ask("plain", ids=first)
        plain.ask("forward", ids=first)
        ours.ask("sweep_ready", ids=first)
        chosen = FACTS[:1] if bench.quick else FACTS
        return [row(bench, ours, plain, fact) for fact in chosen], [ours, plain]
