"""Which map of words is to be trusted here? Several methods asked the same question, and each held to the same test.

Maps of one prediction disagree [@krishna2022], and which of them is nearest to the network differs from prompt to
prompt. So each is tested on this prompt as `faithfulness` does it: comprehensiveness [@deyoung2020] and insertion of its
order against random orders of the same tokens. The one to trust here has the largest mean lead over the random orders, and
it is only named where that lead is outside of their interval. How alike the maps rank the tokens stands beside it.

Limits: the test is on the tokens of the prompt, and on the ground of texts with holes; where two maps lead by as much,
the interval is too wide to choose between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import xarray as xr
from pydantic import Field

from cutaway.core import view as views
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Check, Result
from cutaway.core.task import Task
from cutaway.methods.attribute import faithfulness_measures as measures
from cutaway.methods.attribute.faithfulness import Orders, predictions
from cutaway.methods.attribute.faithfulness_measures import MEASURES, Floats, Prediction
from cutaway.methods.attribute.maps import UNSIGNED, MapName, Question, map_of, values_of_map
from cutaway.methods.attribute.neutral import Neutral, neutral_embedding
from cutaway.methods.attribute.targets import Continuation, Foil, Generate, ScoreName, Seed, Targets, targets_of
from cutaway.methods.control import interval
from cutaway.methods.labels import described, token_table
from cutaway.methods.scoring import as_words
from cutaway.models.model import Model

USUAL: tuple[MapName, ...] = ("saliency", "input_x_gradient", "integrated_gradients", "occlusion", "attention_map")


@method(
    asks="Which map of words is to be trusted here?",
    cites="krishna2022, deyoung2020",
    needs=("unembedding",),
)
def compare_attributions(
    model: Model,
    task: Task,
    *,
    methods: Annotated[tuple[MapName, ...], Field(min_length=2, description="the methods that are asked")] = USUAL,
    score: ScoreName = "metric",
    generate: Generate = 0,
    continuation: Continuation = "",
    foil: Foil = "",
    neutral: Annotated[Neutral, Field(description="what takes the place of a token that is taken out")] = "mean",
    orders: Orders = 20,
    share: Annotated[float, Field(gt=0, lt=1, description="share of the tokens whose overlap is counted")] = 0.2,
    seed: Seed = 0,
) -> Result:
    """Several attributions of the same prediction, how alike they are, and which of them holds its test best."""
    targets = targets_of(model, task, score, generate, continuation, foil)
    asked = Question(score, generate, continuation, foil, seed).about(targets, model)
    nothing = neutral_embedding(model, neutral)
    able = predictions(model, targets, nothing)
    maps = [values_of_map(map_of(model, task, name, asked)) for name in track(methods, "asking each method")]
    measured: dict[str, list[Floats]] = {name: [] for name in MEASURES}
    for number, one in enumerate(track(able, "taking words out in order")):
        every = [measures.ranked(values[one.prompt, one.target], one.inside) for values in maps]
        every += measures.random_orders(one.inside, orders, seed + number)
        out, left = measures.curves(model, targets, one, every, nothing)
        kinds = [measures.measures_of(one, out, left, signed=signed) for signed in (True, False)]
        for name in MEASURES:
            rows = [kinds[method in UNSIGNED][name][row] for row, method in enumerate(methods)]
            measured[name].append(np.array([*rows, *kinds[0][name][len(maps) :]]))
    means = {name: np.mean(rows, axis=0) for name, rows in measured.items()}
    lead = _leads(means, len(maps))
    best = int(np.argmax(lead))
    check = _check(means, best, methods, len(able), targets)
    return Result(
        data=_dataset(model, targets, methods, maps, means, lead, able, share),
        metrics={
            "trust_here": methods[best] if check.passed else "none",
            "comprehensiveness": float(means["comprehensiveness"][best]),
            "mean_rank_agreement": _mean_agreement(maps, able),
        },
        views=_views(),
        checks=(check,),
        notes=(*targets.notes, _advice(methods, best, check)),
    )


def _leads(means: dict[str, Floats], maps: int) -> Floats:
    """How many standard deviations of the random orders each map leads by: comprehensiveness and insertion."""
    every = []
    for name in ("comprehensiveness", "insertion"):
        random = means[name][maps:]
        every.append((means[name][:maps] - random.mean()) / max(float(random.std()), 1e-12))
    lead: Floats = np.mean(every, axis=0)
    return lead


def _check(means: dict[str, Floats], best: int, methods: Sequence[str], n: int, targets: Targets) -> Check:
    each = means["comprehensiveness"]
    low, middle, high = interval(each[len(methods) :].tolist())
    return Check(
        claim=f"Of these maps, {as_words(methods[best])} is to be trusted most here.",
        how=f"Take out the tokens that it ranks first (comprehensiveness, {n} prediction{'s' if n > 1 else ''}); "
        "the control takes them out in random orders.",
        measured=float(each[best]),
        control=middle,
        interval=(low, high),
        n=len(each) - len(methods),
        passed=float(each[best]) > high,
        unit=targets.unit,
    )


def _advice(methods: Sequence[str], best: int, check: Check) -> str:
    if not check.passed:
        return "None of these maps finds tokens that matter more than random ones here: trust none of them."
    return f"Trust {methods[best]} here: its order leads the random ones by most."


def _agreements(maps: Sequence[Floats], able: Sequence[Prediction], share: float) -> tuple[Floats, Floats]:
    """Rank correlation and overlap of each two maps [map, map], averaged over predictions."""
    count = len(maps)
    ranks, tops = np.zeros((count, count)), np.zeros((count, count))
    for one in able:
        here = [np.nan_to_num(values[one.prompt, one.target, list(one.inside)]) for values in maps]
        for i in range(count):
            for j in range(count):
                ranks[i, j] += measures.rank_agreement(here[i], here[j]) / len(able)
                tops[i, j] += measures.overlap(here[i], here[j], share) / len(able)
    return ranks, tops


def _mean_agreement(maps: Sequence[Floats], able: Sequence[Prediction]) -> float:
    ranks, _ = _agreements(maps, able, 0.5)
    return float(ranks[np.triu_indices(len(maps), 1)].mean())


def _dataset(
    model: Model,
    targets: Targets,
    methods: Sequence[str],
    maps: Sequence[Floats],
    means: dict[str, Floats],
    lead: Floats,
    able: Sequence[Prediction],
    share: float,
) -> xr.Dataset:
    ranks, tops = _agreements(maps, able, share)
    one = able[0]
    sizes = np.stack([values[one.prompt, one.target] for values in maps])
    sizes = sizes / np.maximum(np.nanmax(np.abs(sizes), axis=1, keepdims=True), 1e-300)
    tokens = token_table(model, [targets.ids[one.prompt]])[0]
    data = xr.Dataset(
        {
            "attribution": (("method", "position"), sizes[:, : len(tokens)].astype(np.float32)),
            "rank_agreement": (("method", "other"), ranks),
            "overlap": (("method", "other"), tops),
            "lead": (("method",), lead),
            **{name: (("method",), values[: len(maps)]) for name, values in means.items()},
            **{f"{name}_of_random": (("order",), values[len(maps) :]) for name, values in means.items()},
        },
        coords={
            "method": list(methods),
            "other": list(methods),
            "position": np.arange(len(tokens)),
            "place": (("position",), [f"{i} {text}" for i, text in enumerate(tokens)]),
        },
    )
    unit = targets.unit
    return described(
        data,
        attribution="part of the map's largest attribution",
        lead=("lead over random orders", "standard deviations"),
        rank_agreement="rank correlation",
        place="token",
        **{name: (name, unit) for name in MEASURES},
    )


def _views() -> tuple[views.View, ...]:
    return (
        views.heatmap(value="attribution", x="place", y="method", title="The maps, each as part of its largest value"),
        views.bars(value="lead", label="method", title="Lead over random orders"),
        views.heatmap(value="rank_agreement", x="other", y="method", title="How alike the maps rank the tokens"),
        views.table(columns=["method", *MEASURES, "lead"], title="Every map and its test"),
    )
