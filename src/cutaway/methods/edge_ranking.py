"""In what order do edges matter? Scores of all edges by gradients or one by one, and circuits of a size made from them.

eap           gradients at the base run [@syed2023]
eap_ig        gradients on the way between the two inputs [@hanna2024]
clean_corrupt gradients at both ends
exact         each edge changed alone: the truth about single edges, a run each
"""

from __future__ import annotations

import heapq
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cutaway.core.edge import Bools, EdgeGraph
from cutaway.core.errors import ParameterError
from cutaway.core.progress import track
from cutaway.methods.circuit_runs import Runs
from cutaway.methods.scoring import with_answers
from cutaway.methods.smooth import smooth_metric
from cutaway.models import edge_gradients
from cutaway.models.metric import metric_of

Floats = NDArray[np.float64]
Ranking = Literal["eap", "eap_ig", "clean_corrupt", "exact"]
Choice = Literal["top", "greedy"]
RANKING = (
    "how edges are scored: eap, eap_ig (gradients on the way between the inputs), clean_corrupt, or exact (a run each)"
)
AT_ONCE = 64


def scores_of(runs: Runs, by: Ranking, steps: int = 5) -> Floats:
    """The (estimated) change of the metric when each edge alone is changed [source, target]; NaN where there is none.

    Where the runs have positions, when it is changed at each of them [source, target, position].

    Args:
        runs: of the task.
        by: one of `Ranking`.
        steps: points on the way, for `eap_ig`.

    Raises:
        ParameterError: exact scores of edges at positions are wanted.
    """
    if by == "exact" and runs.positions is not None:
        raise ParameterError(
            "by is 'exact', and edges are scored at positions;",
            "that would take a run for each edge at each position.",
            "Take by='eap_ig', or edge_patching for edges that you name.",
        )
    found = _exact(runs) if by == "exact" else _by_gradients(runs, by, steps)
    return np.where(runs.exists, found, np.nan)


def _by_gradients(runs: Runs, by: Ranking, steps: int) -> Floats:
    answered, _ = with_answers(runs.model, runs.encoded)  # a divergence is flat at the model itself
    metric = metric_of(answered, smooth_metric(answered)[0] if runs.metric.name != "kl" else "log_probability")
    points = {
        "eap": edge_gradients.plain(),
        "eap_ig": edge_gradients.inputs(steps),
        "clean_corrupt": edge_gradients.ends(),
    }[by]
    return edge_gradients.scores(
        runs.model, runs.engine.encoded, runs.engine.other, metric, points, positions=runs.positions
    )


def _exact(runs: Runs) -> Floats:
    places = np.argwhere(runs.graph.exists)
    # Late targets first: runs of one batch then begin at the same layer.
    places = places[np.argsort(-places[:, 1], kind="stable")]
    found = np.zeros(runs.graph.shape)
    for start in track(range(0, len(places), AT_ONCE), "edges one by one", total=-(-len(places) // AT_ONCE)):
        some = places[start : start + AT_ONCE]
        sets = np.zeros((len(some), *runs.graph.shape), dtype=bool)
        sets[np.arange(len(some)), some[:, 0], some[:, 1]] = True
        found[some[:, 0], some[:, 1]] = (runs.without(sets) - runs.whole[None]).mean(axis=1)
    return found


def node_scores(scores: Floats) -> Floats:
    """Scores of nodes [source]: an edge's estimate is linear, so a node's is the sum over the edges out of it."""
    return np.asarray(np.nansum(scores, axis=1))


def greedy(graph: EdgeGraph, scores: Floats, count: int) -> Bools:
    """Grow a circuit from the logits: always the edge with the largest score (by size) into a part that is in it.

    Args:
        graph: the network's edges.
        scores: of each edge [source, target].
        count: edges of the circuit.
    """
    kept = np.zeros(graph.shape, dtype=bool)
    size = np.abs(np.nan_to_num(scores))
    heap: list[tuple[float, int, int]] = []
    inside: set[int] = set()

    def open_up(targets: list[int]) -> None:
        for target in targets:
            for source in np.flatnonzero(graph.exists[:, target]).tolist():
                heapq.heappush(heap, (-float(size[source, target]), source, target))

    open_up([number for number, target in enumerate(graph.targets) if target.kind == "logits"])
    opened: set[int] = set()
    while heap and int(kept.sum()) < count:
        _, source, target = heapq.heappop(heap)
        kept[source, target] = True
        if source not in inside:
            inside.add(source)
            new = [t for t in np.flatnonzero(graph.feeds[:, source]).tolist() if t not in opened]
            opened.update(new)
            open_up(new)
    return kept
