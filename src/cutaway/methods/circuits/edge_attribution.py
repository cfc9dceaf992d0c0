"""Which edges matter? An estimate for every edge of the network from one backward pass.

For each edge s -> t, to first order (attribution patching [@nanda2023] of edges [@syed2023]):

    score = mean over prompts of (what s writes in the contrast - what it writes here) · ∂ metric / ∂ (what t reads)

the change of the metric that is to be expected when this edge alone carries the contrast: positive where it raises the
metric, negative where it lowers it (an edge that the answer needs). `eap` takes the gradient at the prompts (two forward
passes and one backward pass for all edges), `eap_ig` on the way from the prompts' embeddings to the contrasts'
[@hanna2024], `eap_ig_activations` on the way between each layer's own outputs, `clean_corrupt` at both ends.

With `positions` the sum over positions is kept apart: by the task's named positions, or token by token [@haklay2025]. The
same passes then say at which positions an edge matters, and the picture is laid out by layer and position.

Checks: the edges with the largest scores are changed together, against random edges of the same kinds; and a random
sample of edges is changed exactly, one by one, to see whether the scores follow.
Limits: first order is far off where attention is saturated or a norm bends; edges that matter only together have
small scores; an edge into a key or value at a position is for all queries that look there.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from cutaway.core import view as views
from cutaway.core.circuit import Circuit
from cutaway.core.edge import Edge, EdgeGraph
from cutaway.core.method import method
from cutaway.core.result import Check, Result
from cutaway.core.task import EncodedTask, Task
from cutaway.core.tokens import first_difference
from cutaway.methods.circuit_report import tested_pair
from cutaway.methods.circuit_runs import HOW, How, other_values
from cutaway.methods.control import compared, enough, unchecked
from cutaway.methods.correlation import correlation
from cutaway.methods.edge_effects import effects, layer_map, singles, together_check
from cutaway.methods.edges_by_position import At, by_position
from cutaway.methods.labels import described
from cutaway.methods.scoring import UNITS, as_words, with_answers
from cutaway.methods.smooth import smooth_metric
from cutaway.models import edge_gradients, edges
from cutaway.models.edge_gradients import Point
from cutaway.models.edge_positions import positions_of
from cutaway.models.edges import EdgeRuns
from cutaway.models.encode import Encoded
from cutaway.models.metric import Metric, metric_of
from cutaway.models.model import Model

Floats = NDArray[np.float64]
By = Literal["eap", "eap_ig", "eap_ig_activations", "clean_corrupt"]
SHOWN, SHUFFLES = 20, 200


@method(
    asks="Which edges matter, at the price of one backward pass?",
    cites="syed2023, hanna2024, nanda2023, haklay2025",
    needs=("unembedding", "attention", "contrast"),
)
def edge_attribution(
    model: Model,
    task: Task,
    *,
    by: Annotated[
        By, Field(description="where gradients are taken: eap, eap_ig, eap_ig_activations, clean_corrupt")
    ] = "eap",
    steps: Annotated[int, Field(ge=1, le=200, description="points on the way, for eap_ig and eap_ig_activations")] = 5,
    how: Annotated[How, Field(description=HOW)] = "contrast",
    positions: Annotated[
        At, Field(description="scores at all positions together, at each named position of the task, or at each token")
    ] = "all",
    top: Annotated[int, Field(ge=1, description="edges with the largest scores that the check changes together")] = 20,
    sample: Annotated[int, Field(ge=5, description="random edges that are changed exactly, one by one")] = 30,
    controls: Annotated[
        int,
        Field(ge=0, description="random sets that the check compares with, 5 or more; 0: no check"),
        AfterValidator(enough),
    ] = 20,
    seed: Annotated[int, Field(ge=0, description="draws the random edges and the other prompts")] = 0,
) -> Result:
    """Score every edge, and test the largest scores and a sample of all of them."""
    encoded = task.encode(model.tokenizer)
    answered, said = with_answers(model, encoded)
    name, also = smooth_metric(answered)
    metric = metric_of(answered, name)
    engine = edges.prepare(model, Encoded(tuple(encoded.ids)), other_values(model, encoded, how, seed))
    graph = engine.graph
    starts = _starts(model, encoded) if how == "contrast" else None
    labels = None if positions == "all" else positions_of(encoded, positions)
    each = edge_gradients.scores(
        model,
        engine.encoded,
        engine.other,
        metric,
        points_of(engine, by, steps),
        differs_from=starts,
        own_rows=by == "eap_ig_activations",
        positions=labels,
    )
    scores = each if labels is None else each.sum(axis=2)
    largest = _largest(graph, scores, top)
    found = {"task": task.name, "model": model.name, "method": by, "how": how}
    circuit, at = _circuit(graph, largest, scores, found), None
    shown, arrows = circuit.to_views(f"The {len(largest)} edges with the largest scores"), circuit.dataset()
    if labels is not None:
        at = by_position(engine, encoded, metric, each, labels, top=top, controls=controls, seed=seed, found=found)
        circuit, shown, arrows = at.circuit, at.shown, at.data
    tested, exact, checks = _tests(engine, metric, scores, largest, sample, controls, seed)
    return Result(
        data=xr.merge([_dataset(graph, scores, largest, tested, exact, metric), arrows, tested_pair(encoded, labels)]),
        metrics={
            "edges": graph.n_edges,
            "edge_with_largest_score": str(largest[0]),
            "largest_score": float(scores[graph.number(largest[0])]),
            "sum_of_sizes": float(np.abs(scores).sum()),
            **_agreement(graph, scores, tested, exact),
            **({} if at is None else at.metrics),
        },
        views=(*shown, *_views(metric, bool(tested))),
        checks=(*(() if at is None else at.checks), *checks),
        notes=(*encoded.notes, *said, *also, *graph.notes, *unchecked(controls)),
        artifacts={"circuit": circuit.artifact()},
    )


def points_of(engine: EdgeRuns, by: By, steps: int) -> tuple[Point, ...]:
    """Where gradients are taken for each of the ways."""
    match by:
        case "eap":
            return edge_gradients.plain()
        case "eap_ig":
            return edge_gradients.inputs(steps)
        case "eap_ig_activations":
            return edge_gradients.activations(engine.model, steps)
        case "clean_corrupt":
            return edge_gradients.ends()


def _starts(model: Model, encoded: EncodedTask) -> list[int] | None:
    """For each prompt the first position that differs in its contrast: before it nothing does, in a causal model."""
    if not model.anatomy.is_causal:
        return None
    pairs = zip(encoded.ids, encoded.contrast_ids, strict=True)
    firsts = [(first_difference(ids, other), len(ids)) for ids, other in pairs]
    return [length if first is None else first for first, length in firsts]


def _largest(graph: EdgeGraph, scores: Floats, count: int) -> list[Edge]:
    order = np.argsort(-np.where(graph.exists, np.abs(scores), -1.0).reshape(-1), kind="stable")
    chosen = order[: min(count, graph.n_edges)]
    return [graph.edge(*map(int, np.unravel_index(place, graph.shape))) for place in chosen]


def _circuit(graph: EdgeGraph, largest: list[Edge], scores: Floats, found: dict[str, str]) -> Circuit:
    return Circuit.of_edges(graph, graph.mask(largest), np.where(graph.exists, scores, np.nan), found)


# --- tests -------------------------------------------------------------------------------------------------------


def _tests(
    engine: EdgeRuns, metric: Metric, scores: Floats, largest: list[Edge], sample: int, controls: int, seed: int
) -> tuple[list[Edge], Floats, tuple[Check, ...]]:
    """Edges changed one by one (the largest, then a random sample) with their exact effects; and the checks."""
    graph = engine.graph
    if not controls:
        return [], np.zeros(0), ()
    random = np.random.default_rng(seed)
    places = np.argwhere(graph.exists)
    drawn = random.choice(len(places), min(sample, len(places)), replace=False)
    tested = [graph.edge(*map(int, places[i])) for i in drawn]
    # A sample of all edges is mostly edges that do nothing: half as many come from the larger scores.
    ranked = np.argsort(-np.abs(scores[tuple(places.T)]), kind="stable")[: max(10 * sample, 50)]
    more = random.choice(ranked, min(sample, len(ranked)), replace=False)
    tested = list(dict.fromkeys([*tested, *(graph.edge(*map(int, places[i])) for i in more)]))
    exact = effects(engine, singles(graph, tested), metric, "edges one by one").mean(axis=1)
    estimate = np.array([scores[graph.number(edge)] for edge in tested])
    follows = compared(
        correlation(estimate, exact),
        [correlation(random.permutation(estimate), exact) for _ in range(SHUFFLES)],
        claim="The scores follow the exact effects of single edges.",
        how=f"Change {len(tested)} edges exactly (random ones of all, and of the larger scores) and correlate; the control "
        "shuffles the scores.",
        unit="correlation",
    )
    matter = together_check(
        engine,
        largest,
        metric,
        controls=controls,
        seed=seed,
        claim=f"The answer depends on the {len(largest)} edges with the largest scores more than on other edges.",
        unit=UNITS[metric.name],
    )
    return tested, np.asarray(exact), (matter, follows)


def _agreement(graph: EdgeGraph, scores: Floats, tested: list[Edge], exact: Floats) -> dict[str, float]:
    if not tested:
        return {}
    estimate = np.array([scores[graph.number(edge)] for edge in tested])
    return {
        "correlation": correlation(estimate, exact),
        "slope": float((estimate * exact).sum() / max(float((exact**2).sum()), 1e-30)),
    }


# --- the result --------------------------------------------------------------------------------------------------


def _dataset(
    graph: EdgeGraph, scores: Floats, largest: list[Edge], tested: list[Edge], exact: Floats, metric: Metric
) -> xr.Dataset:
    shown = largest[:SHOWN]
    data = xr.Dataset(
        {
            "edge_score": (("source", "target"), np.where(graph.exists, scores, np.nan)),
            "largest_score": ("largest", [scores[graph.number(edge)] for edge in shown]),
        },
        coords={
            "source": [str(site) for site in graph.sources],
            "target": [str(site) for site in graph.targets],
            "largest": [str(edge) for edge in shown],
        },
    ).merge(layer_map(graph, scores))
    said = (f"estimated change of the {as_words(metric.name)}", UNITS[metric.name])
    if tested:
        data["estimated"] = ("tested", [scores[graph.number(edge)] for edge in tested])
        data["exact"] = ("tested", exact)
        data = data.assign_coords(tested_edge=("tested", [str(edge) for edge in tested]))
        data = described(data, estimated=said, exact=(f"change of the {as_words(metric.name)}", said[1]))
    return described(
        data,
        edge_score=said,
        largest_score=said,
        largest="edge",
        score_between_layers=("sum of the sizes of scores", said[1]),
        from_layer="from layer",
        to_layer="to layer",
    )


def _views(metric: Metric, tested: bool) -> tuple[views.View, ...]:
    words = as_words(metric.name)
    title = "Estimated against exact effects of single edges"
    truth = (views.scatter(x="exact", y="estimated", label="tested_edge", title=title),) * tested
    return (
        views.bars(
            value="largest_score", label="largest", title=f"Estimated change of the {words} when an edge is changed"
        ),
        views.heatmap(
            value="score_between_layers",
            x="to_layer",
            y="from_layer",
            title="Sizes of all scores between layers",
            scale="sequential",
        ),
        *truth,
    )
