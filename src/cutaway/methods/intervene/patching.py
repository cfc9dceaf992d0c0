"""Where does the difference between two prompts live? Carry a value from one run into the other, cell by cell.

Activation patching [@meng2022; @zhang2023]. A prompt and its contrast differ in one thing. *Denoising* runs the
contrast and puts in one value of the prompt's run: what is enough to bring the answer back? *Noising* runs the
prompt and puts in one value of the contrast's: what is needed? The effect of a cell is normalised,
(metric(patched) - metric(base)) / (metric(source) - metric(base)): 0 is the run that was changed, 1 the run that the
value came from; over several prompts it is the ratio of the means.

Any kind of site and any position can be patched; the map is layer x position or layer x head. The check patches the
cells with the largest effects together, against as many random cells; cells of one token are drawn from the same
layers, so that depth alone is no advantage, and none from before the first token that differs, where a causal network
holds the same in both runs.
Limits: what is enough and what is needed need not be the same cells; a patched run is one that never happens.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from torch import Tensor

from cutaway.core import view as views
from cutaway.core.errors import TaskError
from cutaway.core.method import method
from cutaway.core.result import Check, Result
from cutaway.core.site import Site
from cutaway.core.task import EncodedTask, Task
from cutaway.methods.cells import cells_of, grids, in_words, map_views, that_can_differ
from cutaway.methods.control import compared, enough, sets_like, unchecked
from cutaway.methods.labels import described
from cutaway.methods.scoring import as_words, metric_for
from cutaway.methods.sets import Write, scores
from cutaway.models.metric import Metric
from cutaway.models.model import Model
from cutaway.models.sweep import Sweep

SHOWN = 12
SHARE = "share of the difference"
ENOUGH = 5  # positions in a layer, from which random ones can be drawn


@method(
    asks="Where does the difference between two prompts live?",
    cites="meng2022, zhang2023",
    needs=("unembedding", "contrast"),
)
def patching(
    model: Model,
    task: Task,
    *,
    sites: Annotated[
        str,
        Field(description="cells: resid_pre[*]@* (layer by position), z[*].head[*] (layer by head), attn_out[*]@-1"),
    ] = "resid_pre[*]@*",
    direction: Annotated[
        Literal["denoise", "noise"],
        Field(description="denoise: the prompt's values into the contrast's run; noise: the other way round"),
    ] = "denoise",
    top: Annotated[int, Field(ge=1, description="cells that the check patches together")] = 3,
    controls: Annotated[
        int,
        Field(ge=0, description="random sets of cells that the check compares with, 5 or more; 0: no check"),
        AfterValidator(enough),
    ] = 20,
    seed: Annotated[int, Field(ge=0, description="draws the random sets")] = 0,
) -> Result:
    """Patch every cell on its own and measure how far it moves the metric from one run towards the other."""
    encoded = task.encode(model.tokenizer)
    metric, said = metric_for(model, encoded)
    cells = cells_of(model, sites, max(map(len, encoded.ids)))
    sweep = model.sweep(encoded, over=cells, edit="patch", direction=direction, metric=metric)
    gap, counted = _gap(sweep)
    effect = _mean_effect(sweep.values, sweep.base, gap)
    best = np.argsort(-effect, kind="stable")[: max(1, min(top, len(cells) // 3))]
    chosen = [cells[i] for i in best]
    checks = (_check(model, encoded, metric, sweep, gap, chosen, direction, controls, seed),) if controls else ()
    maps = grids(model, encoded.ids, cells, effect, SHARE)
    data = _dataset(encoded, sweep, effect).merge(maps)
    return Result(
        data=data,
        metrics={
            "base": float(sweep.base.mean()),
            "source": float(sweep.source.mean()),
            "largest_effect": float(effect[best[0]]),
            "cell_with_largest_effect": str(chosen[0]),
            "cells": len(cells),
            "cells_computed": sweep.computed,
        },
        views=(*map_views(maps, _title(direction, metric)), *_views()),
        checks=checks,
        notes=(*encoded.notes, *_dropped(encoded), *said, *counted, *_lengths(encoded, cells), *unchecked(controls)),
    )


def _gap(sweep: Sweep) -> tuple[float, tuple[str, ...]]:
    """Mean difference of the metric between source and base."""
    each = (sweep.source - sweep.base).double()
    gap = float(each.mean())
    scale = float((sweep.source.abs() + sweep.base.abs()).double().mean())
    if abs(gap) <= 1e-5 * max(scale, 1e-30):
        raise TaskError(
            f"prompts and contrasts score alike ({float(sweep.base.mean()):.4g} and {float(sweep.source.mean()):.4g});",
            "patching measures how far a value moves the metric from the one to the other, so they must differ.",
            "Give contrasts that change the answer, or answers and wrong answers that tell them apart.",
        )
    other = int((each.sign() != np.sign(gap)).sum())
    said = f"In {other} of {len(each)} prompts the metric differs from its contrast's the other way than on average."
    return gap, (said,) if other else ()


def _mean_effect(values: Tensor, base: Tensor, gap: float) -> NDArray[np.float64]:
    """The share of the mean difference [cell or set]; a prompt that has no such position is not moved."""
    moved = (values - base[:, None]).double().nan_to_num()
    found: NDArray[np.float64] = (moved.mean(dim=0) / gap).cpu().numpy()
    return found


def _lengths(encoded: EncodedTask, cells: list[Site]) -> tuple[str, ...]:
    numbered = any(isinstance(site.position, int) and site.position >= 0 for site in cells)
    if not numbered or len({len(ids) for ids in encoded.ids}) == 1:
        return ()
    return (
        "The prompts differ in length: a numbered position counts as not moved in prompts that do not have it, and "
        "is not the same word in all of them. Named positions (@end, @subject) are.",
    )


def _dropped(encoded: EncodedTask) -> tuple[str, ...]:
    return (encoded.summary,) if encoded.dropped else ()


# --- the result --------------------------------------------------------------------------------------------------


def _dataset(encoded: EncodedTask, sweep: Sweep, effect: NDArray[np.float64]) -> xr.Dataset:
    names = [str(site) for site in sweep.cells]
    data = xr.Dataset(
        {
            "patched_metric": (("prompt", "cell"), sweep.values.float().cpu().numpy()),
            "base_metric": ("prompt", sweep.base.float().cpu().numpy()),
            "source_metric": ("prompt", sweep.source.float().cpu().numpy()),
            "effect": ("cell", effect),
        },
        coords={"prompt": list(encoded.prompts), "cell": names},
    )
    largest = np.argsort(-np.abs(effect), kind="stable")[:SHOWN]
    data["largest_effect"] = ("largest", effect[largest])
    data = data.assign_coords(largest=[names[i] for i in largest])
    return described(data, largest_effect=SHARE, largest="cell")


def _title(direction: str, metric: Metric) -> str:
    name = as_words(metric.name)
    if direction == "denoise":
        return f"Share of the {name} brought back by the prompt's value at"
    return f"Share of the {name} lost to the contrast's value at"


def _views() -> tuple[views.View, ...]:
    return (views.bars(value="largest_effect", label="largest", title="Cells with the largest effects"),)


# --- the check ---------------------------------------------------------------------------------------------------


def _check(
    model: Model,
    encoded: EncodedTask,
    metric: Metric,
    sweep: Sweep,
    gap: float,
    chosen: list[Site],
    direction: str,
    controls: int,
    seed: int,
) -> Check:
    """Patch the chosen cells together, and as many random ones."""
    pool = that_can_differ(model, encoded, sweep.cells)
    same_layers = len({site.position for site in pool if site.kind == chosen[0].kind}) >= ENOUGH

    def sort(site: Site) -> tuple[object, ...]:
        return (site.kind, site.layer) if same_layers else (site.kind,)

    sets = sets_like(chosen, pool, controls, seed, sort)
    base, source = encoded.contrast_ids, encoded.ids
    if direction == "noise":
        base, source = source, base
    wholes = list(dict.fromkeys(site.whole for one in (chosen, *sets) for site in one))
    run = model.run([list(ids) for ids in source], read=wholes, logits="none")
    writes = [[Write(site, source=run[site.whole]) for site in one] for one in (chosen, *sets)]
    found = scores(model, base, writes, metric, named=encoded.positions, what="patching cells together")
    effects = _mean_effect(found.T.to(sweep.base), sweep.base, gap)
    names = f"{in_words(model, encoded.ids, chosen)} ({', '.join(map(str, chosen))})"
    way = "the prompt's values into the contrast" if direction == "denoise" else "the contrast's values into the prompt"
    return compared(
        float(effects[0]),
        effects[1:].tolist(),
        claim=f"The difference between the prompts lives in {names}.",
        how=f"Put {way} at these cells together; the control patches as many random cells"
        f"{' of the same layers' if same_layers else ''}"
        f"{', none before the first token that differs' if len(pool) < len(sweep.cells) else ''}.",
        unit=SHARE,
    )
