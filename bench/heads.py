"""How fast is a sweep over heads? Every head's z at the last position, against TransformerLens's loop."""

from __future__ import annotations

import numpy as np

from bench.grid import LAYERS, TOLERANCE, by_cell, first_sweep, spec, touch
from bench.harness import Bench, Facts, Row, compare, largest_difference, pairs_of, rounds
from bench.sides import Side

HEADS = 9


def measure(bench: Bench) -> tuple[list[Row], list[Side]]:
    """All rows, and the sides that took part."""
    with bench.side("ours") as ours, bench.side("transformer_lens") as lens:
        touch(bench, (ours, lens))
        learned = first_sweep(bench, ours, "z[1].head[0]@-1")
        return [row(bench, ours, lens, learned)], [ours, lens]


def row(bench: Bench, ours: Side, lens: Side, facts: Facts) -> Row:
    """The one comparison: 270 heads."""
    pair = bench.pair()
    cells = [(layer, head) for layer in range(LAYERS) for head in range(HEADS)]
    found = rounds(
        {
            "ours": lambda: ours.ask("sweep", over="z[*].head[*]@-1", pair=spec(pair), values=True),
            "theirs": lambda: lens.ask("heads", **pair.arguments, values=True),
        },
        bench.count(5),
        warm=0,
    )
    mine = {(layer, head): value for (layer, _, head), value in by_cell(found["ours"][-1]).items()}
    return compare(
        f"every head's z at the last position, {len(cells)} heads, {pair.name}",
        "model.sweep",
        "TransformerLens, loop",
        "speed",
        pairs_of(found["ours"], found["theirs"]),
        reach=40.0,
        cells=(len(cells), len(cells)),
        unit="cell",
        difference=largest_difference(np.array([mine[cell] for cell in cells]), found["theirs"][-1].values["values"]),
        tolerance=TOLERANCE,
        facts=facts,
    )
