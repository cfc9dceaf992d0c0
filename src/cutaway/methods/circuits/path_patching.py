"""Which parts act on a later part directly? Path patching.

A sender (a head or an MLP) is given what it writes in the contrast, and only its direct path to the receivers is let
through: all other heads keep what they wrote, MLPs on the way compute anew (or are kept too). The receivers (the logits,
or the queries, keys or values of named heads, or what an MLP reads) get what reaches them so, everything after them
computes anew, and the task's metric is measured [@wang2022; @goldowskydill2023]. Read from the logits back to the
inputs, this is how the circuit for indirect objects was found.

Receivers that are named together are patched together; with `apart` each is measured alone. Positions may be named:
`q[9].head[6]@end`. Every sender is a row of a batch that starts at its layer.
The check patches the senders with the largest effects together, against as many random senders of the same kind.
Limits: effects of single senders do not add up; a head that acts through another head is not seen until that one is a
receiver.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from cutaway.core import view as views
from cutaway.core.edge import as_source
from cutaway.core.errors import PlanError
from cutaway.core.method import method
from cutaway.core.result import Check, Result
from cutaway.core.site import Site, parse_sites
from cutaway.core.task import EncodedTask, Task
from cutaway.methods.cells import grids, in_words, map_views
from cutaway.methods.control import compared, enough, interval, sets_like, unchecked
from cutaway.methods.labels import described
from cutaway.methods.scoring import UNITS, as_words, metric_for
from cutaway.models.encode import Encoded
from cutaway.models.metric import Metric
from cutaway.models.model import Model
from cutaway.models.paths import LOGITS, SENDERS, Paths

Floats = NDArray[np.float64]
SHOWN = 12


@method(
    asks="Which parts act on a later part directly?",
    cites="wang2022, goldowskydill2023",
    needs=("unembedding", "attention", "contrast"),
)
def path_patching(
    model: Model,
    task: Task,
    *,
    senders: Annotated[
        str, Field(description="parts that send: z[*].head[*] (heads), mlp_out[*] (MLPs), z[*].head[*]@subject")
    ] = "z[*].head[*], mlp_out[*]",
    receivers: Annotated[
        str, Field(description="parts that receive: logits, or for example q[9].head[6]@end, q[9].head[9]@end")
    ] = "logits",
    apart: Annotated[bool, Field(description="measure each receiver alone, instead of all together")] = False,
    freeze_mlps: Annotated[bool, Field(description="keep MLPs too: only the direct edge counts")] = False,
    top: Annotated[int, Field(ge=1, description="senders that the check patches together")] = 5,
    controls: Annotated[
        int,
        Field(ge=0, description="random sets that the check compares with, 5 or more; 0: no check"),
        AfterValidator(enough),
    ] = 20,
    seed: Annotated[int, Field(ge=0, description="draws the random sets")] = 0,
) -> Result:
    """Patch every path from a sender to the receivers."""
    encoded = task.encode(model.tokenizer)
    metric, said = metric_for(model, encoded)
    ends = _receivers(model, receivers, apart)
    parts = _senders(model, senders, ends)
    paths = Paths(
        model, Encoded(tuple(encoded.ids), dict(encoded.positions)), encoded.contrast_ids, freeze_mlps=freeze_mlps
    )
    base = metric(model.run(encoded, logits="last").last_logits).double().cpu().numpy()
    found = paths.scores([[site] for site in parts], ends, metric).numpy() - base  # [sender, receiver, prompt]
    checks = _checks(model, encoded, paths, parts, ends, found, base, metric, top, controls, seed) if controls else ()
    names = [" and ".join(map(str, one)) for one in ends]
    mean = found.mean(axis=2)
    data = _dataset(encoded, parts, names, found, base, metric)
    maps = grids(model, encoded.ids, parts, mean[:, 0], _changed(metric)) if len(ends) == 1 else xr.Dataset()
    return Result(
        data=data.merge(maps),
        metrics={
            "metric": float(base.mean()),
            "senders": len(parts),
            "sender_with_largest_effect": str(data["largest"].values[0]),
            "largest_effect": float(data["largest_mean_effect"].values[0]),
            "largest_relative_effect": float(data["largest_mean_effect"].values[0] / base.mean())
            if base.mean()
            else 0.0,
        },
        views=(*_views(len(encoded), len(ends), metric), *map_views(maps, f"Change of the {_words(metric)} through")),
        checks=checks,
        notes=(*encoded.notes, *said, *unchecked(controls)),
    )


def _receivers(model: Model, text: str, apart: bool) -> list[list[Site]]:
    """Sets of receivers."""
    sites = list(dict.fromkeys(one for site in parse_sites(text) for one in model.anatomy.expand(site)))
    for site in sites:
        if site != LOGITS:
            model.anatomy.place(site)
    return [[site] for site in sites] if apart else [sites]


def _senders(model: Model, text: str, receivers: Sequence[Sequence[Site]]) -> list[Site]:
    """Single senders that come before a receiver."""
    sites = dict.fromkeys(one for site in parse_sites(text) for one in model.anatomy.expand(as_source(site)))
    for site in sites:
        if site.kind not in SENDERS:
            raise PlanError(
                f"'{site}' cannot send;", "senders are heads and MLPs.", "Write for example z[*].head[*] or mlp_out[*]."
            )
    latest = max(_when(site, model.anatomy.n_layers) for one in receivers for site in one)
    found = [site for site in sites if _when(site, model.anatomy.n_layers) < latest]
    if not found:
        raise PlanError(
            f"No sender of '{text}' comes before the receivers.", "Paths lead to later parts.", "Name later receivers."
        )
    return found


def _when(site: Site, layers: int) -> float:
    """The order of computation: what attention reads, what heads write, what an MLP reads, what it writes."""
    layer = site.layer if isinstance(site.layer, int) else layers
    return layer + {"z": 0.25, "mlp_in": 0.5, "mlp_contrib": 0.75}.get(site.kind, 0.0)


def _words(metric: Metric) -> str:
    return as_words(metric.name)


def _changed(metric: Metric) -> tuple[str, str]:
    return f"change of the {_words(metric)}", UNITS[metric.name]


def _checks(
    model: Model,
    encoded: EncodedTask,
    paths: Paths,
    parts: list[Site],
    ends: list[list[Site]],
    found: Floats,
    base: Floats,
    metric: Metric,
    top: int,
    controls: int,
    seed: int,
) -> tuple[Check, ...]:
    """The senders with the largest effects on the first receivers together, against random ones."""
    order = np.argsort(-np.abs(found[:, 0].mean(axis=1)), kind="stable")[: max(1, min(top, len(parts) // 3))]
    chosen = [parts[i] for i in order]
    drawn = sets_like(chosen, parts, controls, seed, sort=lambda site: site.kind)
    scores = paths.scores([chosen, *drawn], ends[:1], metric, what="random senders").numpy()[:, 0] - base
    sizes = np.abs(scores.mean(axis=1))
    names = in_words(model, encoded.ids, chosen)
    check = compared(
        float(sizes[0]),
        sizes[1:].tolist(),
        claim=f"{names[:1].upper()}{names[1:]} act on {' and '.join(map(str, ends[0]))} more than other senders.",
        how=f"Patch their paths together and measure how far the {_words(metric)} moves; the control patches as many "
        "random senders of the same kind.",
        unit=UNITS[metric.name],
    )
    return (check,)


def _dataset(
    encoded: EncodedTask, parts: list[Site], names: list[str], found: Floats, base: Floats, metric: Metric
) -> xr.Dataset:
    mean = found.mean(axis=2)
    order = np.argsort(-np.abs(mean).max(axis=1), kind="stable")[:SHOWN]
    bands = np.array([interval(row.tolist()) for row in found[:, 0]])
    data = xr.Dataset(
        {
            "effect": (("sender", "receiver", "prompt"), found),
            "mean_effect": (("sender", "receiver"), mean),
            "metric": ("prompt", base),
            "largest_mean_effect": ("largest", mean[order, 0]),
            "largest_low": ("largest", bands[order, 0]),
            "largest_high": ("largest", bands[order, 2]),
        },
        coords={
            "sender": [str(site) for site in parts],
            "receiver": names,
            "prompt": list(encoded.prompts),
            "largest": [str(parts[i]) for i in order],
        },
    )
    said = _changed(metric)
    return described(data, effect=said, mean_effect=said, largest_mean_effect=said, largest="sender")


def _views(prompts: int, receivers: int, metric: Metric) -> tuple[views.View, ...]:
    low, high = ("largest_low", "largest_high") if prompts > 1 else (None, None)
    title = f"Change of the {_words(metric)} through each sender's path"
    bars = views.bars(value="largest_mean_effect", label="largest", low=low, high=high, title=title)
    if receivers == 1:
        return (bars,)
    return (views.heatmap(value="mean_effect", x="receiver", y="sender", title=title, scale="diverging"), bars)
