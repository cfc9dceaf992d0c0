"""Can one fact be rewritten by one change of rank one in one MLP?

The last matrix of an MLP is read as a memory: the neurons at the subject's last token are a key, what the MLP gives is
the value. A value is looked for with which the model says the new answer, and the matrix is changed by the one matrix of
rank one that maps the key to it and moves other keys, as plain text has them, as little as it can [@meng2022]. The key is
an average behind several beginnings of a text, on both sides of the formula: the first release mixed it with the key of
the bare prompt, which now and then ruins the model at once [@gupta2024]; `key="mixed"` is that release.

Prompts of the task are edited one after another, each on top of those before; their answers are the new ones, and wrong
answers, where there are some, the true ones. The model is left as it was: the edited weights are an artifact, which
`cutaway edit` applies and undoes bit for bit. The checks compare with random changes of the same size.
Limits: a fact is written in one direction (not its inverse), for wordings that make the subject end on the same key; many
edits in a row damage the model, which the side effects show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import xarray as xr
from pydantic import Field
from torch import Tensor

from cutaway.core import view as views
from cutaway.core.artifact import Artifact
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
    Layer,
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

Key = Literal["averaged", "mixed"]


@dataclass(frozen=True, eq=False)
class Written:
    """A fact in one matrix.

    Attributes:
        weights: the matrix with the fact, as the module keeps it.
        key, value: what was mapped to what.
        loss: of the search for the value, by step.
        match: how much of the edited key is in the key of the bare prompt; 1 where they are the same.
    """

    weights: Tensor
    key: Tensor
    value: Tensor
    loss: tuple[float, ...]
    match: float


@method(
    asks="Can one fact be rewritten by one change of rank one?",
    cites="meng2022, gupta2024",
    needs=("unembedding", "causal", "answers"),
)
def rome(
    model: Model,
    task: Task,
    *,
    subject: Subject = "",
    layer: Layer = None,
    key: Annotated[
        Key, Field(description="averaged over beginnings on both sides, or mixed as in the first release")
    ] = "averaged",
    covariance: Annotated[bool, Field(description="spare the keys of plain text (C); false: C is the identity")] = True,
    statistics: Statistics = "",
    corpus: Corpus = "",
    tokens: Tokens = None,
    contexts: Contexts = 6,
    steps: Annotated[int, Field(ge=1, description="gradient steps for the value, at most")] = 25,
    rate: Rate = 0.5,
    bound: Bound = 4.0,
    stay: Stay = 0.0625,
    unrelated: Unrelated = 6,
    other_facts: OtherFacts = 16,
    controls: RandomChanges = 6,
    seed: Seed = 0,
) -> Result:
    """Write the task's answers into one MLP, one fact after another."""
    requests, notes = requests_of(task, subject)
    chosen, traced, how = layer_choice.chosen(model, layer, requests, seed)
    projection = down_projection(model, chosen)
    moment, said = moment_for(model, chosen, statistics, corpus, tokens, seed, covariance=covariance)
    settings = Settings(steps=steps, rate=rate, bound=bound, stay=stay, contexts=contexts, seed=seed)
    beginnings = contexts_for(model, contexts, seed)
    written = write(model, requests, projection, moment, beginnings, settings, key)
    return report(
        model,
        requests,
        {projection.name: written[-1].weights},
        asked=Asked(controls, unrelated, other_facts, seed),
        about={"method": "rome", "layers": [chosen], "key": key},
        notes=(*notes, *how, *said),
        metrics={"layer": chosen, "key_match": min(each.match for each in written)},
        data=_steps(written, traced),
        more_views=_more_views(traced),
    )


def moment_for(
    model: Model, layer: int, statistics: str, corpus: str, tokens: int | None, seed: int, *, covariance: bool
) -> tuple[Tensor, tuple[str, ...]]:
    """C of a layer, and what has to be said about it."""
    if not covariance:
        return torch.eye(down_projection(model, layer).weight.shape[-1], dtype=torch.float64), ()
    if statistics:
        found = Artifact.load(statistics)
    else:
        found = key_statistics.key_statistics(model, [layer], *key_statistics.texts_for(corpus, seed), tokens)
    return key_statistics.moment_of(found, layer), key_statistics.said_of(found)


def write(
    model: Model,
    requests: Sequence[EditRequest],
    projection: Projection,
    moment: Tensor,
    contexts: Sequence[str],
    settings: Settings,
    key: Key = "averaged",
) -> list[Written]:
    """Facts written one after another into one matrix; the model is left as it was."""
    found: list[Written] = []
    for request in track(requests, "writing facts"):
        so_far = {projection.name: found[-1].weights} if found else {}
        with changed(model, so_far):
            found.append(_one(model, request, projection, moment, contexts, settings, key))
    return found


def keys_of(model: Model, request: EditRequest, layer: int, contexts: Sequence[str]) -> Tensor:
    """The neurons at the subject's last token, behind each beginning [context, neuron]."""
    rows = [row_of_request(model, request.behind(context)) for context in contexts]
    site = Site("mlp_act", layer).at("subject")
    places = {"subject": [row.place for row in rows]}
    return model.run([row.asked for row in rows], read=site, positions=places, logits="none")[site].double()


def _one(
    model: Model,
    request: EditRequest,
    projection: Projection,
    moment: Tensor,
    contexts: Sequence[str],
    settings: Settings,
    key: Key,
) -> Written:
    keys = keys_of(model, request, projection.layer, contexts)
    mean, own = keys.mean(dim=0), keys[0]
    found = find(model, request, Site("mlp_out", projection.layer), contexts, settings)
    value = (found.value + found.added).double()
    moment = moment.to(mean.device).double()
    answered = own if key == "mixed" else mean
    change = algebra.rank_one(projection.weight, projection.bias, mean, value, moment, answered=answered)
    weighted = torch.linalg.solve(moment, mean)
    new = projection.stored(projection.weight.double() + change)
    return Written(new, answered, value, found.loss, float((weighted @ own) / (weighted @ answered)))


def _steps(written: Sequence[Written], traced: Tensor) -> xr.Dataset:
    """The search for the value [fact, step], and the trace [layer]."""
    longest = max(len(each.loss) for each in written)
    loss = [[*each.loss, *[each.loss[-1]] * (longest - len(each.loss))] for each in written]
    data = xr.Dataset(
        {"loss_of_the_value": (("edit", "step"), loss)}, coords={"edit": [str(i) for i in range(len(loss))]}
    )
    data = described(data, loss_of_the_value=("loss of the new answer", "nats a token"))
    if len(traced):
        data["put_back"] = ("layer", traced.double().cpu().numpy())
        data = described(data, put_back=("answer that comes back", "nats"))
    return data


def _more_views(traced: Tensor) -> tuple[views.View, ...]:
    search = views.curves(value="loss_of_the_value", x="step", series="edit", title="Search for the value that says it")
    if not len(traced):
        return (search,)
    return (search, views.curves(value="put_back", x="layer", title="Quick trace: MLPs put back around each layer"))
