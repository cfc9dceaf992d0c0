"""What does steering cost? 64 tokens with an edit at one layer, against plain generation of as many.

Both are done by one process and one module, so that only the edit and cutaway's own work differ.
"""

from __future__ import annotations

from bench.harness import SEED, Bench, Row, compare, pairs_of, rounds
from bench.sides import Side

TOKENS = 64
LAYER = 12
# Small: the text must stay ordinary; only the cost is compared, and no side may end its text earlier.
STRENGTH = 0.05


def measure(bench: Bench) -> tuple[list[Row], list[Side]]:
    """All rows, and the sides that took part."""
    pair = bench.pair()
    tokens = 8 if bench.quick else TOKENS
    mine = {"text": pair.source, "tokens": tokens, "layer": LAYER, "strength": STRENGTH, "seed": SEED}
    theirs = {"ids": list(pair.source_ids), "tokens": tokens}
    with bench.side("ours") as ours:
        found = rounds(
            {
                "ours": lambda: ours.ask("generate", **mine, values=True),
                "theirs": lambda: ours.ask("plain_generate", **theirs, values=True),
            },
            bench.count(15),
        )
        lengths = {len(answer.values["ids"]) for answers in found.values() for answer in answers}
        if lengths != {tokens}:
            raise ValueError(f"Generated {lengths} tokens, not {tokens} each: a text ended early.")
        row = compare(
            f"generate {tokens} tokens with a steering edit",
            "model.generate",
            "plain generate",
            "cost",
            pairs_of(found["ours"], found["theirs"]),
            reach=1.05,
            cells=(tokens, tokens),
            unit="token",
        )
        return [row], [ours]
