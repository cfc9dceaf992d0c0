"""What does looking cost? A run that reads nothing, one that reads every layer, and the plain forward.

Ours and the plain forward share one process and one module, so that only cutaway's own work differs.
TransformerLens's cache of every hook point is shown beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from bench.harness import Bench, Row, compare, largest_difference, pairs_of, rounds
from bench.sides import Answer, Side

LENGTHS = (None, 128)
READ = "read resid_post, z, mlp_act at all layers"


def gap(ours: Sequence[Answer], theirs: Sequence[Answer]) -> float:
    """The largest difference of the last logits."""
    return largest_difference(ours[-1].values["logits"], theirs[-1].values["logits"])


def rows_of(bench: Bench, ours: Side, lens: Side, length: int | None) -> list[Row]:
    """The rows for prompts of one length."""
    ids = list(bench.pair(length).source_ids)
    size = f"{len(ids)} tokens"
    bench.say(f"  {size}")

    near = rounds(
        {work: partial(ours.ask, work, ids=ids, values=True) for work in ("idle", "plain", "read")},
        bench.count(60),
        warm=3,
    )
    far = rounds(
        {
            "plain": lambda: ours.ask("plain", ids=ids, values=True),
            "read": lambda: ours.ask("read", ids=ids, values=True),
            "all": lambda: lens.ask("cache", ids=ids, values=True),
            "same": lambda: lens.ask("cache", ids=ids, only=True, values=True),
        },
        bench.count(20),
    )
    rows = [
        compare(
            f"{name}, {size}",
            "model.run",
            "plain forward",
            "cost",
            pairs_of(near[work], near["plain"]),
            reach=reach,
            difference=gap(near[work], near["plain"]),
            tolerance=0.0,
        )
        for work, name, reach in (("idle", "idle run", 1.02), ("read", READ, 1.10))
    ]
    for key, label in (
        ("all", "TransformerLens, full cache"),
        ("same", "TransformerLens, the same sites cached"),
    ):
        seconds, apart = pairs_of(far["read"], far[key]), gap(far["read"], far[key])
        rows.append(compare(f"{READ}, {size}", "model.run", label, "speed", seconds, difference=apart, tolerance=1e-3))
    whole = "TransformerLens, full cache"
    rows.append(compare(f"{READ}, {size}", whole, "plain forward", "cost", pairs_of(far["all"], far["plain"])))
    return rows


def measure(bench: Bench) -> tuple[list[Row], list[Side]]:
    """All rows, and the sides that took part."""
    with bench.side("ours") as ours, bench.side("transformer_lens") as lens:
        return [row for length in LENGTHS for row in rows_of(bench, ours, lens, length)], [ours, lens]
