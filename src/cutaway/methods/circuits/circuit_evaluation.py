"""Is this circuit the whole story, and nothing but it? All measures of circuits in one place.

A circuit (a file that another method kept, or the best edges by their scores) is run with everything else changed, and
measured: faithfulness, how much of the metric it keeps; completeness, whether it breaks as the model breaks when the same
parts are taken out; minimality, whether each part matters, alone or after others that may stand in for it [@wang2022];
the divergence of its prediction. Then the same for circuits of growing size, with the areas CPR and CMD [@mueller2025],
and, where the true circuit is known, how well the scores find it [@conmy2023].

A circuit of edges at positions [@haklay2025] is measured on a task that has the same positions.

The check compares the circuit with random ones of as many edges.
Limits: faithfulness depends on what other edges carry (`how`) and on what is averaged; a mean can hide prompts on which a
circuit does better than the model and others on which it fails, so the spread over prompts stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from cutaway.core import view as views
from cutaway.core.artifact import Artifact
from cutaway.core.circuit import Circuit
from cutaway.core.method import method
from cutaway.core.result import Result
from cutaway.core.task import Task
from cutaway.methods.circuit_measures import (
    Agreement,
    Completeness,
    Curve,
    agreement,
    agreement_with_model,
    completeness,
    curve,
    random_parts,
)
from cutaway.methods.circuit_report import circuit_check, circuit_metrics, tested_pair
from cutaway.methods.circuit_runs import HOW, How, Runs, runs_of
from cutaway.methods.control import enough, interval, unchecked
from cutaway.methods.edge_ranking import RANKING, Ranking, greedy, scores_of
from cutaway.methods.edges_by_position import words_of
from cutaway.methods.labels import described
from cutaway.methods.minimality import NOTHING, Minimality, greedy_minimality, minimality
from cutaway.methods.scoring import UNITS, as_words
from cutaway.models.edge_positions import positions_like
from cutaway.models.model import Model


@method(
    asks="Is this circuit the whole story, and nothing but it?",
    cites="wang2022, mueller2025, conmy2023, haklay2025",
    needs=("unembedding", "attention", "contrast"),
)
def circuit_evaluation(
    model: Model,
    task: Task,
    *,
    circuit: Annotated[str, Field(description="file of a circuit; empty: the best edges by their scores")] = "",
    share: Annotated[float, Field(gt=0, le=1, description="size of the circuit without a file, of all edges")] = 0.02,
    known: Annotated[str, Field(description="file of the true circuit, where it is known")] = "",
    by: Annotated[Ranking, Field(description=RANKING)] = "eap_ig",
    steps: Annotated[int, Field(ge=1, description="points on the way between the inputs, for eap_ig")] = 5,
    how: Annotated[How, Field(description=HOW)] = "contrast",
    sets: Annotated[int, Field(ge=0, description="random sets of parts that are taken out of circuit and model")] = 10,
    before: Annotated[
        str,
        Field(
            description="sets of parts or edges taken out before each part is, for minimality: "
            "'z[9].head[6], z[9].head[9]; z[8].head[1] -> logits'; greedy: grown for each part; empty: none"
        ),
    ] = "",
    largest_set: Annotated[int, Field(ge=1, description="parts of a set that is grown, at most")] = 2,
    controls: Annotated[
        int,
        Field(ge=0, description="random circuits that the check compares with, 5 or more; 0: no check"),
        AfterValidator(enough),
    ] = 20,
    seed: Annotated[int, Field(ge=0, description="draws the sets, the random circuits and the other prompts")] = 0,
) -> Result:
    """Measure a circuit: faithfulness, completeness, minimality, the curve over sizes, and agreement with a known one."""
    encoded = task.encode(model.tokenizer)
    file = Artifact.load(circuit) if circuit else None
    at = file.about.get("positions") if file is not None else None
    labels = positions_like(encoded, at) if at else None
    runs = runs_of(model, encoded, how, seed=seed, positions=labels)
    tested = Circuit.from_artifact(runs.graph, file) if file is not None else None
    scores = tested.scores if tested is not None and np.isfinite(tested.scores).any() else scores_of(runs, by, steps)
    if tested is None:
        tested = _best(runs, scores, share, {"task": task.name, "model": model.name, "by": by, "how": how})
    taken = completeness(runs, tested, random_parts(tested, sets, seed))
    sizes = curve(runs, scores)
    each = _minimality(runs, tested, before, largest_set)
    figures = {**circuit_metrics(runs, tested), **_figures(runs, tested, taken, sizes, each)}
    if known:
        found = _agreement(runs, tested, scores, known)
        figures |= {"auroc_edges": found.edges, "auroc_nodes": found.nodes}
    headings = () if labels is None else words_of(runs.engine, encoded, labels)
    data = _dataset(runs, tested, taken, sizes, each)
    return Result(
        data=xr.merge([data, tested.dataset(headings=headings), tested_pair(encoded, labels)]),
        metrics={name: value for name, value in figures.items() if not (isinstance(value, float) and np.isnan(value))},
        views=(*_views(data, runs), *tested.to_views()[:1]),
        checks=(circuit_check(runs, tested, controls, seed),) if controls and tested.n_edges else (),
        notes=(*encoded.notes, *runs.notes, *_said(figures), *unchecked(controls)),
        artifacts={"circuit": tested.artifact()},
    )


def _agreement(runs: Runs, tested: Circuit, scores: NDArray[np.float64], file: str) -> Agreement:
    known = Circuit.from_artifact(runs.graph, Artifact.load(file))
    for circuit in (tested, known):
        circuit.require_all_positions("agreement with a known circuit")
    return agreement(runs.graph, scores, known.edges)


def _best(runs: Runs, scores: NDArray[np.float64], share: float, found: dict[str, str]) -> Circuit:
    """The circuit of the best edges: of a share of all edges, or more where these do not reach the embeddings."""
    wanted = max(1, round(share * runs.graph.n_edges))
    while True:
        circuit, _ = Circuit.of_edges(runs.graph, greedy(runs.graph, scores, wanted), scores, found).connected()
        if circuit.n_edges or wanted >= runs.graph.n_edges:
            return circuit
        wanted *= 2


def _minimality(runs: Runs, circuit: Circuit, before: str, largest: int) -> Minimality:
    if before.strip() == "greedy":
        return greedy_minimality(runs, circuit, largest)
    return minimality(runs, circuit, [text.strip() for text in before.split(";") if text.strip()])


def _figures(runs: Runs, circuit: Circuit, taken: Completeness, sizes: Curve, each: Minimality) -> dict[str, float]:
    return {
        "largest_incompleteness": float(taken.gaps.max()),
        "mean_incompleteness": float(taken.gaps.mean()),
        "least_change_of_a_part": float(each.changes.min()) if each.parts else float("nan"),
        "predictions_kept": float(agreement_with_model(runs, circuit.edges[None])[0]),
        "cpr": sizes.cpr,
        "cmd": sizes.cmd,
    }


def _said(figures: dict[str, float | int]) -> tuple[str, ...]:
    if np.isnan(figures["faithfulness"]):
        return (
            "The model and the run with all edges changed score alike: there is nothing that a circuit could keep.",
        )
    return ()


def _dataset(runs: Runs, circuit: Circuit, taken: Completeness, sizes: Curve, each: Minimality) -> xr.Dataset:
    graph = runs.graph
    alone = runs.of([circuit])[0]
    unit = UNITS[runs.metric.name]
    data = xr.Dataset(
        {
            "metric_of_model": ("prompt", runs.whole),
            "metric_of_circuit": ("prompt", alone),
            "circuit_without_set": ("set", taken.of_circuit),
            "model_without_set": ("set", taken.of_model),
            "change_without_part": ("part", each.changes),
            "set_before_part": ("part", np.array(each.before, dtype=object)),
            "faithfulness_of_size": ("size", sizes.faithfulness),
            "divergence_of_size": ("size", sizes.divergence),
            "predictions_of_size": ("size", sizes.accuracy),
            "edges_of_size": ("size", np.array(sizes.sizes)),
        },
        coords={
            "prompt": list(runs.encoded.prompts),
            "part": [str(graph.sources[i]) for i in each.parts],
            "share_of_edges": ("size", 100 * sizes.shares),
            "set": [_named(graph.sources, nodes) for nodes in taken.sets],
        },
    )
    words = as_words(runs.metric.name)
    return described(
        data,
        metric_of_model=(f"{words} of the model", unit),
        metric_of_circuit=(f"{words} of the circuit", unit),
        circuit_without_set=(f"{words} of the circuit without the set", unit),
        model_without_set=(f"{words} of the model without the set", unit),
        change_without_part=("change without the part", unit),
        set_before_part="taken out before",
        faithfulness_of_size="faithfulness",
        divergence_of_size=("divergence from the model", "nats"),
        predictions_of_size="share of the model's predictions kept",
        share_of_edges=("share of edges", "%"),
    )


def _named(sources: Sequence[object], nodes: Sequence[int]) -> str:
    return ", ".join(str(sources[i]) for i in nodes) or "nothing"


def _views(data: xr.Dataset, runs: Runs) -> tuple[views.View, ...]:
    shown: list[views.View] = []
    if np.isfinite(data["faithfulness_of_size"]).all():
        shown.append(views.curves(value="faithfulness_of_size", x="share_of_edges", title="Faithfulness by size"))
    shown.append(views.curves(value="divergence_of_size", x="share_of_edges", title="Divergence by size"))
    shown.append(
        views.scatter(
            x="model_without_set",
            y="circuit_without_set",
            label="set",
            title="Completeness: the circuit and the model without the same parts",
            note="Points on the diagonal: the circuit breaks as the model does.",
        )
    )
    if data.sizes["part"]:
        title = "Minimality: how much each part of the circuit matters to it"
        shown.append(views.bars(value="change_without_part", label="part", title=title))
        if set(data["set_before_part"].values.tolist()) != {NOTHING}:
            columns = ["part", "change_without_part", "set_before_part"]
            shown.append(views.table(columns=columns, title="The sets after which each part matters most"))
    low, middle, high = interval((data["metric_of_circuit"] - data["metric_of_model"]).values.tolist())
    note = f"Circuit minus model over prompts: {middle:.3g} in the middle, 95 % within {low:.3g} and {high:.3g}."
    shown.append(
        views.scatter(x="metric_of_model", y="metric_of_circuit", label="prompt", title="Prompt by prompt", note=note)
    )
    return tuple(shown)
