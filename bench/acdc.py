"""How fast is ACDC? All edges of SmolLM2 on indirect-object pairs, against a run of the whole model for each edge.

The loop would take hours, so it does a sample of the edges, spread evenly over the order in which they are tried, each
from the state that the pruning had reached there; its seconds are for one edge, and so are ours: the whole pruning
divided by all edges. A sampled edge that the loop decides otherwise shows as a difference. On a tiny random model the
loop does every edge.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.harness import Bench, Row, compare, pairs_of, rounds
from bench.sides import Side

THRESHOLD, TINY_THRESHOLD = 0.1, 1e-3
REACH = 10.0
SAMPLE = 40  # edges of the loop on the real model
PAIRS = 2


def pairs(seed: int) -> tuple[list[str], list[str]]:
    """Prompts and contrasts of one length."""
    from cutaway.data.tasks.ioi import ioi

    task = ioi(n=PAIRS, seed=seed)
    return list(task.prompts), list(task.contrasts)


def row(bench: Bench, ours: Side, *, small: bool) -> Row:
    """One model: ours in full, the loop at a sample of edges (all of the tiny model's)."""
    prompts, contrasts = pairs(0)
    threshold = TINY_THRESHOLD if small else THRESHOLD
    asked: dict[str, Any] = {"prompts": prompts, "contrasts": contrasts, "threshold": threshold, "small": small}
    bench.say("  a tiny model, every edge" if small else "  the model, a sample of its edges")
    first = ours.ask("prune", **asked, values=True)
    kept, edges = first.values["kept"].astype(bool), int(first.values["edges"])
    every = 1 if small else max(1, edges // (4 if bench.quick else SAMPLE))
    places = [[int(s), int(t)] for s, t in np.argwhere(kept)]
    found = rounds(
        {
            "ours": lambda: ours.ask("prune", **asked, values=True),
            "theirs": lambda: ours.ask("one_by_one", **asked, kept=places, every=every, values=True),
        },
        bench.count(3),
        warm=0,
    )
    loop = found["theirs"][-1].values
    mine = found["ours"][-1].values["kept"].astype(bool)[tuple(loop["order"].astype(int).T)]
    done = len(loop["kept"])
    name = "a tiny random model" if small else bench.model
    return compare(
        f"ACDC, {edges} edges of {name}, threshold {threshold:g}",
        "acdc",
        f"a run an edge, {'every edge' if done == edges else f'{done} edges, extrapolated'}",
        "speed",
        pairs_of(found["ours"], found["theirs"]),
        reach=None if small else REACH,
        cells=(edges, done),
        unit="edge",
        difference=float(np.abs(mine - loop["kept"]).max()),
        tolerance=0.0,
        facts={
            "edges kept": int(kept.sum()),
            "edges run": int(first.values["tried"]),
            "edges decided alike": int((mine == loop["kept"].astype(bool)).sum()),
            "edges of the loop": done,
        },
    )


def measure(bench: Bench) -> tuple[list[Row], list[Side]]:
    """A row for the model, and one for a tiny one."""
    with bench.side("ours") as ours:
        return [row(bench, ours, small=True), row(bench, ours, small=False)], [ours]
