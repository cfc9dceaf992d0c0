"""How fast is a patching grid? Residual stream before every layer and position, against the peers' loops.

Four pairs: the indirect-object pair (which differs in one token, so that many cells cannot differ from the
base), one that differs from its first token on (none can be skipped after layer 0), and both at 256 tokens. A
peer would take hours for those, so there it does a sample of the cells (its source run untimed), ours the
whole of some columns, and the seconds are for one cell; the columns are spread evenly, because later
positions cost ours less. Ours first sweeps one cell: what it learns then holds for the opened model; the time
is a fact of the first row.

The last pair leaves nothing but the sharing of layers and positions: of a forward of 256 tokens a cell needs a
quarter on average, so no batch can make it much more than four times faster than the loop's forward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bench.harness import Bench, Call, Facts, Row, compare, largest_difference, pairs_of, rounds
from bench.prompts import Pair
from bench.sides import Answer, Side

TOLERANCE = 1e-4
LAYERS = 30
COLUMNS = 16
PEERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "transformer_lens": ("transformer_lens", "TransformerLens, loop", {}),
    "nnsight": ("nnsight", "nnsight, a trace a cell", {}),
    "nnsight_invokes": ("nnsight", "nnsight, cells as invokes of one trace", {"way": "invokes"}),
}


def columns(length: int, count: int) -> list[int]:
    """So many positions, spread evenly over a prompt."""
    return sorted({int((index + 0.5) * length / count) for index in range(count)})


def spec(pair: Pair) -> dict[str, Any]:
    """The pair as our side takes it."""
    return {
        "source": pair.source,
        "base": pair.base,
        "source_ids": list(pair.source_ids),
        "base_ids": list(pair.base_ids),
    }


def by_cell(answer: Answer) -> dict[tuple[int, int, int], float]:
    """Our values by (layer, position, head); head is -1 where there is none."""
    cells, values = answer.values["cells"], answer.values["values"]
    return {(int(c[0]), int(c[1]), int(c[2])): float(v) for c, v in zip(cells, values, strict=True)}


def ordered(found: dict[tuple[int, int, int], float], cells: list[list[int]]) -> np.ndarray:
    """Our values in the order of a peer's cells."""
    return np.array([found[cell[0], cell[1], -1] for cell in cells])


def row(
    mine: Sequence[Answer],
    theirs: Sequence[Answer],
    names: tuple[str, str, str],
    cells: tuple[int, list[list[int]]],
    reach: float | None,
    facts: Facts | None = None,
) -> Row:
    """The comparison with one peer: seconds of a cell, and the values of the peer's cells."""
    count, done = cells
    return compare(
        *names,
        "speed",
        pairs_of(mine, theirs),
        reach=reach,
        cells=(count, len(done)),
        unit="cell",
        difference=largest_difference(ordered(by_cell(mine[-1]), done), theirs[-1].values["values"]),
        tolerance=TOLERANCE,
        facts=facts,
    )


def whole(
    bench: Bench, ours: Side, peers: Mapping[str, Side], pair: Pair, reach: float, times: int, facts: Facts
) -> list[Row]:
    """Rows for a pair whose whole grid every side does, in so many rounds."""
    length = len(pair.source_ids)
    cells = [[layer, position] for layer in range(LAYERS) for position in range(length)]
    done = cells[::100] if bench.quick else cells
    rows = []
    for peer, label, extra in PEERS.values():
        bench.say(f"  {pair.name}: {label}")
        found = rounds(
            {
                "ours": lambda: ours.ask("sweep", over="resid_pre[*]@*", pair=spec(pair), values=True),
                "theirs": asked(peers[peer], pair, done, extra),
            },
            bench.count(min(times, 3) if extra else times),
            warm=0,
        )
        work = f"residual patching, {LAYERS} × {length} cells, {pair.name}"
        rows.append(
            row(
                found["ours"],
                found["theirs"],
                (work, "model.sweep", label),
                (len(cells), done),
                reach if not extra else None,
                facts if not rows else None,
            )
        )
    return rows


def touch(bench: Bench, sides: Sequence[Side]) -> None:
    """One plain forward of each side, which brings the weights into memory."""
    for side in sides:
        side.ask("plain", ids=list(bench.pair().source_ids))


def first_sweep(bench: Bench, ours: Side, over: str) -> Facts:
    """A sweep of one cell, in which ours learns once for each opened model how far work can be shared."""
    seconds = ours.ask("sweep", over=over, pair=spec(bench.pair())).seconds
    return {"seconds of our first sweep of one cell, once for an opened model": round(seconds, 2)}


def asked(side: Side, pair: Pair, cells: list[list[int]], extra: dict[str, Any]) -> Call:
    """A peer's work on some cells."""
    return lambda: side.ask("grid", **pair.arguments, cells=cells, **extra, values=True)


def sampled(bench: Bench, ours: Side, peers: Mapping[str, Side], pair: Pair, reach: float | None) -> list[Row]:
    """Rows for a long pair: whole columns of ours, a sample of their cells of each peer."""
    length = len(pair.source_ids)
    places = columns(length, 2 if bench.quick else COLUMNS)
    cells = [[layer, position] for position in places for layer in range(LAYERS)]
    done = cells[:: 29 if bench.quick else 17]
    over = ", ".join(f"resid_pre[*]@{place}" for place in places)
    loops = {name: (peers[peer], label) for name, (peer, label, extra) in PEERS.items() if not extra}
    bench.say(f"  {pair.name}: all sides")
    found = rounds(
        {
            "ours": lambda: ours.ask("sweep", over=over, pair=spec(pair), values=True, memory=True),
            **{name: asked(side, pair, done, {"source_ready": True}) for name, (side, _) in loops.items()},
        },
        bench.count(3),
        warm=0,
    )
    held = [answer.grown for answer in found["ours"] if answer.grown is not None]
    facts: Facts = {"our MiB at the peak, beyond those before": round(max(held) / 2**20) if held else None}
    return [
        row(
            found["ours"],
            found[name],
            (
                f"residual patching, {pair.name}",
                f"model.sweep, {len(places)} columns of {length}",
                f"{label}, {len(done)} cells",
            ),
            (len(cells), done),
            reach,
            facts,
        )
        for name, (_, label) in loops.items()
    ]


def measure(bench: Bench) -> tuple[list[Row], list[Side]]:
    """All rows, and the sides that took part."""
    with bench.side("ours") as ours, bench.side("transformer_lens") as lens, bench.side("nnsight") as sight:
        peers = {"transformer_lens": lens, "nnsight": sight}
        touch(bench, (ours, lens, sight))
        learned = first_sweep(bench, ours, "resid_pre[1]@-1")
        measured: list[tuple[Pair, Callable[[Pair], list[Row]]]] = [
            (bench.pair(), lambda pair: whole(bench, ours, peers, pair, 35.0, 5, learned)),
            (bench.pair(from_start=True), lambda pair: whole(bench, ours, peers, pair, 12.0, 3, {})),
            (bench.pair(256), lambda pair: sampled(bench, ours, peers, pair, 12.0)),
            (bench.pair(256, from_start=True), lambda pair: sampled(bench, ours, peers, pair, None)),
        ]
        names = [pair.name for pair, _ in measured]
        if not any(map(bench.wants, names)):
            raise ValueError(f"There is no pair {bench.only!r}. Write --only with one of: {'; '.join(names)}.")
        rows = [row for pair, rows_of in measured if bench.wants(pair.name) for row in rows_of(pair)]
        return rows, [ours, lens, sight]
