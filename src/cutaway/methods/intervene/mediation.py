"""Does the effect of a changed prompt go through this part? Total, indirect and direct effects.

Causal mediation analysis [@vig2020]. Each prompt has a contrast with one thing changed (the profession becomes "man"), and
the model's odds y = p(wrong answer) / p(answer) are compared, as ratios:

    total effect             y(contrast) / y(prompt) - 1
    natural indirect effect  y(prompt, but the part as in the contrast) / y(prompt) - 1
    natural direct effect    y(contrast, but the part as in the prompt) / y(prompt) - 1

The paper reports means of these ratios, which a few prompts with tiny odds can carry; medians stand beside them, and the
mean of the logarithms, log(1 + effect), in which the direct and the indirect effect of independent paths add up to the
total one. Parts are ranked by the latter unless `rank_by` says otherwise. With several answers the odds are those of
their geometric means.

Parts are the paper's neurons `mlp_out[*].unit[*]@profession` and attention weights `pattern[*].head[*]`, or heads,
units `mlp_act[*].unit[*]`, layers. Where they are more than `exact`, a gradient chooses so many of them, and those are
measured. A set is made of the parts with the largest effects, or greedily; `preferred` keeps the prompts in which the model
gives the answer more than the wrong one, so that the odds begin below one.

The check changes the set as in the contrast, in prompts that did not choose it where there are four or more, against
random sets of the same kinds.
Limits: what parts do together is not the sum of what each does; a gradient may overlook parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from cutaway.core import view as views
from cutaway.core.errors import TaskError
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Check, Result
from cutaway.core.site import Site
from cutaway.core.task import EncodedTask, Task
from cutaway.methods.cells import cells_of, grids, in_words, map_views
from cutaway.methods.control import compared, enough, interval, sets_like, unchecked
from cutaway.methods.labels import described
from cutaway.methods.mediation_effects import Effects, Floats, effects_of, numbers, order_of, screened, summary
from cutaway.methods.prompt_choice import part_of, where_preferred
from cutaway.methods.sets import Write, scores
from cutaway.models.metric import Metric, metric_of
from cutaway.models.model import Model

SHOWN = 12
LOG = "log of the odds' ratio"
RATIO = "odds' ratio - 1"


@method(
    asks="Does the effect of a changed prompt go through this part?",
    cites="vig2020",
    needs=("unembedding", "contrast", "answers"),
)
def mediation(
    model: Model,
    task: Task,
    *,
    sites: Annotated[
        str,
        Field(
            description="parts: z[*].head[*] (heads), pattern[*].head[*] (their attention), mlp_out[*] (layers), "
            "mlp_out[*].unit[*]@profession or mlp_act[*].unit[*] (neurons)"
        ),
    ] = "z[*].head[*], mlp_out[*]",
    exact: Annotated[
        int, Field(ge=1, description="parts that are measured; where there are more, a gradient chooses them")
    ] = 400,
    rank_by: Annotated[
        Literal["log", "mean", "median"], Field(description="what parts are ranked by: see above")
    ] = "log",
    largest_set: Annotated[int, Field(ge=1, description="parts of the largest set")] = 5,
    search: Annotated[
        Literal["top", "greedy"],
        Field(description="top: parts with the largest effects; greedy: each adds the most to those before"),
    ] = "top",
    preferred: Annotated[
        bool, Field(description="only prompts whose answer the model prefers to the wrong one")
    ] = False,
    controls: Annotated[
        int,
        Field(ge=0, description="random sets that the check compares with, 5 or more; 0: no check"),
        AfterValidator(enough),
    ] = 20,
    seed: Annotated[int, Field(ge=0, description="draws the random sets")] = 0,
) -> Result:
    """Split the effect of the contrast into what goes through each part and what goes past it."""
    encoded = task.encode(model.tokenizer)
    _require_wrong(encoded)
    encoded, left_out = where_preferred(model, encoded) if preferred else (encoded, ())
    metric = metric_of(encoded, "logit_difference")
    every = cells_of(model, sites, max(map(len, encoded.ids)))
    cells, estimate, said = screened(model, encoded, metric, every, exact)
    effects = effects_of(model, encoded, metric, cells)
    order = order_of(effects.towards, rank_by)
    chosen, joint = _sets(model, encoded, metric, cells, order, min(largest_set, len(cells)), search, effects.way)
    maps = grids(model, encoded.ids, cells, effects.indirect.mean(axis=0), LOG)
    return Result(
        data=_dataset(encoded, cells, effects, order, joint, every, estimate).merge(maps),
        metrics=_metrics(model, encoded, metric, effects, cells, order, chosen, joint[-1]),
        views=(*map_views(maps, "Effect that goes through"), *_views(len(encoded))),
        checks=_checks(model, encoded, metric, cells, effects, len(chosen), rank_by, controls, seed)
        if controls
        else (),
        notes=(
            *encoded.notes,
            *((encoded.summary,) if encoded.dropped else ()),
            *left_out,
            *said,
            *_other_way(effects),
            *unchecked(controls),
        ),
    )


# --- prompts -----------------------------------------------------------------------------------------------------


def _require_wrong(encoded: EncodedTask) -> None:
    if not any(encoded.wrong_ids):
        raise TaskError(
            f"the task {encoded.task.name!r} has no wrong answers;",
            "mediation compares the odds of the wrong answer and the answer.",
            "Give wrong=[...], such as the contrast's answer.",
        )


# --- sets --------------------------------------------------------------------------------------------------------


def joint_effects(
    model: Model, encoded: EncodedTask, metric: Metric, sets: Sequence[Sequence[Site]], *, held: bool = False
) -> Floats:
    """Log effects of sets of parts, each changed at once [set, prompt]: through them, or (`held`) past them.

    Args:
        model: the network.
        encoded: prompts with contrasts.
        metric: their logit difference.
        sets: concrete sites.
        held: the contrast is run and the parts stay as in the prompt.
    """
    base, other = encoded.ids, encoded.contrast_ids
    wholes = list(dict.fromkeys(site.whole for one in sets for site in one))
    start = metric(model.run(encoded, logits="last").last_logits)
    if held:
        base, other = other, base
    run = model.run([list(ids) for ids in other], read=wholes, logits="none") if wholes else {}
    writes = [[Write(site, source=run[site.whole]) for site in one] for one in sets]
    found = scores(model, base, writes, metric, named=encoded.positions, what="parts together")
    return numbers(start.to(found)[None] - found)


def _sets(
    model: Model,
    encoded: EncodedTask,
    metric: Metric,
    cells: Sequence[Site],
    order: Sequence[int] | NDArray[np.intp],
    largest: int,
    search: str,
    way: float,
) -> tuple[list[Site], Floats]:
    """The parts of the largest set in the order in which they were chosen, and joint log effects [size, prompt]."""
    ranked = [cells[int(i)] for i in order]
    if search == "greedy":
        chosen: list[Site] = []
        for _ in track(range(largest), "adding parts"):
            options = [site for site in ranked[: 4 * largest] if site not in chosen]
            gains = joint_effects(model, encoded, metric, [[*chosen, site] for site in options]).mean(axis=1)
            chosen.append(options[int(np.argmax(way * gains))])
    else:
        chosen = ranked[:largest]
    return chosen, joint_effects(model, encoded, metric, [chosen[: size + 1] for size in range(largest)])


def _checks(
    model: Model,
    encoded: EncodedTask,
    metric: Metric,
    cells: Sequence[Site],
    effects: Effects,
    size: int,
    rank_by: str,
    controls: int,
    seed: int,
) -> tuple[Check, ...]:
    """The set of one half of the prompts in the other half, against random sets."""
    half = len(encoded) >= 4
    choosing = list(range(0, len(encoded), 2 if half else 1))
    testing = list(range(1, len(encoded), 2)) if half else choosing
    order = order_of(effects.towards[choosing], rank_by)
    chosen = [cells[int(i)] for i in order[: max(1, min(size, len(cells) // 3))]]
    pool = cells if len(cells) > len(chosen) else [*cells, *_elsewhere(model, chosen)]
    sets = sets_like(chosen, pool, controls, seed, sort=lambda site: site.kind)
    tested = part_of(encoded, testing)
    joint = joint_effects(model, tested, metric_of(tested, "logit_difference"), [chosen, *sets]).mean(axis=1)
    check = compared(
        float(effects.way * joint[0]),
        (effects.way * joint[1:]).tolist(),
        claim=f"The effect of the contrast goes through {in_words(model, encoded.ids, chosen)}.",
        how="Put the contrast's values into these parts together"
        + (", in the half of the prompts that did not choose them" if half else "")
        + "; the control takes as many random parts of the same kinds."
        + (" The effect is negative: its size is compared." if effects.way < 0 else ""),
        unit=LOG,
    )
    return (check,)


def _elsewhere(model: Model, chosen: Sequence[Site]) -> list[Site]:
    """The same parts of other layers, where nothing else was named."""
    layers = range(model.anatomy.n_layers)
    return [replace(site, layer=layer) for site in chosen for layer in layers if layer != site.layer]


# --- the result --------------------------------------------------------------------------------------------------


def _dataset(
    encoded: EncodedTask,
    cells: Sequence[Site],
    effects: Effects,
    order: NDArray[np.intp],
    joint: Floats,
    every: Sequence[Site],
    estimate: Floats | None,
) -> xr.Dataset:
    names = [str(site) for site in cells]
    data = xr.Dataset(
        {
            "log_odds": ("prompt", effects.odds),
            "log_total_effect": ("prompt", effects.total),
            "log_indirect_effect": (("prompt", "part"), effects.indirect),
            "log_direct_effect": (("prompt", "part"), effects.direct),
            "joint_effect": ("size", joint.mean(axis=1)),
        },
        coords={"prompt": list(encoded.prompts), "part": names, "size": np.arange(1, len(joint) + 1)},
    )
    if estimate is not None:
        data["estimated_log_indirect_effect"] = ("every_part", estimate)
        data = data.assign_coords(every_part=[str(site) for site in every])
    largest = order[:SHOWN]
    bands = np.array([interval(effects.indirect[:, i].tolist()) for i in largest])
    columns = {
        "indirect": effects.indirect[:, largest].mean(axis=0),
        "indirect_low": bands[:, 0],
        "indirect_high": bands[:, 2],
        "indirect_mean": summary(effects.indirect[:, largest], "mean"),
        "indirect_median": summary(effects.indirect[:, largest], "median"),
        "direct": effects.direct[:, largest].mean(axis=0),
    }
    for name, column in columns.items():
        data[f"largest_{name}"] = ("largest", column)
    data = data.assign_coords(largest=[names[i] for i in largest])
    return described(
        data,
        largest="part",
        log_total_effect=(f"total effect: {LOG}", ""),
        largest_indirect=(f"indirect effect: {LOG}", ""),
        largest_indirect_mean=(f"indirect, mean {RATIO}", ""),
        largest_indirect_median=(f"indirect, median {RATIO}", ""),
        largest_direct=(f"direct effect: {LOG}", ""),
        joint_effect=(f"indirect effect together: {LOG}", ""),
        size="parts",
    )


def _metrics(
    model: Model,
    encoded: EncodedTask,
    metric: Metric,
    effects: Effects,
    cells: Sequence[Site],
    order: NDArray[np.intp],
    chosen: Sequence[Site],
    joint: Floats,
) -> dict[str, float | int | str]:
    past = joint_effects(model, encoded, metric, [list(chosen)], held=True)[0]
    total = effects.total
    share = float(joint.mean() / total.mean()) if abs(float(total.mean())) > 1e-12 else 0.0
    return {
        "total_effect_mean": float(np.expm1(total).mean()),
        "total_effect_median": float(np.median(np.expm1(total))),
        "total_effect_log": float(total.mean()),
        "part_with_largest_effect": str(cells[int(order[0])]),
        "largest_indirect_effect_log": float(effects.indirect[:, order[0]].mean()),
        "parts": len(cells),
        "set": ", ".join(map(str, chosen)),
        "set_indirect_effect_mean": float(np.expm1(joint).mean()),
        "set_indirect_effect_log": float(joint.mean()),
        "set_direct_effect_mean": float(np.expm1(past).mean()),
        "set_direct_effect_log": float(past.mean()),
        "set_share_of_total": share,
    }


def _other_way(effects: Effects) -> tuple[str, ...]:
    other = int((effects.odds > 0).sum())
    if not other:
        return ()
    return (
        f"In {other} of {len(effects.odds)} prompts the wrong answer is the likelier one already: see `preferred`.",
    )


def _views(prompts: int) -> tuple[views.View, ...]:
    low, high = ("largest_indirect_low", "largest_indirect_high") if prompts > 1 else (None, None)
    table = ["largest", "largest_indirect", "largest_indirect_mean", "largest_indirect_median", "largest_direct"]
    return (
        views.bars(value="largest_indirect", label="largest", low=low, high=high, title="Largest indirect effects"),
        views.table(columns=table, title="Parts that the effect goes through"),
        views.curves(value="joint_effect", x="size", title="Indirect effect of the chosen parts together"),
        views.histogram(value="log_total_effect", title="Total effect of the contrast, prompt by prompt"),
    )
