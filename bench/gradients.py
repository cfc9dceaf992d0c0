"""How fast are integrated gradients? Fourteen prompt tokens, seven generated ones, against Inseq and Captum.

Inseq makes one Captum call for each generated token. In a causal model one shared path serves all of them:
the tokens before a target are the same in every longer prefix. Two comparisons with Inseq: the same fifty
steps, and as few steps as reach the completeness gap that Inseq reached with fifty. Captum called by hand is
the yardstick for values. None of them tests its map; the seconds of ours with its test are a fact of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.grid import touch
from bench.harness import Bench, Call, Facts, Row, compare, largest_difference, pairs_of, rounds
from bench.prompts import ids_of, text_of
from bench.sides import Answer, Side

TARGETS = 7
STEPS = 50
TOLERANCE = 1e-4


def question(bench: Bench, plain: Side) -> dict[str, Any]:
    """The prompt and what the model itself writes after it, as texts and ids."""
    prompt_ids = list(bench.pair().source_ids)
    written = plain.ask("generate", ids=prompt_ids, tokens=TARGETS, values=True).values["ids"].tolist()
    prompt, continuation = text_of(bench.tokenizer, prompt_ids), bench.tokenizer.decode(written)
    if ids_of(bench.tokenizer, prompt + continuation) != prompt_ids + written:
        raise ValueError(f"The text {prompt + continuation!r} reads as other tokens than were generated.")
    return {
        "prompt": prompt,
        "continuation": continuation,
        "prompt_ids": prompt_ids,
        "ids": prompt_ids + written,
    }


def by_hand(asked: dict[str, Any], baseline: int) -> dict[str, Any]:
    """The same question as Captum is asked it."""
    return {"ids": asked["ids"], "prompt_length": len(asked["prompt_ids"]), "baseline": baseline}


def against_inseq(
    bench: Bench, ours: Side, inseq: Side, asked: dict[str, Any], steps: int, reach: float = 1.5
) -> list[Row]:
    """The same steps (with the ratio to reach), then the gap that Inseq reached with them."""
    targets = len(asked["ids"]) - len(asked["prompt_ids"])
    work = f"integrated gradients, {len(asked['prompt_ids'])}-token prompt, {targets} target tokens"

    def both(how: dict[str, Any]) -> dict[str, list[Answer]]:
        calls: dict[str, Call] = {
            "ours": lambda: ours.ask("gradients", **asked, **how, values=True),
            "theirs": lambda: inseq.ask("attribute", **asked, steps=steps, values=True),
        }
        return rounds(calls, bench.count(5), warm=0)

    def row(found: dict[str, list[Answer]], label: str, reach: float, more: Facts, *, same: bool) -> Row:
        mine, theirs = found["ours"][-1].values, found["theirs"][-1].values
        return compare(
            f"{work}, {label}",
            "integrated_gradients",
            f"Inseq, {steps} steps",
            "speed",
            pairs_of(found["ours"], found["theirs"]),
            reach=reach,
            difference=largest_difference(mine["values"], theirs["values"]) if same else None,
            tolerance=TOLERANCE if same else None,
            facts={"our gap": widest(mine), "their gap": widest(theirs), "our steps": int(mine["steps"]), **more},
        )

    bench.say("  Inseq, the same steps")
    found = both({"steps": steps})
    reached = widest(found["theirs"][-1].values)
    bench.say("  Inseq, the same gap")
    closer = both({"gap": reached})
    if widest(closer["ours"][-1].values) > reached:
        raise ValueError(f"Our gap is larger than Inseq's {reached:.3g}: not the same work.")
    tested: Facts = {
        "our seconds with the check": round(ours.ask("gradients", **asked, gap=reached, check=True).seconds, 2)
    }
    return [
        row(found, f"{steps} steps", reach, {}, same=True),
        row(closer, f"to a completeness gap of {reached:.2g}", 4.0, tested, same=False),
    ]


def widest(values: Mapping[str, np.ndarray]) -> float:
    """The largest completeness gap over the targets."""
    return float(f"{np.abs(values['gaps']).max():.4g}")


def against_captum(bench: Bench, ours: Side, inseq: Side, asked: dict[str, Any], steps: int) -> Row:
    """The values of Captum called by hand."""
    bench.say("  Captum")
    given = by_hand(asked, bench.tokenizer.unk_token_id)
    found = rounds(
        {
            "ours": lambda: ours.ask("gradients", **asked, steps=steps, values=True),
            "theirs": lambda: inseq.ask("captum", **given, steps=steps, values=True),
        },
        bench.count(3),
        warm=0,
    )
    mine, theirs = found["ours"][-1].values["values"], found["theirs"][-1].values["values"]
    return compare(
        f"integrated gradients, {TARGETS} target tokens, {steps} steps",
        "integrated_gradients",
        "Captum, a call for each target",
        "speed",
        pairs_of(found["ours"], found["theirs"]),
        difference=largest_difference(mine, theirs),
        tolerance=TOLERANCE,
    )


def measure(bench: Bench) -> tuple[list[Row], list[Side]]:
    """All rows, and the sides that took part."""
    steps = 5 if bench.quick else STEPS
    with bench.side("plain") as plain:
        asked = question(bench, plain)
    with bench.side("ours") as ours, bench.side("inseq") as inseq:
        touch(bench, (ours, inseq))
        rows = [
            *against_inseq(bench, ours, inseq, asked, steps),
            against_captum(bench, ours, inseq, asked, steps),
        ]
        return rows, [ours, inseq]
