"""How does the cost of a sweep grow? Seconds for layers × positions, for prompts of 16 to 512 tokens.

The pair differs from its first token on, so that no cell past layer 0 is free. Up to 64 tokens the whole grid
is measured; above, 8 columns spread evenly, and the time of the grid is what a cell took, times the cells.
Beside it stands one plain forward over the same prompt: a loop would need one for each cell.
"""

from __future__ import annotations

import numpy as np

from bench.grid import LAYERS, columns, first_sweep, spec, touch
from bench.harness import Bench, Facts, Row, compare, pairs_of, rounds
from bench.sides import Side

LENGTHS = (16, 32, 64, 128, 256, 512)
WHOLE = 64
COLUMNS = 8


def row(bench: Bench, ours: Side, length: int) -> Row:
    """One length: seconds of a cell against seconds of a forward."""
    pair = bench.pair(length, from_start=True)
    places = columns(length, 2 if bench.quick else length if length <= WHOLE else COLUMNS)
    over = ", ".join(f"resid_pre[*]@{place}" for place in places)
    given, cells = spec(pair), LAYERS * len(places)
    bench.say(f"  {length} tokens, {cells} cells")
    found = rounds(
        {
            "sweep": lambda: ours.ask("sweep", over=over, pair=given, memory=True),
            "forward": lambda: ours.ask("plain", ids=list(pair.base_ids)),
        },
        bench.count(3),
        warm=1 if length <= WHOLE else 0,
    )
    cell = float(np.median([answer.seconds for answer in found["sweep"]])) / cells
    peaks = [answer.grown for answer in found["sweep"] if answer.grown is not None]
    facts: Facts = {
        "tokens": length,
        "cells of the grid": LAYERS * length,
        "cells measured": cells,
        "seconds of the grid": round(cell * LAYERS * length, 3),
        "MiB at the peak, beyond those before": round(max(peaks) / 2**20, 1) if peaks else None,
    }
    return compare(
        f"one cell of a sweep, {length} tokens",
        "model.sweep",
        "one plain forward",
        "speed",
        pairs_of(found["sweep"], found["forward"]),
        cells=(cells, 1),
        unit="cell",
        facts=facts,
    )


def measure(bench: Bench) -> tuple[list[Row], list[Side]]:
    """A row for each length."""
    with bench.side("ours") as ours:
        touch(bench, [ours])
        first_sweep(bench, ours, "resid_pre[1]@-1")
        return [row(bench, ours, length) for length in (LENGTHS[:2] if bench.quick else LENGTHS)], [ours]
