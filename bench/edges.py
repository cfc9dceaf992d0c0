"""What do edges cost? Scores of all edges against one forward and backward pass, sets of edges against one forward.

All works run in one process on the same weights: the plain passes are the network called by itself. Growth: scores of
all edges on random GPT-2 networks with more layers, more heads and longer prompts, each beside its own forward and
backward pass. Against AutoCircuit: a network of GPT-2's size with random weights, written to a folder that both sides
open; its edges are named as ours, its scores (of a loss) are turned round, and all are compared by rank. Alone:
`--only auto_circuit`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import SEED, Bench, Facts, Row, compare, pairs_of, rounds, weights_of
from bench.sides import Answer, Side, side

PAIRS = 32
COST, MEMORY = 4.0, 1.5
SHARES = (0.01, 0.1, 0.5, 0.95)
SIZE: dict[str, int] = {"layers": 6, "heads": 8, "width": 256, "length": 16, "pairs": 8}
GROWTH: dict[str, tuple[int, ...]] = {"layers": (3, 6, 12, 24), "heads": (4, 8, 16, 32), "length": (16, 32, 64, 128)}
PEER, PEER_REACH, UNLIKE = "auto_circuit", 5.0, 0.01  # as fast, and by how much the rank correlation may miss 1
PEER_PAIRS, PEER_LENGTH = (4, 12), 15
SPREAD = 0.04  # of random matrices: attention that is not uniform, so that queries and keys have scores too


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


def random_gpt2(bench: Bench, folder: Path) -> None:
    """Write a network of GPT-2's size with random weights, norms and biases too; with a tokenizer that is not used."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    network = GPT2LMHeadModel(GPT2Config(n_ctx=1024))  # TransformerLens reads `n_ctx`
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            drawn = torch.randn(weight.shape, generator=generator)
            weight.copy_(SPREAD * drawn if weight.dim() > 1 or name.endswith("bias") else 1 + 0.1 * drawn)
    network.save_pretrained(folder)
    bench.tokenizer.save_pretrained(folder)


def random_pairs(count: int) -> dict[str, Any]:
    """Pairs of random tokens that differ from the first on, with two tokens each for the logit difference."""
    drawn = np.random.default_rng(SEED).integers(5, 49_000, (2, count, PEER_LENGTH + 1))
    ids, other = drawn[:, :, :-1].tolist()
    answers, wrong = drawn[:, :, -1].tolist()
    return {"ids": ids, "other": other, "answers": answers, "wrong": wrong}


def as_ours(name: str, *, target: bool = False) -> str:
    """Our name of a node of AutoCircuit: `A3.2` writes, `A7.1.Q` and `MLP 4` read."""
    if name.startswith("MLP "):
        return f"{'mlp_in' if target else 'mlp_contrib'}[{name.removeprefix('MLP ')}]"
    if name.startswith("A"):
        layer, head, *kind = name.removeprefix("A").split(".")
        return f"{kind[0].lower() if target else 'z'}[{layer}].head[{head}]"
    return {"Resid Start": "embed", "Resid End": "logits"}[name]


def ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each value; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's."""
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def matched(ours: Side, peer: Side, pairs: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Scores of all edges, ours and the peer's in one order; the change of the metric when an edge is changed.

    Raises:
        ValueError: one side has edges that the other has not.
    """
    names = ours.ask("edge_names", values=True).values
    scores = ours.ask("edge_scores", **pairs, values=True).values["scores"]
    source, target = names["sources"], names["targets"]
    mine = {(str(source[s]), str(target[t])): float(scores[s, t]) for s, t in np.argwhere(names["exists"])}
    found = peer.ask("named_scores", **pairs, values=True).values
    theirs = {
        (as_ours(str(a)), as_ours(str(b), target=True)): -float(score)  # theirs is the gradient of minus the metric
        for a, b, score in zip(found["sources"], found["targets"], found["scores"], strict=True)
    }
    if mine.keys() != theirs.keys():
        raise ValueError(f"{len(mine.keys() ^ theirs.keys())} edges are known to one side only.")
    return np.array(list(mine.values())), np.array([theirs[edge] for edge in mine])


def against_peer(bench: Bench, ours: Side, peer: Side, count: int, facts: Facts) -> Row:
    """Scores of all edges of the random network, on both sides from token ids to scores."""
    bench.say(f"  scores of all edges of a random network of GPT-2's size, {count} pairs, against AutoCircuit")
    pairs = random_pairs(count)
    found = rounds(
        {
            "ours": lambda: ours.ask("edge_scores", **pairs),
            "theirs": lambda: peer.ask("edge_scores", **pairs),
        },
        bench.count(5),
    )
    held = [peak([one.ask("edge_scores", **pairs, memory=True)]) for one in (ours, peer)]  # fresh pages: not timed
    mine, theirs = matched(ours, peer, pairs)
    correlation = rank_correlation(mine, theirs)
    return compare(
        f"scores of all edges, random network of GPT-2's size, {count} pairs of {PEER_LENGTH} tokens",
        "edge_attribution, eap",
        f"AutoCircuit {peer.opened.versions['auto-circuit']}, mask gradient "
        f"(on TransformerLens {peer.opened.versions['transformer-lens']})",
        "speed",
        pairs_of(found["ours"], found["theirs"]),
        reach=PEER_REACH,
        difference=1 - correlation,
        tolerance=UNLIKE,
        facts={
            "the values' difference is": "1 - Spearman's rank correlation of all edges' scores",
            "edges": len(mine),
            "rank correlation": round(correlation, 8),
            "rank correlation of sizes": round(rank_correlation(abs(mine), abs(theirs)), 8),
            "largest difference by the largest score": float(abs(mine - theirs).max() / abs(mine).max()),
            "our MiB at the peak, beyond those before": held[0],
            "their MiB at the peak, beyond those before": held[1],
            **facts,
        },
    )


def peer_rows(bench: Bench) -> tuple[list[Row], list[Side]]:
    """The rows against AutoCircuit: both sides open the same random network."""
    with tempfile.TemporaryDirectory() as place:
        random_gpt2(bench, Path(place))
        sha, size = weights_of(Path(place))
        facts: Facts = {"weights' SHA-256": sha, "weights' bytes": size, "spread of the weights": SPREAD}
        bench.say(f"  starting ours and {PEER} on a random network")
        with (
            side("ours", place, bench.threads, architecture="GPT2LMHeadModel") as ours,
            side(PEER, place, bench.threads, architecture="GPT2LMHeadModel") as peer,
        ):
            counts = PEER_PAIRS[:1] if bench.quick else PEER_PAIRS
            return [against_peer(bench, ours, peer, count, facts) for count in counts], [ours, peer]


def own_rows(bench: Bench) -> tuple[list[Row], list[Side]]:
    """The rows against plain passes of the same network."""
    with bench.side("ours") as ours:
        rows = [attribution(bench, ours, weights=weights) for weights in (True, False)]
        rows += [one_set(bench, ours, share) for share in (SHARES[:1] if bench.quick else SHARES)]
        for name, values in GROWTH.items():
            rows += [growth(bench, ours, name, value) for value in (values[:1] if bench.quick else values)]
        return rows, [ours]


def measure(bench: Bench) -> tuple[list[Row], list[Side]]:
    """All rows, and the sides that took part."""
    rows, sides = peer_rows(bench) if bench.wants(PEER) else ([], [])
    if bench.wants("plain"):
        own, ours = own_rows(bench)
        rows, sides = [*own, *rows], [*ours, *sides]
    return rows, sides
