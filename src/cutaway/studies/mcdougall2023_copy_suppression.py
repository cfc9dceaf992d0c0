"""Which head keeps the model from repeating what it has read? Copy suppression, by weights and by effect.

    All's fair in love and      ->  " war"; without the head rather " love"

In GPT-2 small one head (10.7) takes back what earlier layers predict where that token already stands in the text: its OV
circuit lowers nearly every token that it attends to, its queries look for what is predicted, and an ablation that keeps
nothing but this keeps most of its effect [@mcdougall2023]. Here every head of a model is measured by its weights, and the
one that suppresses most is ablated on plain text, beside random heads.
Limits: on a model other than the paper's there may be no such head; then the study says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from cutaway.core import view as views
from cutaway.core.claim import Claim, Figure
from cutaway.core.result import Result
from cutaway.core.site import Site
from cutaway.core.study import Findings, StudyRun, study
from cutaway.core.task import Task
from cutaway.data.corpora import plain_text
from cutaway.data.tasks.ioi import ioi
from cutaway.methods.circuit_figures import Figures, figures_of_heads
from cutaway.methods.context_effect import context_metric, lost_without
from cutaway.methods.full_circuits import layers_with_heads, sampled_tokens
from cutaway.methods.intervene.copy_suppression import Head, ablated, ranked
from cutaway.models.model import Model
from cutaway.studies.opening import opened, untrained
from cutaway.studies.statistics import resampled

K = 10
SHARE = 0.05  # of a destination's sources that count as predicted


@study(
    paper="mcdougall2023",
    item="P2",
    asks="Which head keeps the model from repeating what it has read?",
    uses=("copy_suppression", "ov_qk_analysis"),
    seconds={"tiny": 15, "small": 600},
    claims=(
        Claim(
            "ov",
            "Nearly every token is among the ten outputs that the head lowers most when it attends to that token",
            theirs="0.847",
            where="OV circuit",
            mark="memory",
            at_least=0.80,
            unit="share of tokens",
        ),
        Claim(
            "qk",
            "Nearly every token is the key that the prediction of itself looks for",
            theirs="0.957",
            where="QK circuit",
            mark="memory",
            at_least=0.80,
            unit="share of tokens",
        ),
        Claim(
            "preserved",
            "Copy suppression alone preserves 76.9 % of what the head does",
            theirs="0.769",
            where="abstract",
            at_least=0.70,
            unit="share of the divergence",
        ),
        Claim(
            "special",
            "Of random heads it preserves much less",
            mark="ours",
            at_least=0.25,
            unit="share preserved, head minus the median random head",
        ),
        Claim(
            "repeats",
            "Without the head the text's own tokens rise",
            where="examples",
            mark="ours",
            at_least=0.05,
            unit="logits against tokens that are not in the text",
        ),
        Claim(
            "untrained",
            "No head of an untrained network has such an OV circuit",
            mark="ours",
            at_most=0.20,
            unit="share of tokens, best head",
        ),
    ),
)
def mcdougall2023_copy_suppression(run: StudyRun) -> Findings:
    """Scan all heads by weights, ablate the one that suppresses most, and random ones."""
    text = _prose(run)
    model = opened(run, paper="gpt2", texts=text)
    tokens = run.size(tiny=60, small=300, paper=0)
    scan = run.step("circuits of all heads", lambda: _scan(model, tokens, run.seed))
    figures = {_head(name): one for name, one in scan.items()}
    best = ranked(figures)[0]
    others = _random_heads(figures, best, run.size(tiny=5, small=15, paper=40), run.seed)
    found = run.step("ablations", lambda: _ablations(run, model, text, [best, *others]))
    lost = run.step("own tokens", lambda: _own_tokens(run, model, [best, *others]))
    control = run.step("untrained", lambda: _scan_untrained(run, model))
    return Findings(_figures(best, figures, found, lost, control), _result(figures, best, found), _DIFFERS)


_DIFFERS = (
    "The paper's head is one of GPT-2 small, on a thousand tokens of web text; at small scale the model is "
    "SmolLM2-135M-Instruct, the text is prose of Python's own documentation in paragraphs of a few dozen tokens, and the circuits "
    "are measured on a sample of the vocabulary. A token stands as the stream after layer 0 with attention switched off "
    "(embedding and MLP); the mean of a source is its attention times the head's mean output. By its weights one head (23.3) "
    "stands out as suppressing what it attends to, and without it the text's own tokens rise, on prompts with repeated names; but "
    "its queries do not look for what is predicted, and on prose its small direct effect is not copy suppression. A second head "
    "(24.4) has weaker evidence of both kinds; it was not the one that the recipe ablates."
)


def _prose(run: StudyRun) -> Task:
    return Task.from_prompts(plain_text(run.size(tiny=4, small=24, paper=500), run.seed), name="plain text")


def _head(name: str) -> Head:
    layer, head = name.split(".")
    return int(layer), int(head)


def _named(head: Head) -> str:
    return f"{head[0]}.{head[1]}"


def _scan(model: Model, tokens: int, seed: int) -> dict[str, Figures]:
    chosen = sampled_tokens(model, tokens, seed)
    found = figures_of_heads(model, layers_with_heads(model), chosen, K, "mlp_and_stream")
    return {_named(head): one for head, one in found.items()}


def _scan_untrained(run: StudyRun, model: Model) -> float:
    found = _scan(untrained(model, run.seed), run.size(tiny=30, small=60, paper=300), run.seed)
    return max(one["own_bottom"] for one in found.values())


def _random_heads(figures: dict[Head, Figures], best: Head, count: int, seed: int) -> list[Head]:
    pool = [head for head in figures if head != best]
    order = np.random.default_rng(seed).permutation(len(pool))
    return [pool[i] for i in order[:count]]


def _ablations(run: StudyRun, model: Model, text: Task, heads: list[Head]) -> dict[str, dict[str, float]]:
    encoded = text.encode(model.tokenizer)
    destinations = run.size(tiny=20, small=300, paper=4000)
    found = ablated(model, encoded, heads, share=SHARE, destinations=destinations, seed=run.seed)
    return {_named(head): {"mean": one.mean, "kept": one.kept, "share": one.share} for head, one in found.items()}


def _own_tokens(run: StudyRun, model: Model, heads: list[Head]) -> list[float]:
    prompts = ioi(n=run.size(tiny=4, small=16, paper=100), seed=run.seed).prompts
    encoded = Task.from_prompts(prompts).encode(model.tokenizer)
    sites = [Site("z", layer, head) for layer, head in heads]
    return [-float(value) for value in lost_without(model, encoded, sites, context_metric(model, encoded, run.seed))]


def _figures(
    best: Head, figures: dict[Head, Figures], found: dict[str, Any], lost: list[float], control: float
) -> dict[str, Figure]:
    mine = found[_named(best)]
    others = np.array([one["share"] for name, one in found.items() if name != _named(best)])
    middle = float(np.median(others))
    said = f"head {_named(best)}"
    bottoms, keys = (
        np.array([one[name] for head, one in figures.items() if head != best]) for name in ("own_bottom", "own_key")
    )
    low, high = resampled(lambda chosen: mine["share"] - float(np.median(others[chosen])), len(others), seed=0)
    return {
        "ov": Figure(
            figures[best]["own_bottom"], control=float(np.median(bottoms)), control_is="median head", note=said
        ),
        "qk": Figure(figures[best]["own_key"], control=float(np.median(keys)), control_is="median head", note=said),
        "preserved": Figure(
            mine["share"],
            control=middle,
            control_is="median random head",
            note=f"{said}: KL {mine['mean']:.4f} when mean-ablated, {mine['kept']:.4f} with copy suppression kept",
        ),
        "special": Figure(mine["share"] - middle, low, high, len(others)),
        "repeats": Figure(
            lost[0], control=float(np.median(lost[1:])), control_is="median random head", note=f"{said}, on IOI prompts"
        ),
        "untrained": Figure(control),
    }


def _result(figures: dict[Head, Figures], best: Head, found: dict[str, Any]) -> Result:
    layers = sorted({layer for layer, _ in figures})
    width = 1 + max(head for _, head in figures)
    grids = {name: np.full((len(layers), width), np.nan) for name in ("own_bottom", "own_key")}
    for (layer, head), one in figures.items():
        for name, grid in grids.items():
            grid[layers.index(layer), head] = one[name]
    data = xr.Dataset(
        {
            **{name: (("layer", "head"), grid) for name, grid in grids.items()},
            "kl_mean_ablated": ("ablated", [one["mean"] for one in found.values()]),
            "kl_preserving": ("ablated", [one["kept"] for one in found.values()]),
            "preserved": ("ablated", [one["share"] for one in found.values()]),
        },
        coords={"layer": layers, "head": list(range(width)), "ablated": list(found)},
    )
    data["kl_mean_ablated"].attrs |= {"long_name": "divergence when mean-ablated", "units": "nats"}
    data["kl_preserving"].attrs |= {"long_name": "divergence with copy suppression kept", "units": "nats"}
    return Result(
        data=data,
        metrics={"head": _named(best)},
        views=(
            views.scatter(
                x="kl_mean_ablated",
                y="kl_preserving",
                label="ablated",
                title="What copy suppression leaves of each head's effect",
                note="Below the diagonal: copy suppression preserves a part of the effect.",
            ),
            views.heatmap(
                value="own_bottom",
                x="head",
                y="layer",
                title=f"Share of tokens among their own {K} most lowered outputs",
            ),
            views.heatmap(
                value="own_key",
                x="head",
                y="layer",
                title="Share of tokens that the prediction of themselves looks for",
            ),
        ),
    )
