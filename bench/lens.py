"""What does a lens cost? Every layer at 512 positions, against TransformerLens and the naive way.

The memory of a side is what the call holds at its peak beyond what it held before; the weights were touched
by a call before it.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.harness import Answer, Bench, Call, Row, Side, compare, largest_difference, pairs_of, rounds
from bench.prompts import text_of

LENGTH = 512
TOLERANCE = 1e-3  # of log-probabilities as far down as -30
LABELS = {
    "transformer_lens": "TransformerLens, accumulated_resid",
    "plain": "naive: all hidden states at once",
}


def measure(bench: Bench) -> tuple[list[Row], list[Side]]:
    """All rows, and the sides that took part."""
    ids = list(bench.pair(64 if bench.quick else LENGTH).source_ids)
    text = text_of(bench.tokenizer, ids)
    with bench.side("ours") as ours, bench.side("transformer_lens") as lens, bench.side("plain") as plain:
        calls: dict[str, Call] = {
            "ours": lambda: ours.ask("lens", ids=ids, text=text, values=True, memory=True),
            "transformer_lens": lambda: lens.ask("lens", ids=ids, values=True, memory=True),
            "plain": lambda: plain.ask("lens", ids=ids, values=True, memory=True),
        }
        bench.say("  all sides")
        found = rounds(calls, bench.count(5))
        rows = [
            row
            for name, label in LABELS.items()
            for row in rows_of(label, found["ours"], found[name], len(ids))
        ]
        return rows, [ours, lens, plain]


def rows_of(label: str, mine: Sequence[Answer], theirs: Sequence[Answer], length: int) -> list[Row]:
    """The rows against one side: time, and memory."""
    work = f"logit lens, {length} tokens, all layers"
    gap = largest_difference(mine[-1].values["following"], theirs[-1].values["following"])
    seconds = pairs_of(mine, theirs)
    rows = [
        compare(work, "logit_lens", label, "cost", seconds, reach=1.0, difference=gap, tolerance=TOLERANCE)
    ]
    held = [
        (ours.grown / 2**20, other.grown / 2**20)
        for ours, other in zip(mine, theirs, strict=True)
        if ours.grown and other.grown
    ]
    if held:
        rows.append(
            compare(f"{work}: peak memory", "logit_lens", label, "speed", held, reach=10.0, unit="MiB")
        )
    return rows
