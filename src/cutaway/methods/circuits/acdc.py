"""Which edges can be taken away without moving the answer? Automatic circuit discovery (ACDC).

Edges are tried one after another, from the logits back to the embeddings: each is made to carry what it carries in the
contrast (or zero, a mean, another prompt's value), and is left so where the model moves by less than `threshold` more than
it had already. What cannot be taken away is the circuit [@conmy2023].

The loop asks for a run per edge. Here edges into parts that already reach nothing are pruned without one, the others are
tried as rows of a batch that assumes that all are pruned and starts again where one is not, and each run begins at the
first layer that it changes: the same edges are kept, as a test shows.

The check compares the circuit with random ones of as many edges and asks how much of the metric each keeps.
Limits: the order matters, and of two parts that do the same one may go; parts that lower the answer are kept only if
`measure` sees them; an edge carries all positions. A low distance is not faithfulness: see `circuit_evaluation`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

import numpy as np
import xarray as xr
from pydantic import AfterValidator, Field

from cutaway.core.circuit import Circuit
from cutaway.core.method import method
from cutaway.core.result import Result
from cutaway.core.task import Task
from cutaway.methods.circuit_report import circuit_check, circuit_metrics, layer_counts, layer_views, tested_pair
from cutaway.methods.circuit_runs import HOW, How, Measure, runs_of
from cutaway.methods.control import enough, unchecked
from cutaway.methods.edge_pruning_order import pruned
from cutaway.models.model import Model


@method(
    asks="Which edges can be taken away without moving the answer?",
    cites="conmy2023",
    needs=("unembedding", "attention", "contrast"),
)
def acdc(
    model: Model,
    task: Task,
    *,
    threshold: Annotated[
        float, Field(gt=0, description="an edge whose removal moves the model by less than this is pruned")
    ] = 0.01,
    measure: Annotated[
        Measure,
        Field(description="how far the model has moved: kl of the prediction, or the change of the task's metric"),
    ] = "kl",
    how: Annotated[How, Field(description=HOW)] = "contrast",
    connected: Annotated[
        Literal["yes", "no"], Field(description="drop kept edges that lie on no way from the embeddings to the logits")
    ] = "yes",
    controls: Annotated[
        int,
        Field(ge=0, description="random circuits that the check compares with, 5 or more; 0: no check"),
        AfterValidator(enough),
    ] = 20,
    seed: Annotated[int, Field(ge=0, description="draws the random circuits and the other prompts")] = 0,
) -> Result:
    """Prune edges one after another, and return the circuit that is left."""
    encoded = task.encode(model.tokenizer)
    runs = runs_of(model, encoded, how, seed=seed)
    left = pruned(runs.graph, partial(runs.distances, measure=measure), threshold)
    found = {"task": task.name, "model": model.name, "method": "acdc", "threshold": threshold, "how": how}
    circuit = Circuit.of_edges(runs.graph, left.kept, np.where(runs.graph.exists, left.moved, np.nan), found)
    dropped = 0
    if connected == "yes":
        circuit, dropped = circuit.connected()
    data = xr.merge([circuit.dataset(), layer_counts(circuit), tested_pair(encoded)])
    figures = circuit_metrics(runs, circuit)
    check = circuit_check(runs, circuit, controls, seed) if controls and circuit.n_edges > 0 else None
    return Result(
        data=data,
        metrics={
            **figures,
            "distance": left.distance,
            "edges_tried": left.tried,
            "rows_run": left.rows,
            "edges_dropped": dropped,
        },
        views=(*circuit.to_views(f"What is left at a threshold of {threshold:g}"), *layer_views()),
        checks=(check,) if check is not None else (),
        notes=(*encoded.notes, *runs.notes, *_said(circuit, dropped), *unchecked(controls)),
        artifacts={"circuit": replace(circuit).artifact()},
    )


def _said(circuit: Circuit, dropped: int) -> tuple[str, ...]:
    said = []
    if dropped:
        said.append(f"{dropped} kept edges lie on no way from the embeddings to the logits and were dropped.")
    if not circuit.n_edges:
        said.append("No edge is left: the threshold is larger than all that the edges do.")
    return tuple(said)
