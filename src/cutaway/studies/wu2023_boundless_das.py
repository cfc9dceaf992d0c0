"""Does a network compute the steps of an algorithm that we wrote down? Price tagging, by boundless alignment search.

    between 1 . 2 0 and 5 . 4 5 : 3 . 0 0 =      ->  yes

The paper asks an Alpaca of 7 billion weights whether an amount lies between two prices, and finds that some rotated
dimensions of one layer and token play the role of "the amount is at or above the lower price", while other algorithms
for the same answers align worse [@wu2023]. Here a small network is trained on the task in digits, and three
causal models are aligned with it at several layers and tokens.
Limits: a network that is trained on nothing else may compute it otherwise than one that is told what to do in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from cutaway.core import view as views
from cutaway.core.claim import Claim, Figure
from cutaway.core.progress import track
from cutaway.core.result import Result
from cutaway.core.site import Site
from cutaway.core.study import Findings, StudyRun, study
from cutaway.methods.alignment import Pairs, Subspace, Training, aligned, random_subspace, right, train
from cutaway.methods.causal_model import CausalModel, Counterfactual, Variable
from cutaway.models.model import Model
from cutaway.models.toy import toy, word_tokenizer
from cutaway.models.training import train as train_weights
from cutaway.studies.opening import untrained

WORDS = [*"0123456789", "between", "and", ":", "=", "yes", "no"]
YES, NO = 14, 15
PLACES = {"upper": 7, "amount": 11, "end": 12}  # the last digit of the upper price, of the amount, and the last token
INPUTS = (Variable("lower"), Variable("upper"), Variable("amount"))
HYPOTHESES: dict[str, tuple[CausalModel, str]] = {
    "left boundary": (
        CausalModel(
            (
                *INPUTS,
                Variable("above", ("lower", "amount"), lambda lower, amount: lower <= amount),
                Variable("below", ("upper", "amount"), lambda upper, amount: amount <= upper),
                Variable("answer", ("above", "below"), lambda above, below: above and below),
            )
        ),
        "above",
    ),
    "mid-point distance": (
        CausalModel(
            (
                *INPUTS,
                Variable("distance", ("lower", "upper", "amount"), lambda a, b, x: abs(2 * x - a - b)),
                Variable("width", ("lower", "upper"), lambda lower, upper: upper - lower),
                Variable("answer", ("distance", "width"), lambda distance, width: distance <= width),
            )
        ),
        "distance",
    ),
    "bracket identity": (
        CausalModel(
            (
                *INPUTS,
                Variable("bracket", ("lower", "upper"), lambda lower, upper: (lower, upper)),
                Variable("answer", ("bracket", "amount"), lambda bracket, amount: bracket[0] <= amount <= bracket[1]),
            )
        ),
        "bracket",
    ),
}
Grid = dict[str, list[float]]


@study(
    paper="wu2023",
    item="P39",
    asks="Does a network compute the steps of an algorithm that we wrote down?",
    uses=("boundless_das", "das"),
    seconds={"tiny": 15, "small": 900},
    claims=(
        Claim(
            "accuracy",
            "The network does the task (Alpaca: .85 in the paper, .92 of 5000 examples in its tutorial)",
            theirs="0.92",
            where="tutorial",
            at_least=0.95,
            unit="share of prompts",
        ),
        Claim(
            "left_boundary",
            "A subspace of one layer and token plays the role of the left boundary",
            theirs="0.96",
            where="tutorial",
            at_least=0.90,
            unit="interchange accuracy on held-out pairs",
        ),
        Claim(
            "width",
            "It does not take the whole space",
            mark="ours",
            at_most=0.5,
            unit="share of the dimensions",
        ),
        Claim(
            "other_algorithms",
            "Algorithms that the network does not use align worse (.70 and .73 against .90 at best)",
            theirs="0.17",
            where="grid of alignments",
            mark="memory",
            at_least=0.10,
            unit="left boundary minus the better of the others",
        ),
        Claim(
            "untrained",
            "An untrained network cannot be aligned",
            mark="ours",
            at_most=0.65,
            unit="interchange accuracy on held-out pairs",
        ),
        Claim(
            "wrong_labels",
            "The rotation cannot be trained to answers drawn by lot",
            mark="ours",
            at_most=0.65,
            unit="interchange accuracy on held-out pairs",
        ),
        Claim(
            "new_brackets",
            "An alignment that was trained on some brackets holds for others",
            where="robustness",
            mark="secondary",
            at_least=0.85,
            unit="interchange accuracy on other brackets",
        ),
    ),
)
def wu2023_boundless_das(run: StudyRun) -> Findings:
    """Train the network, align three causal models at a grid of sites, and test the best alignment."""
    model = run.trained("price_tagging", train_network)
    accuracy = run.step("accuracy", lambda: answered(model, run.size(tiny=100, small=2000, paper=5000), run.seed + 1))
    grids = {name: run.step(name, partial(_grid, run, model, name)) for name in HYPOTHESES}
    best = _best(grids["left boundary"])
    controls = run.step("controls", lambda: _controls(run, model, best))
    return Findings(_figures(run, accuracy, grids, best, controls), _result(run, grids), _DIFFERS)


_DIFFERS = (
    "The paper aligns Alpaca-7B, told the task in words; here a causal network of four layers and 128 dimensions is trained on "
    "the task alone, with digits as tokens, and aligned at three layers and three tokens instead of a grid of the last "
    "tokens. The boundary's temperature falls from 50 per 4096 dimensions in proportion to the width, at least 1. Each "
    "alignment takes a few hundred pairs, not 8000. At small scale everything that decides the answer is found at the last token: "
    "the left boundary is found there with a fifth of the dimensions, but less surely than in Alpaca, and the distance from "
    "the middle of the bracket, which aligned worse there, aligns better here: this network seems to use another algorithm, or "
    "150 steps of training are too few to tell."
)


# --- the network -------------------------------------------------------------------------------------------------


def drawn(random: np.random.Generator) -> dict[str, int]:
    """Prices in cents as the paper draws them: a width of 2.50 to 7.50, a lower price, an amount."""
    width = int(random.integers(250, 751))
    lower = int(random.integers(5, 995 - width + 1))
    return {"lower": lower, "upper": lower + width, "amount": int(random.integers(1, 1000))}


def tokens_of(inputs: Any) -> tuple[int, ...]:
    """The prompt as token ids: three digits for each price."""
    lower, upper, amount = ([price // 100, price // 10 % 10, price % 10] for price in map(int, _prices(inputs)))
    return (10, *lower, 11, *upper, 12, *amount, 13)


def _prices(inputs: Any) -> tuple[int, int, int]:
    return inputs["lower"], inputs["upper"], inputs["amount"]


def train_network(run: StudyRun) -> Model:
    """Four layers, trained to answer yes or no after the last token."""
    sizes: dict[str, Any] = {"n_layers": 4, "n_heads": 4, "d_model": 128, "d_head": 32, "d_mlp": 512, "n_positions": 16}
    if run.scale == "tiny":
        sizes |= {"d_model": 32, "d_head": 8, "d_mlp": 64}
    model = toy(word_tokenizer(WORDS), seed=run.seed, norm="layernorm", activation="gelu", **sizes)
    rows = run.size(tiny=16, small=128, paper=256)

    def batch(step: int) -> dict[str, Tensor]:
        random = np.random.default_rng((run.seed, step))
        inputs = [drawn(random) for _ in range(rows)]
        said = [NO if not one["lower"] <= one["amount"] <= one["upper"] else YES for one in inputs]
        return {"input_ids": torch.tensor([tokens_of(one) for one in inputs]), "answer": torch.tensor(said)}

    train_weights(
        model.hf,
        batch,
        steps=run.size(tiny=5, small=1000, paper=20000),
        learning_rate=1e-3,
        weight_decay=0.01,
        warmup=100,
        loss=_loss,
        seed=run.seed,
        keep=run.scratch("price_tagging"),
        what="training the price-tagging network",
    )
    return Model(model.hf, model.tokenizer, name="price_tagging", source="trained by wu2023_boundless_das")


def _loss(hf: Any, batch: Any) -> Tensor:
    logits = hf(input_ids=batch["input_ids"], use_cache=False, logits_to_keep=1).logits[:, -1]
    return torch.nn.functional.cross_entropy(logits, batch["answer"])


def answered(model: Model, n: int, seed: int) -> float:
    """Share of new prompts that the network answers rightly."""
    random = np.random.default_rng(seed)
    inputs = [drawn(random) for _ in range(n)]
    logits = model.run([list(tokens_of(one)) for one in inputs], logits="last").last_logits
    says = (logits[:, YES] > logits[:, NO]).tolist()
    truth = [one["lower"] <= one["amount"] <= one["upper"] for one in inputs]
    return float(np.mean([a == b for a, b in zip(says, truth, strict=True)]))


# --- alignments --------------------------------------------------------------------------------------------------


def pairs_from(found: Sequence[Counterfactual]) -> Pairs:
    """Counterfactuals as pairs of prompts."""
    ids = [tokens_of(side) for one in found for side in (one.base, one.source)]
    sides = {True: (YES,), False: (NO,)}
    n = len(found)
    return Pairs(
        ids=tuple(ids),
        base=tuple(range(0, 2 * n, 2)),
        source=tuple(range(1, 2 * n, 2)),
        label=tuple(sides[bool(one.answer)] for one in found),
        other=tuple(sides[not one.answer] for one in found),
        group=tuple(range(n)),
    )


def _drawn_pairs(run: StudyRun, name: str, seed: int, draw: Any = drawn, tested: int = 0) -> Pairs:
    model, variable = HYPOTHESES[name]
    n = tested or run.size(tiny=24, small=600, paper=4000)
    return pairs_from(model.counterfactuals(draw, [variable], n, seed=seed))


def _sides(pairs: Pairs) -> tuple[list[int], list[int]]:
    order = [int(i) for i in np.random.default_rng(0).permutation(len(pairs))]
    middle = 2 * len(order) // 3
    return order[:middle], order[middle:]


def _how(run: StudyRun) -> Training:
    return Training(
        None, run.size(tiny=3, small=150, paper=1000), run.size(tiny=8, small=32, paper=64), 1e-2, seed=run.seed
    )


def _sites(run: StudyRun) -> list[Site]:
    layers = run.size(tiny=(1,), small=(0, 1, 2), paper=(0, 1, 2, 3))
    return [Site("resid_post", layer, position=place) for layer in layers for place in PLACES.values()]


def _grid(run: StudyRun, model: Model, name: str) -> Grid:
    pairs = _drawn_pairs(run, name, run.seed + 2)
    trained, tested = _sides(pairs)
    found: Grid = {"fitted": [], "accuracy": [], "width": []}
    for site in track(_sites(run), f"aligning {name}"):
        at = aligned(model, pairs, site)
        space = train(at, trained, _how(run))
        found["fitted"].append(float(right(at, trained, space).mean()))
        found["accuracy"].append(float(right(at, tested, space).mean()))
        found["width"].append(space.size / at.width)
    return found


def _best(grid: Grid) -> int:
    """The site that fits the training pairs best: it is not picked by its accuracy on the held-out ones."""
    return int(np.argmax(grid["fitted"]))


def _controls(run: StudyRun, model: Model, best: int) -> dict[str, float]:
    """An untrained network, answers drawn by lot, random subspaces, and brackets that were not trained on."""
    site, how = _sites(run)[best], _how(run)
    pairs = _drawn_pairs(run, "left boundary", run.seed + 2)
    trained, tested = _sides(pairs)
    at = aligned(model, pairs, site)
    space = train(at, trained, how)
    other = aligned(untrained(model, run.seed), pairs, site)
    lots = pairs.with_random_labels(run.seed + 3)
    random = [random_subspace(at.width, max(1, space.size), run.seed + 10 + i) for i in range(10)]
    return {
        "untrained": float(right(other, tested, train(other, trained, how)).mean()),
        "wrong labels": float(right(at, tested, train(at, trained, how, lots), lots).mean()),
        "random subspaces": float(np.mean([right(at, tested, one).mean() for one in random])),
        "new brackets": _on_new_brackets(run, model, site, how),
    }


def _on_new_brackets(run: StudyRun, model: Model, site: Site, how: Training) -> float:
    """Trained on lower prices below 1.50, tested on those from there on."""

    def low(random: np.random.Generator) -> dict[str, int]:
        return _drawn_where(random, lambda lower: lower < 150)

    def high(random: np.random.Generator) -> dict[str, int]:
        return _drawn_where(random, lambda lower: lower >= 150)

    pairs = _drawn_pairs(run, "left boundary", run.seed + 4, low)
    space: Subspace = train(aligned(model, pairs, site), list(range(len(pairs))), how)
    others = _drawn_pairs(run, "left boundary", run.seed + 5, high, run.size(tiny=12, small=200, paper=1000))
    return float(right(aligned(model, others, site), list(range(len(others))), space).mean())


def _drawn_where(random: np.random.Generator, holds: Any) -> dict[str, int]:
    while not holds((inputs := drawn(random))["lower"]):
        pass
    return inputs


# --- findings ----------------------------------------------------------------------------------------------------


def _figures(
    run: StudyRun, accuracy: float, grids: dict[str, Grid], best: int, controls: dict[str, float]
) -> dict[str, Figure]:
    left = grids["left boundary"]
    value = left["accuracy"][best]
    n = len(_sides(_drawn_pairs(run, "left boundary", run.seed + 2))[1])
    error = 1.96 * float(np.sqrt(max(value * (1 - value), 1e-4) / n))
    others = {name: grid["accuracy"][_best(grid)] for name, grid in grids.items() if name != "left boundary"}
    site = str(_sites(run)[best])
    said = ", ".join(f"{name} {one:.3f}" for name, one in others.items())
    return {
        "accuracy": Figure(accuracy, control=0.5, control_is="chance, about"),
        "left_boundary": Figure(
            value,
            max(0.0, value - error),
            min(1.0, value + error),
            n,
            controls["random subspaces"],
            "random subspaces of the same size",
            f"at {site}",
        ),
        "width": Figure(left["width"][best], note=f"at {site}"),
        "other_algorithms": Figure(value - max(others.values()), note=said),
        "untrained": Figure(controls["untrained"], n=n),
        "wrong_labels": Figure(controls["wrong labels"], n=n),
        "new_brackets": Figure(controls["new brackets"], note="trained on lower prices below 1.50, tested above"),
    }


def _result(run: StudyRun, grids: dict[str, Grid]) -> Result:
    layers = list(dict.fromkeys(site.layer for site in _sites(run)))
    shape = (len(layers), len(PLACES))
    data = xr.Dataset(
        {
            name: (
                ("hypothesis", "layer", "token"),
                np.array([np.reshape(grid[name], shape) for grid in grids.values()]),
            )
            for name in ("accuracy", "width")
        },
        coords={"hypothesis": list(grids), "layer": layers, "token": list(PLACES)},
    )
    data["accuracy"].attrs |= {"long_name": "interchange intervention accuracy", "units": "share of held-out pairs"}
    data["width"].attrs |= {"long_name": "dimensions exchanged", "units": "share"}
    pictures = tuple(
        views.heatmap(
            value="accuracy",
            x="token",
            y="layer",
            at={"hypothesis": name},
            title=f"Interchange intervention accuracy: {name}",
        )
        for name in grids
    )
    return Result(data=data, views=pictures)
