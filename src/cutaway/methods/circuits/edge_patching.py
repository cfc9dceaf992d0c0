"""What does an edge carry? Change named edges, one by one and together, and measure exactly.

An edge s -> t is what t reads of what s wrote. To change it alone, only the stream that t reads is changed, by
(what s writes in the contrast) - (what s writes here); everything after t computes anew [@wang2022; @conmy2023].
The effect is the change of the task's metric. Any set of edges costs one forward pass, and many sets are rows of one.

Edges are named as text, with `*` and slices for many: `z[9].head[6] -> logits, z[*].head[*] -> q[11].head[2]`. An edge can be
changed at one position: `embed -> v[3].head[0]@s1`, a named position of the task, `elsewhere` (all tokens without a name), or a
token's number where all prompts are equally long [@haklay2025]. Without names, the edges with the largest estimates of
`edge_attribution` are taken [@syed2023].

The check changes all of them together, against as many random edges of the same kinds (at the same positions).
Limits: effects of single edges do not add up.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from cutaway.core import view as views
from cutaway.core.circuit import Circuit
from cutaway.core.edge import Edge, EdgeGraph, position_number
from cutaway.core.errors import ParameterError
from cutaway.core.method import method
from cutaway.core.result import Result
from cutaway.core.task import EncodedTask, Task
from cutaway.methods.circuit_report import tested_pair
from cutaway.methods.circuit_runs import HOW, How, other_values
from cutaway.methods.control import enough, interval, unchecked
from cutaway.methods.edge_effects import edges_named, effects, effects_alone, labels_for, together_check
from cutaway.methods.edges_by_position import words_of
from cutaway.methods.labels import described
from cutaway.methods.scoring import UNITS, as_words, metric_for, with_answers
from cutaway.methods.smooth import smooth_metric
from cutaway.models import edge_gradients
from cutaway.models import edges as engines
from cutaway.models.edges import EdgeRuns
from cutaway.models.encode import Encoded
from cutaway.models.metric import Metric, metric_of
from cutaway.models.model import Model

Floats = NDArray[np.float64]
SHOWN, MOST = 20, 20_000


@method(
    asks="What do these edges carry?",
    cites="wang2022, conmy2023, syed2023, haklay2025",
    needs=("unembedding", "attention", "contrast"),
)
def edge_patching(
    model: Model,
    task: Task,
    *,
    edges: Annotated[
        str,
        Field(
            description="'z[9].head[6] -> logits, embed -> q[*].head[*]@end'; empty: those with the largest estimates"
        ),
    ] = "",
    top: Annotated[int, Field(ge=1, description="how many edges are taken by their estimates")] = 10,
    how: Annotated[How, Field(description=HOW)] = "contrast",
    controls: Annotated[
        int,
        Field(ge=0, description="random sets that the check compares with, 5 or more; 0: no check"),
        AfterValidator(enough),
    ] = 20,
    seed: Annotated[int, Field(ge=0, description="draws the random sets and the other prompts")] = 0,
) -> Result:
    """Change each edge alone, and all of them together."""
    encoded = task.encode(model.tokenizer)
    metric, said = metric_for(model, encoded)
    engine = engines.prepare(model, Encoded(tuple(encoded.ids)), other_values(model, encoded, how, seed))
    graph = engine.graph
    chosen = edges_named(graph, edges) if edges.strip() else _estimated(model, encoded, engine, top)
    if len(chosen) > MOST:
        raise ParameterError(
            f"edges names {len(chosen)} edges;", f"at most {MOST} are changed one by one.", "Name fewer of them."
        )
    chosen, at = labels_for(encoded, chosen)
    names = () if at is None else at.names
    alone = effects_alone(engine, chosen, metric, at)
    together = effects(engine, graph.mask(chosen, names)[None], metric, positions=at)[0]
    check = (
        together_check(
            engine,
            chosen,
            metric,
            controls=controls,
            seed=seed,
            claim=f"The answer depends on {_said(chosen)} more than on other edges.",
            unit=UNITS[metric.name],
            positions=at,
        )
        if controls
        else None
    )
    scores = np.full(graph.mask((), names).shape, np.nan)
    for edge, value in zip(chosen, alone.mean(axis=1), strict=True):
        place = graph.number(edge.everywhere)
        scores[place if edge.position is None else (*place, position_number(edge, names))] = value
    found = {"task": task.name, "model": model.name, "method": "edge_patching", "how": how}
    circuit = Circuit.of_edges(graph, graph.mask(chosen, names), scores, found, names)
    headings = () if at is None else words_of(engine, encoded, at)
    arrows = circuit.dataset(headings=headings)
    data = xr.merge([_dataset(encoded, chosen, alone, together, metric), arrows, tested_pair(encoded, at)])
    return Result(
        data=data,
        metrics={
            "metric": float(engine.scores(graph.mask(), metric).mean()),
            "edges": len(chosen),
            "effect_together": float(together.mean()),
            "sum_of_effects": float(alone.mean(axis=1).sum()),
            "edge_with_largest_effect": str(data["largest"].values[0]),
            "largest_effect": float(data["largest_mean_effect"].values[0]),
        },
        views=(*_views(len(encoded), metric), *circuit.to_views("The edges with their effects")),
        checks=(check,) if check is not None else (),
        notes=(*encoded.notes, *said, *graph.notes, *unchecked(controls)),
        artifacts={"circuit": circuit.artifact()},
    )


def _estimated(model: Model, encoded: EncodedTask, engine: EdgeRuns, top: int) -> list[Edge]:
    """The edges with the largest first-order effects."""
    answered, _ = with_answers(model, encoded)
    metric = metric_of(answered, smooth_metric(answered)[0])
    scores = edge_gradients.scores(model, engine.encoded, engine.other, metric, edge_gradients.plain())
    graph: EdgeGraph = engine.graph
    order = np.argsort(-np.where(graph.exists, np.abs(scores), -1.0).reshape(-1), kind="stable")
    return [graph.edge(*map(int, np.unravel_index(i, graph.shape))) for i in order[: min(top, graph.n_edges)]]


def _said(chosen: list[Edge]) -> str:
    shown = ", ".join(map(str, chosen[:4]))
    return shown if len(chosen) <= 4 else f"{shown} and {len(chosen) - 4} more edges"


def _dataset(encoded: EncodedTask, chosen: list[Edge], alone: Floats, together: Floats, metric: Metric) -> xr.Dataset:
    mean = alone.mean(axis=1)
    bands = np.array([interval(row.tolist()) for row in alone])
    largest = np.argsort(-np.abs(mean), kind="stable")[:SHOWN]
    data = xr.Dataset(
        {
            "effect": (("edge", "prompt"), alone),
            "effect_together": ("prompt", together),
            "mean_effect": ("edge", mean),
            "largest_mean_effect": ("largest", mean[largest]),
            "largest_low": ("largest", bands[largest, 0]),
            "largest_high": ("largest", bands[largest, 2]),
        },
        coords={
            "edge": [str(edge) for edge in chosen],
            "prompt": list(encoded.prompts),
            "largest": [str(chosen[i]) for i in largest],
        },
    )
    said = (f"change of the {as_words(metric.name)}", UNITS[metric.name])
    return described(
        data, effect=said, effect_together=said, mean_effect=said, largest_mean_effect=said, largest="edge"
    )


def _views(prompts: int, metric: Metric) -> tuple[views.View, ...]:
    low, high = ("largest_low", "largest_high") if prompts > 1 else (None, None)
    title = f"Change of the {as_words(metric.name)} when an edge is changed alone"
    return (views.bars(value="largest_mean_effect", label="largest", low=low, high=high, title=title),)
