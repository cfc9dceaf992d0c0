"""What do edges cost? Scores of all edges against one forward and backward pass, sets of edges against one forward.

All works run in one process on the same weights: the plain passes are the network called by itself. Growth: scores of
all edges on random GPT-2 networks with more layers, more heads and longer prompts, each beside its own forward and
backward pass.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.harness import Bench, Facts, Row, compare, pairs_of, rounds
from bench.sides import Answer, Side

PAIRS = 32
COST, MEMORY = 4.0, 1.5
SHARES = (0.01, 0.1, 0.5, 0.95)
SIZE: dict[str, int] = {"layers": 6, "heads": 8, "width": 256, "length": 16, "pairs": 8}
GROWTH: dict[str, tuple[int, ...]] = {"layers": (3, 6, 12, 24), "heads": (4, 8, 16, 32), "length": (16, 32, 64, 128)}


def peak(answers: list[Answer]) -> float | None:
    """The largest memory of some calls beyond what was held before, in MiB."""
    held = [answer.grown for answer in answers if answer.grown is not None]
    return round(max(held) / 2**20, 1) if held else None


def attribution(bench: Bench, ours: Side, *, weights: bool) -> Row:
    """All edges of the model against one forward and backward pass of the same prompts."""
    pairs = 4 if bench.quick else PAIRS
    kind = "weights' gradients too, as torch does" if weights else "no gradient of a weight"
    bench.say(f"  scores of all edges, {pairs} pairs, against forward and backward ({kind})")
    found = rounds(
        {
            "ours": lambda: ours.ask("edge_scores", pairs=pairs, memory=True, values=True),
            "theirs": lambda: ours.ask("forward_backward", pairs=pairs, weights=weights, memory=True),
        },
        bench.count(5),
    )
    mine, other = peak(found["ours"]), peak(found["theirs"])
    facts: Facts = {
        "edges": int(found["ours"][-1].values["edges"]),
        "our MiB at the peak, beyond those before": mine,
        "their MiB at the peak, beyond those before": other,
        "ratio of peaks": round(mine / other, 2) if mine and other else None,
        "ratio of peaks to reach": MEMORY if weights else None,
    }
    return compare(
        f"scores of all edges, {pairs} indirect-object pairs",
        "edge_attribution, eap",
        f"one forward and backward, {kind}",
        "cost",
        pairs_of(found["ours"], found["theirs"]),
        reach=COST if weights else None,
        facts=facts,
    )


def one_set(bench: Bench, ours: Side, share: float) -> Row:
    """One random set of edges against one forward pass of the same prompts."""
    pairs = 2 if bench.quick else 8
    bench.say(f"  a set with {share:.0%} of the edges")
    found = rounds(
        {
            "ours": lambda: ours.ask("edge_set", pairs=pairs, share=share, values=True),
            "theirs": lambda: ours.ask("plain_forward", pairs=pairs),
        },
        bench.count(5),
    )
    return compare(
        f"a set with {share:.0%} of the edges changed, {pairs} pairs",
        "edges.evaluate",
        "one plain forward",
        "cost",
        pairs_of(found["ours"], found["theirs"]),
        facts={"edges changed": int(found["ours"][-1].values["edges"])},
    )


def growth(bench: Bench, ours: Side, name: str, value: int) -> Row:
    """Scores of all edges of a random network of one size, beside its own forward and backward pass."""
    size: dict[str, Any] = {**SIZE, name: value}
    if name == "heads":
        size["width"] = 32 * value  # heads of one width
    bench.say(f"  {value} {name}")
    found = rounds(
        {
            "ours": lambda: ours.ask("edge_scores", **size, values=True, memory=True),
            "theirs": lambda: ours.ask("forward_backward", **size, memory=True),
        },
        bench.count(3),
    )
    seconds = float(np.median([answer.seconds for answer in found["ours"]]))
    edges = int(found["ours"][-1].values["edges"])
    facts: Facts = {
        **{key: int(number) for key, number in size.items()},
        "edges": edges,
        "microseconds of an edge": round(1e6 * seconds / edges, 2),
        "MiB at the peak, beyond those before": peak(found["ours"]),
    }
    return compare(
        f"scores of all edges, random GPT-2, {name} {value}",
        "edge_attribution, eap",
        "one forward and backward",
        "cost",
        pairs_of(found["ours"], found["theirs"]),
        facts=facts,
    )


def measure(bench: Bench) -> tuple[list[Row], list[Side]]:
    """All rows, and the sides that took part."""
    with bench.side("ours") as ours:
        rows = [attribution(bench, ours, weights=weights) for weights in (True, False)]
        rows += [one_set(bench, ours, share) for share in (SHARES[:1] if bench.quick else SHARES)]
        for name, values in GROWTH.items():
            rows += [growth(bench, ours, name, value) for value in (values[:1] if bench.quick else values)]
        return rows, [ours]
