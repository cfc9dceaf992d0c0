"""Can many facts be rewritten at once, in several layers?

For each fact a value of the residual stream after the last of a few neighbouring layers is looked for, with which the model
says the new answer. Going up through the layers, what is still missing is shared among those that are left, and each MLP's
last matrix takes its share for all facts at once by least squares, held back by the keys of plain text (λC): a small
change in each of several places does less harm than a large one in one place [@meng2023].

All prompts of the task are written as one batch; `order="sequential"` writes them one after another. λ is counted in
numbers of neurons, because the keys of a plain text have Σ kᵀC⁻¹k = neurons: 1 is close to what the authors chose.
The model is left as it was; the edited weights are an artifact (`cutaway edit`). Checks as in `rome`.
Limits: as `rome`. Where a norm stands between an MLP and the stream, what is added to the MLP's output is not what is added
to the stream, and values are met only roughly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import xarray as xr
from pydantic import Field
from torch import Tensor

from cutaway.core import view as views
from cutaway.core.artifact import Artifact
from cutaway.core.errors import ParameterError
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Result
from cutaway.core.site import Site
from cutaway.core.task import Task
from cutaway.data.edit_requests import EditRequest, requests_of
from cutaway.methods import key_statistics
from cutaway.methods.edit import algebra, layer_choice
from cutaway.methods.edit.options import (
    Bound,
    Contexts,
    Corpus,
    OtherFacts,
    RandomChanges,
    Rate,
    Seed,
    Statistics,
    Stay,
    Subject,
    Tokens,
    Unrelated,
)
from cutaway.methods.edit.report import Asked, report
from cutaway.methods.edit.rows import row_of_request
from cutaway.methods.edit.target_value import Settings, contexts_for, find
from cutaway.methods.labels import described
from cutaway.models.model import Model
from cutaway.models.trial import Projection, down_projection
from cutaway.models.weight_edit import changed

Order = Literal["batch", "sequential"]
LAYERS = 5


@method(
    asks="Can many facts be rewritten at once?",
    cites="meng2023",
    needs=("unembedding", "causal", "answers"),
)
def memit(
    model: Model,
    task: Task,
    *,
    subject: Subject = "",
    layers: Annotated[
        tuple[int, ...],
        Field(description="whose MLPs are changed; empty: five up to where a quick causal trace points"),
    ] = (),
    order: Annotated[Order, Field(description="all facts at once, or one after another")] = "batch",
    weight: Annotated[float, Field(gt=0, description="λ in numbers of neurons: how far plain text holds back")] = 1.0,
    statistics: Statistics = "",
    corpus: Corpus = "",
    tokens: Tokens = None,
    contexts: Contexts = 6,
    steps: Annotated[int, Field(ge=1, description="gradient steps for each value, at most")] = 25,
    rate: Rate = 0.5,
    bound: Bound = 0.75,
    stay: Stay = 0.0625,
    unrelated: Unrelated = 6,
    other_facts: OtherFacts = 16,
    controls: RandomChanges = 6,
    seed: Seed = 0,
) -> Result:
    """Write the task's answers into several MLPs at once."""
    requests, notes = requests_of(task, subject)
    chosen, how = _layers(model, layers, requests, seed)
    projections = [down_projection(model, layer) for layer in chosen]
    moments, said = moments_for(model, chosen, statistics, corpus, tokens, seed)
    settings = Settings(steps=steps, rate=rate, bound=bound, stay=stay, contexts=contexts, seed=seed)
    beginnings = contexts_for(model, contexts, seed)
    batches = [[request] for request in requests] if order == "sequential" else [list(requests)]
    changes: dict[str, Tensor] = {}
    missing: list[list[float]] = []
    for some in batches:
        with changed(model, changes):
            more, gaps = write(model, some, projections, moments, beginnings, settings, weight)
        changes |= more
        missing.append(gaps)
    return report(
        model,
        requests,
        changes,
        asked=Asked(controls, unrelated, other_facts, seed),
        about={"method": "memit", "layers": chosen, "order": order},
        notes=(*notes, *how, *said),
        metrics={"first_layer": chosen[0], "last_layer": chosen[-1], "still_missing": missing[-1][-1]},
        data=_missing(missing, chosen),
        more_views=(
            views.curves(
                value="missing", x="written_layer", series="batch", title="What is missing as layers are written"
            ),
        ),
    )


def moments_for(
    model: Model, layers: Sequence[int], statistics: str, corpus: str, tokens: int | None, seed: int
) -> tuple[dict[int, Tensor], tuple[str, ...]]:
    """C of each layer, and what has to be said about them."""
    if statistics:
        found = Artifact.load(statistics)
    else:
        found = key_statistics.key_statistics(model, layers, *key_statistics.texts_for(corpus, seed), tokens)
    return {layer: key_statistics.moment_of(found, layer) for layer in layers}, key_statistics.said_of(found)


def write(
    model: Model,
    requests: Sequence[EditRequest],
    projections: Sequence[Projection],
    moments: dict[int, Tensor],
    contexts: Sequence[str],
    settings: Settings,
    weight: float,
) -> tuple[dict[str, Tensor], list[float]]:
    """Facts written as one batch into several matrices; the model is left as it was.

    Returns:
        The new weights by name, and how much of the way to the values is missing before each layer and at the end, as a
        share of what was missing at first.
    """
    stream = Site("resid_post", projections[-1].layer)
    found = [find(model, request, stream, contexts, settings) for request in track(requests, "values of the facts")]
    wanted = torch.stack([each.value.double() + each.added.double() for each in found])
    changes: dict[str, Tensor] = {}
    gaps: list[Tensor] = []
    for place, projection in enumerate(projections):
        with changed(model, changes):
            residual = wanted - _bare(model, requests, stream)
            keys = _keys(model, requests, projection.layer, contexts)
        gaps.append(residual.norm(dim=-1))
        share = residual / (len(projections) - place)
        moment = moments[projection.layer].to(keys.device)
        change = algebra.batch(keys, share, moment, weight * keys.shape[-1])
        changes[projection.name] = projection.stored(projection.weight.double() + change)
    with changed(model, changes):
        gaps.append((wanted - _bare(model, requests, stream)).norm(dim=-1))
    first = gaps[0].clamp_min(1e-12)
    return changes, [float((gap / first).mean()) for gap in gaps]


def _layers(
    model: Model, layers: Sequence[int], requests: Sequence[EditRequest], seed: int
) -> tuple[list[int], tuple[str, ...]]:
    """The layers to write, lowest first."""
    if layers:
        chosen = sorted(set(layers))
        n_layers = model.anatomy.n_layers
        if chosen[0] < 0 or chosen[-1] >= n_layers:
            raise ParameterError(
                f"layers is {','.join(map(str, layers))};",
                f"{model.name} has {n_layers} layers, 0 to {n_layers - 1}.",
                "Leave it out, and they are found by a quick trace.",
            )
        return chosen, ()
    last, _, how = layer_choice.chosen(model, None, requests, seed)
    return list(range(max(0, last - LAYERS + 1), last + 1)), how


def _bare(model: Model, requests: Sequence[EditRequest], stream: Site) -> Tensor:
    """The stream at the subject's last token of each bare prompt [fact, d_model]."""
    rows = [row_of_request(model, request) for request in requests]
    places = {"subject": [row.place for row in rows]}
    site = stream.at("subject")
    return model.run([row.asked for row in rows], read=site, positions=places, logits="none")[site].double()


def _keys(model: Model, requests: Sequence[EditRequest], layer: int, contexts: Sequence[str]) -> Tensor:
    """The neurons at the subject's last token, averaged over beginnings [fact, neuron]."""
    rows = [row_of_request(model, request.behind(context)) for request in requests for context in contexts]
    site = Site("mlp_act", layer).at("subject")
    places = {"subject": [row.place for row in rows]}
    keys = model.run([row.asked for row in rows], read=site, positions=places, logits="none")[site].double()
    return keys.reshape(len(requests), len(contexts), -1).mean(dim=1)


def _missing(missing: Sequence[Sequence[float]], layers: Sequence[int]) -> xr.Dataset:
    data = xr.Dataset(
        {"missing": (("batch", "written_layer"), [list(each) for each in missing])},
        coords={"batch": [str(i) for i in range(len(missing))], "written_layer": [*map(str, layers), "after"]},
    )
    return described(data, missing="share of the way to the values that is missing")
