"""What does a lens cost? Every layer at 512 positions, against TransformerLens and the naive way.

Ours keeps for each layer and position the likeliest tokens, the answer's log-probability and rank, the
entropy, and the divergence from the last layer. Both others are asked for the same figures, and once for the
likeliest tokens alone. The intervention with which ours tests its reading is left out, as the peers make none;
the seconds with it are a fact of the first row. Memory is what a call holds at its peak beyond what was held before.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from bench.harness import Bench, Call, Facts, Row, compare, largest_difference, pairs_of, rounds
from bench.prompts import text_of
from bench.sides import Answer, Side

LENGTH = 512
TOLERANCE = 1e-4
LABELS = {
    "transformer_lens": "TransformerLens, accumulated_resid",
    "plain": "naive, all hidden states at once",
}


def measure(bench: Bench) -> tuple[list[Row], list[Side]]:
    """All rows, and the sides that took part."""
    ids = list(bench.pair(64 if bench.quick else LENGTH).source_ids)
    text = text_of(bench.tokenizer, ids)
    with bench.side("ours") as ours, bench.side("transformer_lens") as lens, bench.side("plain") as plain:
        mine = partial(ours.ask, "lens", ids=ids, text=text, values=True, memory=True)
        calls: dict[str, Call] = {"ours": mine}
        for name, side in (("transformer_lens", lens), ("plain", plain)):
            asked = partial(side.ask, "lens", ids=ids, values=True, memory=True)
            calls[name] = partial(asked, every=True)
            calls[f"{name}, top"] = asked
        bench.say("  all sides")
        found = rounds(calls, bench.count(5))
        facts: Facts = {"our seconds with the check": round(mine(check=True).seconds, 2)}
        rows = [
            row
            for name, label in LABELS.items()
            for row in rows_of(label, found["ours"], found[name], found[f"{name}, top"], facts)
        ]
        return rows, [ours, lens, plain]


def rows_of(
    label: str, mine: Sequence[Answer], every: Sequence[Answer], top: Sequence[Answer], facts: Facts
) -> list[Row]:
    """The rows against one side: the same figures, the likeliest tokens alone, and the memory of the latter."""
    length = every[-1].values["top"].shape[1]
    work = f"logit lens, {length} tokens, all layers"
    ours, theirs = mine[-1].values, every[-1].values
    gap = largest_difference(ours["probability"], theirs["probability"])
    same = float(np.mean(ours["top"] == theirs["top"]))

    def timed(name: str, others: Sequence[Answer], reach: float | None, facts: Facts) -> Row:
        return compare(
            f"{work}, {name}",
            "logit_lens",
            label,
            "cost",
            pairs_of(mine, others),
            reach=reach,
            difference=gap,
            tolerance=TOLERANCE,
            facts=facts,
        )

    held = [
        (one.grown / 2**20, other.grown / 2**20)
        for one, other in zip(mine, top, strict=True)
        if one.grown and other.grown
    ]
    memory = [compare(f"{work}: peak memory", "logit_lens", label, "speed", held, reach=10.0, unit="MiB")]
    return [
        timed("the same figures", every, 1.0, {**facts, "share of equal tokens": round(same, 5)}),
        timed("their likeliest tokens alone", top, None, {}),
        *(memory if held else []),
    ]
