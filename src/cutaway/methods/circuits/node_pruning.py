"""Which heads and MLPs can be left out together?

A circuit of `nodes` parts, and all edges between them. Parts are chosen by attribution (a part's score is the sum of its
edges' scores [@syed2023; @hanna2024]), or by gates on all parts that are learned together, so that parts which back each
other up are weighed as what they are (subnetwork probing [@cao2021], with hard concrete gates [@louizos2018]). Parts on no
way from the embeddings to the logits are dropped and counted.

The check compares the circuit with random circuits of as many edges.
Limits: a node circuit keeps edges that do nothing; gates find one of several circuits that are as good, and another seed
may find another.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from cutaway.core import view as views
from cutaway.core.circuit import Circuit, between
from cutaway.core.edge import EdgeGraph
from cutaway.core.method import method
from cutaway.core.result import Result
from cutaway.core.task import Task
from cutaway.methods.circuit_report import circuit_check, circuit_metrics, tested_pair
from cutaway.methods.circuit_runs import HOW, How, Runs, runs_of
from cutaway.methods.control import enough, unchecked
from cutaway.methods.edge_ranking import node_scores, scores_of
from cutaway.methods.labels import described
from cutaway.methods.node_masks import learn
from cutaway.models.model import Model

Floats = NDArray[np.float64]
SHOWN = 30


@method(
    asks="Which heads and MLPs can be left out together?",
    cites="cao2021, louizos2018, syed2023, hanna2024",
    needs=("unembedding", "attention", "contrast"),
)
def node_pruning(
    model: Model,
    task: Task,
    *,
    nodes: Annotated[int, Field(ge=1, description="heads and MLPs of the circuit, before loose ones are dropped")] = 10,
    by: Annotated[
        Literal["eap", "eap_ig", "gates"], Field(description="attribution (eap, eap_ig), or gates learned together")
    ] = "eap_ig",
    steps: Annotated[int, Field(ge=1, description="points on the way for eap_ig; steps of learning for gates")] = 20,
    penalty: Annotated[float, Field(ge=0, description="for gates: nats that keeping all parts costs")] = 1.0,
    how: Annotated[How, Field(description=HOW)] = "contrast",
    controls: Annotated[
        int,
        Field(ge=0, description="random circuits that the check compares with, 5 or more; 0: no check"),
        AfterValidator(enough),
    ] = 20,
    seed: Annotated[int, Field(ge=0, description="draws the noise of gates, random circuits, other prompts")] = 0,
) -> Result:
    """Keep the parts that matter most, and measure what they do alone."""
    encoded = task.encode(model.tokenizer)
    runs = runs_of(model, encoded, how, seed=seed)
    if by == "gates":
        scores = learn(runs, penalty=penalty, steps=steps, seed=seed).open
    else:
        scores = node_scores(scores_of(runs, by, steps))
    kept = chosen_nodes(runs.graph, scores, nodes)
    found = {"task": task.name, "model": model.name, "method": "node_pruning", "by": by, "how": how}
    whole = Circuit.of_edges(runs.graph, between(runs.graph, kept), found=found)
    circuit, _ = whole.connected()
    loose = int(kept.sum() - (kept & circuit.sources).sum())
    said = (f"{loose} of the chosen parts lie on no way from the embeddings to the logits and were dropped.",)
    return Result(
        data=xr.merge([circuit.dataset(), _dataset(runs, scores, kept & circuit.sources), tested_pair(encoded)]),
        metrics={**circuit_metrics(runs, circuit), "nodes_dropped": loose},
        views=(
            views.bars(value="node_score", label="node", group="in_circuit", title="Scores of parts"),
            *circuit.to_views(f"The circuit of {len(circuit.parts)} parts")[:1],
        ),
        checks=(circuit_check(runs, circuit, controls, seed),) if controls and circuit.n_edges else (),
        notes=(*encoded.notes, *runs.notes, *said[: int(loose > 0)], *unchecked(controls)),
        artifacts={"circuit": circuit.artifact()},
    )


def chosen_nodes(graph: EdgeGraph, scores: Floats, count: int) -> NDArray[np.bool_]:
    """`embed` and the `count` other sources with the largest scores (by size) [source]."""
    free = np.array([source.kind != "embed" for source in graph.sources])
    order = np.argsort(-np.where(free, np.abs(scores), -np.inf), kind="stable")[: min(count, int(free.sum()))]
    kept = ~free
    kept[order] = True
    return np.asarray(kept, dtype=bool)


def _dataset(runs: Runs, scores: Floats, kept: NDArray[np.bool_]) -> xr.Dataset:
    order = np.argsort(-np.abs(scores), kind="stable")[:SHOWN]
    data = xr.Dataset(
        {"node_score": ("node", scores[order])},
        coords={
            "node": [str(runs.graph.sources[i]) for i in order],
            "in_circuit": ("node", ["in the circuit" if kept[i] else "left out" for i in order]),
        },
    )
    return described(data, node_score="score")
