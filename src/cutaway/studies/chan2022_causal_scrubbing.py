"""Does a hypothesis about a network survive when all that it calls irrelevant is resampled? The bracket classifier.

    [start] ( ( ) ( ) ) [end]      ->  balanced

A small network says whether forty brackets are balanced. The hypothesis: some heads tell whether there are as many
opening as closing brackets, another whether a closing one ever comes too early, and the answer depends on nothing else.
Causal scrubbing takes each head's part from another text that agrees on its test, and everything else from texts
drawn by lot [@chan2022]. Here the study trains the network, finds the heads by ablation on texts that fail one test
only, and scrubs the hypothesis, stricter and looser ones, and the same one about other heads.
Limits: which heads do what depends on the training; a network may do the tests in other ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core import view as views
from cutaway.core.claim import Claim, Figure
from cutaway.core.result import Result
from cutaway.core.site import Site
from cutaway.core.study import Findings, StudyRun, study
from cutaway.core.task import EncodedTask, Task
from cutaway.methods.control import interval
from cutaway.methods.hypothesis import Node, Sampler
from cutaway.methods.scrubbing import Scrub, any_prompt, recovered, whole_model
from cutaway.models.model import Model
from cutaway.models.toy import toy, word_tokenizer
from cutaway.models.training import train

LENGTH, LAYERS, HEADS = 40, 3, 2
WORDS = ["(", ")", "[start]", "[end]", "balanced", "unbalanced"]
BALANCED, UNBALANCED = 4, 5
Signs = NDArray[np.int64]
Head = tuple[int, int]


@study(
    paper="chan2022",
    item="A7",
    asks="Does a hypothesis about a network survive when all that it calls irrelevant is resampled?",
    uses=("causal_scrubbing",),
    seconds={"tiny": 15, "small": 900},
    claims=(
        Claim(
            "accuracy",
            "The network tells balanced texts from others",
            mark="ours",
            at_least=0.99,
            unit="share of texts",
        ),
        Claim(
            "exact",
            "Resampling nothing leaves the loss as it is",
            theirs="0.0",
            where="loss targets of the repository",
            at_most=1e-6,
            unit="nats of difference",
        ),
        Claim(
            "count_and_horizon",
            "Heads for the count test and for the horizon test, by direct paths, explain most of the loss",
            theirs="0.879",
            where="loss targets of the repository (Ex1a: 0.52 of 4.30)",
            mark="derived",
            at_least=0.80,
            unit="share of the loss recovered",
        ),
        Claim(
            "starts_open",
            "Letting the count depend on the first bracket too recovers no less (.930 against .879)",
            theirs="0.051",
            where="loss targets of the repository (Ex1b: 0.30)",
            mark="derived",
            at_least=-0.02,
            unit="gain in the share recovered",
        ),
        Claim(
            "other_heads",
            "The same hypothesis about other heads does not",
            mark="ours",
            at_most=0.40,
            unit="share of the loss recovered",
        ),
        Claim(
            "one_test",
            "A story in which both tests are one, whether the text is balanced, recovers less",
            mark="ours",
            at_least=0.05,
            unit="share of the loss lost",
        ),
    ),
)
def chan2022_causal_scrubbing(run: StudyRun) -> Findings:
    """Train the classifier, find its heads, and scrub hypotheses about them."""
    model = run.trained("bracket_classifier", train_network)
    n = run.size(tiny=24, small=400, paper=4000)
    signs = texts(np.random.default_rng(run.seed + 1), n)
    accuracy = run.step("accuracy", lambda: float(np.mean(_says(model, signs) == is_balanced(signs))))
    rises = run.step("heads", lambda: _rises(run, model))
    named = roles(rises)
    found = run.step("scrubbing", lambda: _scrubbed(run, model, signs, named))
    return Findings(_figures(accuracy, found, named, n), _result(found, rises), _DIFFERS)


_DIFFERS = (
    "The original network reads texts of up to forty brackets, padded, and answers at the first token; this one reads texts "
    "of exactly forty and answers at the last, and is trained with a smaller budget. Its heads are not those of the original: "
    "they are found by ablation on texts that fail one test only, two for the count and one for the horizon as there. Losses "
    "are of one answer against the other. The original's further hypotheses, about what the heads read at the first "
    "bracket, are not tested; a coarser one, in which both tests are one, stands for them. At small scale the hypothesis recovers "
    "half of the loss, and twice what it does about other heads; with the same heads left on the whole text it is not much more. "
    "So this network's heads act on its answer through later layers too, which the direct paths of the hypothesis leave out."
)


# --- texts -------------------------------------------------------------------------------------------------------


def balanced(random: np.random.Generator, length: int = LENGTH) -> Signs:
    """A balanced text, each of that length as likely as any other: +1 opens, -1 closes."""
    found, depth = [], 0
    for place in range(length):
        left = length - place
        opens = random.random() < (depth + 2) * (left - depth) / (2 * left * (depth + 1))
        found.append(1 if opens else -1)
        depth += found[-1]
    return np.array(found)


def texts(random: np.random.Generator, n: int) -> Signs:
    """A third balanced, a third with as many of both in random order, the rest random or with one bracket turned."""
    return np.array([_text(random) for _ in range(n)])


def _text(random: np.random.Generator) -> Signs:
    kind = int(random.integers(6))
    if kind < 2:
        return balanced(random)
    if kind < 4:
        return random.permutation(np.repeat([1, -1], LENGTH // 2))
    if kind == 4:
        return random.choice([1, -1], size=LENGTH)
    turned = balanced(random)
    turned[random.integers(LENGTH)] *= -1
    return turned


def equal(signs: Signs) -> NDArray[np.bool_]:
    """As many opening as closing brackets [text]."""
    found: NDArray[np.bool_] = signs.sum(axis=-1) == 0
    return found


def never_early(signs: Signs) -> NDArray[np.bool_]:
    """Read from the end, no opening bracket is without its closing one [text]: with equal counts, none closes early."""
    after: NDArray[np.bool_] = np.cumsum(signs[..., ::-1], axis=-1).max(axis=-1) <= 0
    return after


def is_balanced(signs: Signs) -> NDArray[np.bool_]:
    """Both tests hold [text]."""
    return equal(signs) & never_early(signs)


def _ids(signs: Signs) -> list[list[int]]:
    return [[2, *(0 if sign == 1 else 1 for sign in text), 3] for text in signs]


def _task(signs: Signs) -> Task:
    prompts = [" ".join("(" if sign == 1 else ")" for sign in text) for text in signs]
    truth = is_balanced(signs)
    answers = [" balanced" if one else " unbalanced" for one in truth]
    wrong = [" unbalanced" if one else " balanced" for one in truth]
    return Task.from_prompts(prompts, answers=answers, wrong=wrong, name="brackets")


# --- the network -------------------------------------------------------------------------------------------------


def train_network(run: StudyRun) -> Model:
    """Three layers of two heads that see the whole text, read at the last token."""
    tokenizer = word_tokenizer(WORDS, begin="[start]", end="[end]")
    sizes: dict[str, Any] = {"n_layers": LAYERS, "n_heads": HEADS, "d_model": 56, "d_head": 28, "d_mlp": 56}
    model = toy(tokenizer, head="masked", seed=run.seed, norm="layernorm", n_positions=LENGTH + 2, **sizes)
    rows = run.size(tiny=16, small=128, paper=256)

    def batch(step: int) -> dict[str, Tensor]:
        signs = texts(np.random.default_rng((run.seed, step)), rows)
        said = np.where(is_balanced(signs), BALANCED, UNBALANCED)
        return {"input_ids": torch.tensor(_ids(signs)), "answer": torch.tensor(said)}

    train(
        model.hf,
        batch,
        steps=run.size(tiny=5, small=3000, paper=30000),
        learning_rate=1e-3,
        weight_decay=0.01,
        warmup=100,
        loss=_loss,
        seed=run.seed,
        keep=run.scratch("bracket_classifier"),
        what="training the bracket classifier",
    )
    return Model(model.hf, tokenizer, name="bracket_classifier", source="trained by chan2022_causal_scrubbing")


def _loss(hf: Any, batch: Any) -> Tensor:
    stream = hf.model(input_ids=batch["input_ids"]).last_hidden_state[:, -1]
    return torch.nn.functional.cross_entropy(hf.lm_head(stream), batch["answer"])


def _says(model: Model, signs: Signs) -> NDArray[np.bool_]:
    logits = model.run(_ids(signs), logits="last").last_logits
    said: NDArray[np.bool_] = (logits[:, BALANCED] > logits[:, UNBALANCED]).cpu().numpy()
    return said


# --- which head does what ----------------------------------------------------------------------------------------


def failing(random: np.random.Generator, n: int) -> dict[str, Signs]:
    """Texts that fail the count test alone, and texts that fail the horizon test alone."""
    kinds: dict[str, list[Signs]] = {"count": [], "horizon": []}
    while min(map(len, kinds.values())) < n:
        text = _text(random)
        sorts = {"count": never_early(text) and not equal(text), "horizon": equal(text) and not never_early(text)}
        for name, fits in sorts.items():
            if fits and len(kinds[name]) < n:
                kinds[name].append(text)
    return {name: np.array(found) for name, found in kinds.items()}


def _rises(run: StudyRun, model: Model) -> dict[str, list[float]]:
    """By how much the lead of the right answer falls without each head, on texts that fail one test only [head]."""
    found = {}
    for name, signs in failing(np.random.default_rng(run.seed + 2), run.size(tiny=8, small=100, paper=500)).items():
        both = np.concatenate([signs, np.array([balanced(np.random.default_rng(i)) for i in range(len(signs))])])
        encoded = _task(both).encode(model.tokenizer)
        sweep = model.sweep(encoded, over="z[*].head[*]", edit="mean")
        change = (sweep.base[:, None] - sweep.values)[: len(signs)]
        found[name] = change.double().mean(dim=0).tolist()
    return found


def roles(rises: dict[str, list[float]]) -> dict[str, list[Head]]:
    """One head for the horizon, the one whose loss hurts it most; of the others, two for the count."""
    heads = [(layer, head) for layer in range(LAYERS) for head in range(HEADS)]
    horizon = heads[int(np.argmax(rises["horizon"]))]
    order = [heads[i] for i in np.argsort(-np.array(rises["count"]), kind="stable") if heads[i] != horizon]
    return {"count": sorted(order[:2]), "horizon": [horizon]}


# --- scrubbing ---------------------------------------------------------------------------------------------------


def hypothesis(named: dict[str, list[Head]], count: Sequence[str], horizon: Sequence[str]) -> Node:
    """The output depends on the count heads through some features, on the horizon head through others, and no more."""

    def sites(name: str) -> tuple[Site, ...]:
        return tuple(Site("z", layer, head) for layer, head in named[name])

    return Node(
        "output",
        children=(
            Node("count", sites("count"), tuple(count), direct=True),
            Node("horizon", sites("horizon"), tuple(horizon), direct=True),
        ),
    )


def _scrubbed(run: StudyRun, model: Model, signs: Signs, named: dict[str, list[Head]]) -> dict[str, Any]:
    encoded = _task(signs).encode(model.tokenizer)
    scrub = Scrub(model, encoded, Sampler(_features(encoded, signs), [len(ids) for ids in encoded.ids]))
    trees = {
        "count and horizon": hypothesis(named, ["equal"], ["never_early"]),
        "and starts open": hypothesis(named, ["equal", "starts_open"], ["never_early"]),
        "one test for both": hypothesis(named, ["balanced"], ["balanced"]),
        "the heads on anything": hypothesis(named, [], []),
        "the heads on the whole text": hypothesis(named, ["prompt"], ["prompt"]),
    }
    samples = run.size(tiny=2, small=5, paper=20)
    first = recovered(scrub, trees["count and horizon"], samples=samples, seed=run.seed)
    losses = {
        name: list(recovered(scrub, tree, samples=samples, seed=run.seed, ends=first).scrubbed)
        for name, tree in trees.items()
    }
    moved = [hypothesis(other, ["equal"], ["never_early"]) for other in _others(named)]
    chosen = moved if run.scale != "tiny" else moved[:2]
    wrong = [recovered(scrub, tree, samples=1, seed=run.seed + i, ends=first).share for i, tree in enumerate(chosen)]
    shuffled = Scrub(model, encoded, scrub.sampler.with_shuffled_features(np.random.default_rng(run.seed + 5)))
    lot = recovered(shuffled, trees["count and horizon"], samples=samples, seed=run.seed, ends=first).share
    prompts, random = list(range(len(encoded))), np.random.default_rng(run.seed)
    plain = [encoded.ids[prompt] for prompt in prompts]
    return {
        "model": first.model,
        "random": first.random,
        "losses": losses,
        "other heads": wrong,
        "shuffled features": lot,
        "exact": abs(float(scrub.losses(whole_model(), prompts, random).mean()) - _plain_loss(model, encoded, plain)),
        "prompts by lot": float(scrub.losses(any_prompt(), prompts, random).mean()),
    }


def _plain_loss(model: Model, encoded: EncodedTask, ids: Sequence[Sequence[int]]) -> float:
    logits = model.run([list(one) for one in ids], logits="last").last_logits.double()
    right, wrong = (torch.tensor([one[0] for one in side]) for side in (encoded.answer_ids, encoded.wrong_ids))
    rows = torch.arange(len(logits))
    return float(torch.nn.functional.softplus(logits[rows, wrong] - logits[rows, right]).mean())


def _features(encoded: EncodedTask, signs: Signs) -> dict[str, list[Any]]:
    kept = signs[list(encoded.kept)]
    return {
        "prompt": list(range(len(kept))),
        "equal": equal(kept).tolist(),
        "never_early": never_early(kept).tolist(),
        "balanced": is_balanced(kept).tolist(),
        "starts_open": (kept[:, 0] == 1).tolist(),
    }


def _others(named: dict[str, list[Head]]) -> list[dict[str, list[Head]]]:
    """The roles given to other heads: no head keeps its own."""
    heads = [(layer, head) for layer in range(LAYERS) for head in range(HEADS)]
    found = []
    for first, second, third in permutations(heads, 3):
        if first < second and not {first, second} & set(named["count"]) and third not in named["horizon"]:
            found.append({"count": [first, second], "horizon": [third]})
    return found


# --- findings ----------------------------------------------------------------------------------------------------


def _shares(found: dict[str, Any], name: str) -> NDArray[np.float64]:
    gap = found["random"] - found["model"]
    shares: NDArray[np.float64] = (found["random"] - np.array(found["losses"][name])) / (
        gap if abs(gap) > 1e-9 else 1.0
    )
    return shares


def _figures(accuracy: float, found: dict[str, Any], named: dict[str, list[Head]], n: int) -> dict[str, Figure]:
    main, opens, one = (_shares(found, name) for name in ("count and horizon", "and starts open", "one test for both"))
    low, _, high = interval(main.tolist())
    wrong = np.array(found["other heads"])
    said = "; ".join(f"{role}: {', '.join(f'{a}.{b}' for a, b in heads)}" for role, heads in named.items())
    whole = float(_shares(found, "the heads on the whole text").mean())
    return {
        "accuracy": Figure(accuracy, n=n),
        "exact": Figure(found["exact"], n=n),
        "count_and_horizon": Figure(
            float(main.mean()),
            low,
            high,
            n,
            found["shuffled features"],
            "features dealt out anew",
            f"{said}; with these heads left on the whole text {whole:.3f}",
        ),
        "starts_open": Figure(float(opens.mean() - main.mean()), n=n, note=f"{float(opens.mean()):.3f} recovered"),
        "other_heads": Figure(
            float(wrong.mean()), float(wrong.min()), float(wrong.max()), len(wrong), note="mean over other heads"
        ),
        "one_test": Figure(float(main.mean() - one.mean()), n=n, note=f"{float(one.mean()):.3f} recovered"),
    }


def _result(found: dict[str, Any], rises: dict[str, list[float]]) -> Result:
    shares = {name: _shares(found, name) for name in found["losses"]}
    rows = {
        **shares,
        "other heads": np.array(found["other heads"]),
        "features dealt out anew": np.array([found["shuffled features"]]),
    }
    heads = [f"{layer}.{head}" for layer in range(LAYERS) for head in range(HEADS)]
    data = xr.Dataset(
        {
            "recovered": ("hypothesis", [float(one.mean()) for one in rows.values()]),
            "low": ("hypothesis", [float(one.min()) for one in rows.values()]),
            "high": ("hypothesis", [float(one.max()) for one in rows.values()]),
            "rise": (("test", "head"), np.array(list(rises.values()))),
        },
        coords={"hypothesis": list(rows), "test": list(rises), "head": heads},
    )
    data["recovered"].attrs |= {"long_name": "share of the loss recovered"}
    data["rise"].attrs |= {"long_name": "lead that the right answer loses without the head", "units": "logits"}
    return Result(
        data=data,
        metrics={"loss_model": found["model"], "loss_random": found["random"]},
        views=(
            views.bars(
                value="recovered", label="hypothesis", low="low", high="high", title="Share of the loss recovered"
            ),
            views.heatmap(
                value="rise", x="head", y="test", title="What each head's absence costs on texts that fail one test"
            ),
        ),
    )
