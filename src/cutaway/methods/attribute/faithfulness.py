"""Can this map of words be trusted here? Every common measure of faithfulness, against random orders and a network that
has learned nothing.

The prompt's tokens are taken out (or left alone) in the order in which a map ranks them, and the score is measured:
comprehensiveness and sufficiency [@deyoung2020], areas under the deletion and insertion curves [@petsiuk2018]; random
sets of tokens give sensitivity-n [@ancona2018] and infidelity [@yeh2019]; what the attributions do not sum to is the
completeness gap [@sundararajan2017]. Each curve stands beside random orders of the same tokens, and beside the order
that the same method gives on a twin with shuffled weights: a map that looks the same there says nothing of what was
learned [@adebayo2018].

Every attribution shows a cheap version of this by default: its check is comprehensiveness at one share.
Limits: texts with tokens missing are unlike any text, so all of these measure the network on ground it does not know;
they can disagree, and none of them is the truth. In a short prompt there are few orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import xarray as xr
from pydantic import Field
from torch import Tensor

from cutaway.core import view as views
from cutaway.core.errors import TaskError
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Check, Result
from cutaway.core.task import Task
from cutaway.methods.attribute import faithfulness_measures as measures
from cutaway.methods.attribute.deletion import TESTED, evenly, testable
from cutaway.methods.attribute.faithfulness_measures import MEASURES, SHARES, Floats, Prediction
from cutaway.methods.attribute.maps import COMPLETE, UNSIGNED, MapName, Question, map_of, values_of_map
from cutaway.methods.attribute.neutral import Neutral, neutral_embedding
from cutaway.methods.attribute.targets import Continuation, Foil, Generate, ScoreName, Seed, Targets, targets_of
from cutaway.methods.control import interval
from cutaway.methods.labels import described
from cutaway.methods.random_twin import random_twin
from cutaway.methods.scoring import as_words
from cutaway.models.model import Model

Orders = Annotated[int, Field(ge=5, le=200, description="random orders that each curve is held against")]
Subsets = Annotated[int, Field(ge=8, le=4096, description="random sets of tokens for sensitivity-n and infidelity")]


@method(
    asks="Can this map of words be trusted here?",
    cites="deyoung2020, petsiuk2018, ancona2018, yeh2019, sundararajan2017, adebayo2018",
    needs=("unembedding",),
)
def faithfulness(
    model: Model,
    task: Task,
    *,
    of: Annotated[MapName, Field(description="the method whose map is tested")] = "input_x_gradient",
    score: ScoreName = "metric",
    generate: Generate = 0,
    continuation: Continuation = "",
    foil: Foil = "",
    neutral: Annotated[Neutral, Field(description="what takes the place of a token that is taken out")] = "mean",
    orders: Orders = 20,
    subsets: Subsets = 32,
    seed: Seed = 0,
) -> Result:
    """Faithfulness of a map, with random orders and an untrained network beside it."""
    targets = targets_of(model, task, score, generate, continuation, foil)
    asked = Question(score, generate, continuation, foil, seed).about(targets, model)
    nothing = neutral_embedding(model, neutral)
    able = predictions(model, targets, nothing)
    values = values_of_map(map_of(model, task, of, asked))
    untrained = values_of_map(map_of(random_twin(model, seed), task, of, asked))
    found = [
        trial(model, targets, one, values, untrained, nothing, (orders, subsets, seed + number), of not in UNSIGNED)
        for number, one in enumerate(track(able, "taking words out in order"))
    ]
    gap = _gaps(able, values) if of in COMPLETE else None
    return Result(
        data=_dataset(targets, found),
        metrics=_metrics(found, gap),
        views=_views(of, targets),
        checks=tuple(_check(found, name, of, targets) for name in ("comprehensiveness", "insertion")),
        notes=(*targets.notes, *_notes(found, of)),
    )


def predictions(model: Model, targets: Targets, nothing: Tensor) -> list[Prediction]:
    """The targets that are tested.

    Raises:
        TaskError: no prompt has two tokens that can be taken out.
    """
    chosen = evenly(testable(model, targets), TESTED)
    found = [measures.prediction(model, targets, prompt, target, nothing) for prompt, target in chosen]
    able = [one for one in found if one is not None]
    if not able:
        raise TaskError(
            "No prompt has two tokens that can be taken out.",
            "An order is tested by taking its first tokens out before the others.",
            "Give a longer prompt.",
        )
    return able


@dataclass(frozen=True, eq=False)
class Trial:
    """What one prediction says of a map.

    Attributes:
        one: the prediction.
        out, left: scores [order, share]; the map's order first, then the untrained network's, then random ones.
        measured: each measure for every order [order].
        of_sets: sensitivity_n and infidelity of the map.
        agreement: rank correlation of the map with that of the untrained network.
    """

    one: Prediction
    out: Floats
    left: Floats
    measured: dict[str, Floats]
    of_sets: dict[str, float]
    agreement: float


def trial(
    model: Model,
    targets: Targets,
    one: Prediction,
    values: Floats,
    untrained: Floats,
    nothing: Tensor,
    drawn: tuple[int, int, int],
    signed: bool,
) -> Trial:
    """Test the orders of two maps on one prediction; `drawn` are random orders, random sets, seed."""
    orders, subsets, seed = drawn
    mine, theirs = values[one.prompt, one.target], untrained[one.prompt, one.target]
    every = [
        measures.ranked(mine, one.inside),
        measures.ranked(theirs, one.inside),
        *measures.random_orders(one.inside, orders, seed),
    ]
    out, left = measures.curves(model, targets, one, every, nothing)
    sets = measures.random_sets(model, targets, one, nothing, subsets, seed)
    here = list(one.inside)
    return Trial(
        one,
        out,
        left,
        measures.measures_of(one, out, left, signed=signed),
        measures.of_sets(mine, one, sets, signed=signed),
        measures.rank_agreement(mine[here], theirs[here]),
    )


def mean_measures(found: Sequence[Trial], name: str) -> Floats:
    """A measure of every order, averaged over the predictions [order]."""
    mean: Floats = np.mean([each.measured[name] for each in found], axis=0)
    return mean


def _gaps(able: Sequence[Prediction], values: Floats) -> float:
    """The largest distance of a sum of attributions from the change of the score, where the neutral text is the same."""
    sums = [float(np.nansum(values[one.prompt, one.target, list(one.inside)])) for one in able]
    return max(abs(total - (one.whole - one.nothing)) for total, one in zip(sums, able, strict=True))


def _metrics(found: Sequence[Trial], gap: float | None) -> dict[str, float | str]:
    metrics: dict[str, float | str] = {name: float(mean_measures(found, name)[0]) for name in MEASURES}
    for name in ("sensitivity_n", "infidelity"):
        metrics[name] = float(np.mean([each.of_sets[name] for each in found]))
    metrics["agreement_with_untrained"] = float(np.mean([each.agreement for each in found]))
    if gap is not None:
        metrics["gap_to_prompt"] = gap
    return metrics


def _check(found: Sequence[Trial], name: str, of: str, targets: Targets) -> Check:
    each = mean_measures(found, name)
    low, middle, high = interval(each[2:].tolist())
    said = {
        "comprehensiveness": "Taking out the tokens that the map ranks first costs more than taking out any.",
        "insertion": "Putting back the tokens that the map ranks first brings the score back sooner than any others.",
    }
    shares = ", ".join(f"{100 * share:g}" for share in SHARES)
    return Check(
        claim=said[name],
        how=f"{as_words(name).capitalize()} of the order of {as_words(of)} over {shares} % of the tokens "
        f"({len(found)} prediction{'s' if len(found) > 1 else ''}); the control is the same with random orders.",
        measured=float(each[0]),
        control=middle,
        interval=(low, high),
        n=len(each) - 2,
        passed=float(each[0]) > high,
        unit=targets.unit,
    )


def _notes(found: Sequence[Trial], of: str) -> tuple[str, ...]:
    agreement = float(np.mean([each.agreement for each in found]))
    notes = []
    if agreement > 0.5:
        notes.append(
            f"The map of the network with shuffled weights ranks the tokens much alike (rank correlation {agreement:.2f}): "
            f"much of what {as_words(of)} shows here was not learned."
        )
    changes = [abs(each.one.whole - each.one.nothing) for each in found]
    if max(changes) < 1e-6:
        notes.append("The score does not change when every token is taken out: nothing can be tested.")
    return tuple(notes)


def _dataset(targets: Targets, found: Sequence[Trial]) -> xr.Dataset:
    x = np.array([0.0, *SHARES, 1.0])
    names = ("map", "untrained network", "random orders")
    whole = np.array([each.one.whole for each in found])[:, None, None]
    none = np.array([each.one.nothing for each in found])[:, None, None]

    def curve(first: Floats, middle: Floats, last: Floats) -> tuple[Floats, Floats, Floats]:
        ends = (np.broadcast_to(end, (*middle.shape[:2], 1)) for end in (first, last))
        start, finish = ends
        mean = np.concatenate([start, middle, finish], axis=2).mean(axis=0)
        low, high = np.quantile(mean[2:], [0.025, 0.975], axis=0)
        lines = np.stack([mean[0], mean[1], mean[2:].mean(axis=0)])
        return lines, np.stack([*lines[:2], low]), np.stack([*lines[:2], high])

    arrays: dict[str, Floats] = {}
    for name, part, first, last in (("deletion", "out", whole, none), ("insertion", "left", none, whole)):
        lines = curve(first, np.stack([getattr(each, part) for each in found]), last)
        arrays |= dict(zip((f"{name}_curve", f"{name}_curve_low", f"{name}_curve_high"), lines, strict=True))
    data = xr.Dataset({name: (("order", "share"), values) for name, values in arrays.items()})
    for name in MEASURES:
        each = mean_measures(found, name)
        low, _, high = interval(each[2:].tolist())
        data[name] = (("order",), np.array([each[0], each[1], each[2:].mean()]))
        data[f"{name}_low"] = (("order",), np.array([each[0], each[1], low]))
        data[f"{name}_high"] = (("order",), np.array([each[0], each[1], high]))
    data = data.assign_coords(order=list(names), share=x)
    unit = targets.unit
    kinds = {"deletion_curve": "score without", "insertion_curve": "score with", **{n: n for n in MEASURES}}
    return described(data, share="share of the tokens", **{name: (said, unit) for name, said in kinds.items()})


def _views(of: str, targets: Targets) -> tuple[views.View, ...]:
    name, scored = as_words(of), as_words(targets.score_name)
    drawn = [
        views.curves(
            value=f"{kind}_curve",
            x="share",
            series="order",
            low=f"{kind}_curve_low",
            high=f"{kind}_curve_high",
            title=f"{scored[0].upper()}{scored[1:]} {said} the tokens that {name} ranks first",
        )
        for kind, said in (("deletion", "without"), ("insertion", "with only"))
    ]
    return (
        *drawn,
        *(
            views.bars(value=kind, label="order", low=f"{kind}_low", high=f"{kind}_high", title=f"{kind.capitalize()}")
            for kind in MEASURES
        ),
    )
