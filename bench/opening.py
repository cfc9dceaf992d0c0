"""What does opening cost? Seconds, and peak memory until the first forward, each time in a fresh process.

Weights may be mapped from the file and touched only by the first forward, so the peak is taken over opening
and that forward; libraries, and the model's class, are imported before. The unit of memory is the weights
themselves.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass

import numpy as np

from bench.harness import Bench, Row, compare, weights_of
from bench.sides import Side, side

FORWARD = {"ours": "idle", "plain": "forward", "transformer_lens": "plain"}
LABELS = {"plain": "from_pretrained", "transformer_lens": "TransformerLens"}


@dataclass(frozen=True)
class Cost:
    """Seconds to open, and bytes beyond the imports at the peak (None where not measurable)."""

    seconds: float
    grown: int | None


def open_once(bench: Bench, name: str, ids: list[int], seen: dict[str, Side]) -> Cost:
    """Open in a fresh process, do one forward, end it."""
    bench.say(f"  opening with {name}")
    model = bench.alias if name == "ours" and bench.alias else str(bench.folder)
    with side(name, model, bench.threads, architecture=bench.architecture) as one:
        seen[name] = one
        forward = one.ask(FORWARD[name], ids=ids)
        peaks = [peak for peak in (one.opened.peak, forward.peak) if peak is not None]
        grown = max(peaks) - one.opened.before if peaks and one.opened.before is not None else None
        return Cost(one.opened.seconds, grown)


def measure(bench: Bench) -> tuple[list[Row], list[Side]]:
    """All rows, and the sides that took part."""
    ids, seen = list(bench.pair().source_ids), dict[str, Side]()
    _, size = weights_of(bench.folder)
    costs: dict[str, list[Cost]] = {name: [] for name in FORWARD}
    for index in range(bench.count(7) + 1):
        for name in sorted(FORWARD, reverse=bool(index % 2)):
            costs[name].append(open_once(bench, name, ids, seen))
    # The first round brings the files into the system's cache.
    kept = {name: found[1:] for name, found in costs.items()}
    memory = {name: [cost.grown / size for cost in found if cost.grown is not None] for name, found in kept.items()}
    rows = []
    for name, label in LABELS.items():
        seconds = [(mine.seconds, theirs.seconds) for mine, theirs in zip(kept["ours"], kept[name], strict=True)]
        reach = 1.2 if name == "plain" else None
        rows.append(compare("open, weights in the cache", "cutaway.open", label, "cost", seconds, reach=reach))
    if memory["ours"]:
        weights = [(mine, 1.0) for mine in memory["ours"]]
        facts = {f"{LABELS[name]}: peak / weights": round(float(np.median(memory[name])), 3) for name in LABELS}
        rows.append(
            compare(
                "peak memory of opening and a first forward",
                "cutaway.open",
                "the weights",
                "cost",
                weights,
                reach=1.15,
                unit="weights",
                facts=facts,
            )
        )
    if bench.alias:
        rows += conversion(bench, bench.alias, ids, size)
    return rows, list(seen.values())


def conversion(bench: Bench, alias: str, ids: list[int], size: int) -> list[Row]:
    """The first opening of all, which turns a GGUF file into the folder that later ones read."""
    costs = []
    for _ in range(bench.count(3)):
        with tempfile.TemporaryDirectory() as cache:
            bench.say("  opening with ours, empty cache")
            with side(
                "ours",
                alias,
                bench.threads,
                architecture=bench.architecture,
                variables={"CUTAWAY_CACHE": cache},
            ) as one:
                forward = one.ask("idle", ids=ids)
                if one.opened.peak is None or one.opened.before is None or forward.peak is None:
                    return []
                held = max(one.opened.peak, forward.peak) - one.opened.before
                costs.append((held / size, one.opened.seconds))
    return [
        compare(
            "peak memory of the first opening, with the conversion from GGUF",
            "cutaway.open",
            "the weights",
            "cost",
            [(held, 1.0) for held, _ in costs],
            reach=1.15,
            unit="weights",
            facts={"seconds": round(float(np.median([seconds for _, seconds in costs])), 2)},
        )
    ]
