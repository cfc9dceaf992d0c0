"""How fast is attribution of a whole continuation? 64 prompt tokens, 32 that follow, against Inseq, and its memory.

Saliency, occlusion (the unknown token in the place of each) and integrated gradients with equal steps and to an equal
completeness gap. Inseq makes a call for each of the 32 tokens; in a causal model one pass serves all of them. Inseq's
occlusion gives absolute values, so ours are compared without their signs. None of the two tests its map here.
Saliency is bounded by its products of matrices: for each target a backward pass over the tokens that it sees is 0.54
TFLOP in all, beside 1.38 of Inseq's forward and backward passes with the unembedding of every token. What is left out
is a factor of 2.5; anything beyond it is how busy the processor is kept (`cutaway.models.pullback`).
Memory: the peak of our saliency over the 96 tokens beside that of one plain backward pass over them, and the same for
a prompt of 2,000 tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.gradients import against_inseq
from bench.grid import touch
from bench.harness import Bench, Row, compare, largest_difference, pairs_of, rounds
from bench.prompts import STORY, ids_of, text_of
from bench.sides import Side

PROMPT, TARGETS, LONG = 64, 32, 2000
STEPS = 20
TOLERANCE = 1e-4
REACH = {"saliency": 4.0, "occlusion": 8.0}
WARM = {"saliency": 1, "occlusion": 0}  # Inseq's occlusion takes minutes


def question(bench: Bench, plain: Side, length: int, targets: int) -> dict[str, Any]:
    """A prompt of so many tokens and what the model itself writes after it, as texts and ids."""
    prompt_ids = list(bench.pair(length).source_ids) if length <= 256 else repeated(bench, length)
    written = plain.ask("generate", ids=prompt_ids, tokens=targets, values=True).values["ids"].tolist()
    prompt, continuation = text_of(bench.tokenizer, prompt_ids), bench.tokenizer.decode(written)
    if ids_of(bench.tokenizer, prompt + continuation) != prompt_ids + written:
        raise ValueError(f"The text {prompt + continuation!r} reads as other tokens than were generated.")
    return {
        "prompt": prompt,
        "continuation": continuation,
        "prompt_ids": prompt_ids,
        "ids": prompt_ids + written,
    }


def repeated(bench: Bench, length: int) -> list[int]:
    """The story again and again, so many tokens of it."""
    once = " ".join(STORY.split())
    ids = ids_of(bench.tokenizer, once)
    return ids_of(bench.tokenizer, " ".join([once] * (1 + length // len(ids))))[:length]


def sizes(values: np.ndarray) -> np.ndarray:
    """Absolute values, missing where either side has none: beyond the target, and where special tokens stay."""
    return np.abs(values.astype(np.float64))


def against(bench: Bench, ours: Side, inseq: Side, asked: dict[str, Any], method: str) -> Row:
    """One method, the same call on both sides."""
    bench.say(f"  {method}")
    found = rounds(
        {
            "ours": lambda: ours.ask("explained", **asked, method=method, values=True),
            "theirs": lambda: inseq.ask("explained", **asked, method=method, values=True),
        },
        bench.count(3),
        warm=WARM[method],
    )
    mine, theirs = (sizes(found[side][-1].values["values"]) for side in ("ours", "theirs"))
    both = ~np.isnan(mine) & ~np.isnan(theirs)
    if not both.any():
        raise ValueError(f"No token has a value on both sides of {method}.")
    return compare(
        f"{method}, {len(asked['prompt_ids'])}-token prompt, {len(asked['ids']) - len(asked['prompt_ids'])} target tokens",
        method,
        "Inseq",
        "speed",
        pairs_of(found["ours"], found["theirs"]),
        reach=REACH[method],
        # Gradients can be larger than one: then as a part of the largest.
        difference=largest_difference(mine[both], theirs[both]) / max(1.0, float(theirs[both].max())),
        tolerance=TOLERANCE,
        facts={"values compared": int(both.sum()), "largest value": float(f"{theirs[both].max():.4g}")},
    )


def memory(bench: Bench, ours: Side, asked: dict[str, Any], length: int) -> Row:
    """Peak beyond what was held, beside that of one backward pass over as many tokens."""
    bench.say(f"  memory at {length} tokens")
    found = rounds(
        {
            "ours": lambda: ours.ask("explained", **asked, method="saliency", memory=True),
            "floor": lambda: ours.ask("one_backward", ids=asked["ids"], memory=True),
        },
        bench.count(3),
        warm=1,
    )
    pairs = [
        ((mine.grown or 0) / 2**20, max((floor.grown or 0) / 2**20, 1e-3))
        for mine, floor in zip(found["ours"], found["floor"], strict=True)
    ]
    return compare(
        f"peak memory of saliency, {length} tokens, {len(asked['ids']) - len(asked['prompt_ids'])} targets",
        "saliency",
        "one backward pass of plain PyTorch",
        "cost",
        pairs,
        reach=1.3,
        unit="MiB",
    )


def measure(bench: Bench) -> tuple[list[Row], list[Side]]:
    """All rows, and the sides that took part."""
    targets, steps = (2, 3) if bench.quick else (TARGETS, STEPS)
    with bench.side("plain") as plain:
        asked = question(bench, plain, 16 if bench.quick else PROMPT, targets)
        long = None if bench.quick else question(bench, plain, LONG, 4)
    with bench.side("ours") as ours, bench.side("inseq") as inseq:
        touch(bench, (ours, inseq))
        rows = [against(bench, ours, inseq, asked, method) for method in REACH if bench.wants(method)]
        if bench.wants("integrated_gradients"):
            rows += against_inseq(bench, ours, inseq, asked, steps, reach=1.7)
        if bench.wants("memory"):
            rows.append(memory(bench, ours, asked, len(asked["ids"])))
            if long is not None:
                rows.append(memory(bench, ours, long, len(long["ids"])))
        return rows, [ours, inseq]
