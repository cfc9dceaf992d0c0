"""At which positions do edges matter? The largest scores of edges at positions, tested together, as a circuit.

A score that is summed over positions hides where an edge works, and scores of different signs cancel [@haklay2025]. Here
each pair of an edge and a position is ranked on its own; the largest are changed together, against as many random edges of the
same kinds at the same positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cutaway.core import view as views
from cutaway.core.circuit import Circuit, largest
from cutaway.core.edge import EdgeGraph
from cutaway.core.result import Check
from cutaway.core.task import EncodedTask
from cutaway.methods.edge_effects import together_check
from cutaway.methods.labels import described, shared_labels, token_table
from cutaway.methods.scoring import UNITS
from cutaway.models.edge_positions import Positions
from cutaway.models.edges import EdgeRuns
from cutaway.models.metric import Metric

Floats = NDArray[np.float64]
At = Literal["all", "named", "token"]


@dataclass(frozen=True, eq=False)
class ByPosition:
    """What scores by position say.

    Attributes:
        circuit: the edges with the largest scores, at their positions.
        data: all scores, their sizes by layer and position, and the arrows of the circuit.
        metrics: the largest of them, and the share of all sizes that cancels in the sums over positions.
        shown: the pictures.
        checks: of the largest, changed together.
    """

    circuit: Circuit
    data: xr.Dataset
    metrics: Mapping[str, float | str]
    shown: tuple[views.View, ...]
    checks: tuple[Check, ...]


def by_position(
    engine: EdgeRuns,
    encoded: EncodedTask,
    metric: Metric,
    scores: Floats,
    positions: Positions,
    *,
    top: int,
    controls: int,
    seed: int,
    found: Mapping[str, str],
) -> ByPosition:
    """Rank edges at positions by their scores, and test the largest.

    Args:
        engine: on the prompts.
        encoded: the task.
        metric: of logits at the last token.
        scores: of each edge at each position [source, target, label].
        positions: labels of the prompts' tokens.
        top: how many are taken.
        controls: random sets that the check compares with; 0: no check.
        seed: draws them.
        found: what for and how, for the circuit.
    """
    graph, names = engine.graph, positions.names
    circuit = Circuit.of_edges(graph, largest(graph, np.abs(scores), top), scores, found, names)
    chosen = circuit.edge_list()
    checks: tuple[Check, ...] = ()
    if controls:
        claim = (
            f"The answer depends on the {len(chosen)} edges with the largest scores at one position more than on other "
            "edges there."
        )
        checks = (
            together_check(
                engine,
                chosen,
                metric,
                controls=controls,
                seed=seed,
                claim=claim,
                unit=UNITS[metric.name],
                positions=positions,
            ),
        )
    headings = words_of(engine, encoded, positions)
    data = xr.merge([_dataset(graph, scores, names, headings, metric), circuit.dataset(headings=headings)])
    sizes = float(np.abs(scores).sum())
    summed = float(np.abs(scores.sum(axis=2)).sum())
    title = "Sizes of scores by position and layer of the target"
    heat = views.heatmap(value="score_by_layer", x="position_words", y="target_layer", title=title, scale="sequential")
    return ByPosition(
        circuit,
        data,
        {
            "edge_with_largest_score_at_position": str(chosen[0]),
            "largest_score_at_position": float(np.abs(scores).max() * np.sign(scores.flat[np.abs(scores).argmax()])),
            "cancels_over_positions": 1 - summed / sizes if sizes else 0.0,
        },
        (*circuit.to_views(f"The {len(chosen)} edges with the largest scores, at their positions"), heat),
        checks,
    )


def words_of(engine: EdgeRuns, encoded: EncodedTask, positions: Positions) -> list[str]:
    """What stands above each position: its name, or its number with the token that all prompts have there."""
    if positions.names[0].isdigit():
        return shared_labels(token_table(engine.model, encoded.ids), range(len(positions.names)))
    return list(positions.names)


def _dataset(
    graph: EdgeGraph, scores: Floats, names: tuple[str, ...], headings: list[str], metric: Metric
) -> xr.Dataset:
    layers = [*map(str, range(graph.n_layers)), "logits"]
    sizes = np.zeros((len(layers), len(names)))
    np.add.at(sizes, graph.target_layer, np.abs(scores).sum(axis=0))
    data = xr.Dataset(
        {
            "edge_score_at_position": (
                ("source", "target", "position"),
                np.where(graph.exists[:, :, None], scores, np.nan).astype(np.float32),
            ),
            "score_by_layer": (("target_layer", "position"), sizes),
        },
        coords={
            "position": list(names),
            "position_words": ("position", headings),
            "target_layer": layers,
        },
    )
    unit = UNITS[metric.name]
    return described(
        data,
        edge_score_at_position=("estimated change at one position", unit),
        score_by_layer=("sum of the sizes of scores", unit),
        target_layer="layer of the target",
        position_words="position",
    )
