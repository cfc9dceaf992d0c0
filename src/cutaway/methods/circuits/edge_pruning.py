"""Which circuit of a given size do edge scores give?

All edges are scored (by gradients [@syed2023; @hanna2024], or exactly, one run each) and a circuit of `edges` edges is
made of them: `top` takes the largest scores, `greedy` grows the circuit from the logits, always by the largest edge into
a part that is already in it, so that nothing hangs loose. Edges on no way from the embeddings to the logits are dropped
and counted.

With `positions` edges are scored and kept at positions: an edge can be in the circuit at one word and not at another, and
circuits of as many edges keep more [@haklay2025].

The check compares the circuit with random ones of as many edges.
Limits: scores are of single edges, and edges that back each other up score low; the size is chosen, not found.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from cutaway.core.circuit import Circuit, largest
from cutaway.core.edge import Bools
from cutaway.core.edge_paths import greedy_at
from cutaway.core.method import method
from cutaway.core.result import Result
from cutaway.core.task import Task
from cutaway.methods.circuit_report import circuit_check, circuit_metrics, layer_counts, layer_views, tested_pair
from cutaway.methods.circuit_runs import HOW, How, Runs, runs_of
from cutaway.methods.control import enough, unchecked
from cutaway.methods.edge_ranking import RANKING, Choice, Ranking, greedy, scores_of
from cutaway.methods.edges_by_position import At, words_of
from cutaway.models.edge_positions import positions_of
from cutaway.models.model import Model


@method(
    asks="Which circuit of a given size do edge scores give?",
    cites="syed2023, hanna2024, haklay2025",
    needs=("unembedding", "attention", "contrast"),
)
def edge_pruning(
    model: Model,
    task: Task,
    *,
    edges: Annotated[int, Field(ge=1, description="edges of the circuit, before loose ones are dropped")] = 100,
    by: Annotated[Ranking, Field(description=RANKING)] = "eap_ig",
    choice: Annotated[
        Choice, Field(description="top: the largest scores; greedy: grow from the logits by the largest edge")
    ] = "greedy",
    steps: Annotated[int, Field(ge=1, description="points on the way between the inputs, for eap_ig")] = 5,
    how: Annotated[How, Field(description=HOW)] = "contrast",
    positions: Annotated[
        At, Field(description="edges at all positions, at named positions of the task, or at single tokens")
    ] = "all",
    controls: Annotated[
        int,
        Field(ge=0, description="random circuits that the check compares with, 5 or more; 0: no check"),
        AfterValidator(enough),
    ] = 20,
    seed: Annotated[int, Field(ge=0, description="draws the random circuits and the other prompts")] = 0,
) -> Result:
    """Score all edges and keep a circuit of the size that was asked for."""
    encoded = task.encode(model.tokenizer)
    labels = None if positions == "all" else positions_of(encoded, positions)
    runs = runs_of(model, encoded, how, seed=seed, positions=labels)
    scores = scores_of(runs, by, steps)
    wanted = min(edges, int(runs.exists.sum()))
    found = {"task": task.name, "model": model.name, "method": "edge_pruning", "by": by, "choice": choice, "how": how}
    chosen = _chosen(runs, scores, wanted, choice)
    kept = runs.connected(chosen, from_embed=True)
    dropped = int(chosen.sum()) - int(kept.sum())
    circuit = Circuit.of_edges(runs.graph, kept, scores, found, () if labels is None else labels.names)
    headings = () if labels is None else words_of(runs.engine, encoded, labels)
    loose = (f"{dropped} of {wanted} edges lie on no way from the embeddings to the logits and were dropped.",)
    return Result(
        data=xr.merge([circuit.dataset(headings=headings), layer_counts(circuit), tested_pair(encoded, labels)]),
        metrics={**circuit_metrics(runs, circuit), "edges_dropped": dropped},
        views=(*circuit.to_views(f"The circuit of {circuit.n_edges} edges"), *layer_views()),
        checks=(circuit_check(runs, circuit, controls, seed),) if controls and circuit.n_edges else (),
        notes=(*encoded.notes, *runs.notes, *loose[: int(dropped > 0)], *unchecked(controls)),
        artifacts={"circuit": circuit.artifact()},
    )


def _chosen(runs: Runs, scores: NDArray[np.float64], count: int, choice: Choice) -> Bools:
    if choice == "top":
        return largest(runs.graph, np.abs(scores), count)
    if runs.positions is None:
        return greedy(runs.graph, scores, count)
    return greedy_at(runs.graph, scores, count, runs.positions.order)
