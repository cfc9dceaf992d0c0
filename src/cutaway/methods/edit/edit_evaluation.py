"""How well does an editor write facts: are they believed, in other words too, and do their neighbours stay?

Facts are those of a file in the format of CounterFact or zsRE, or else the task's, with paraphrases and neighbours from
the project's fact set. Each is written into the unedited model, asked about, and undone; `together` writes all of them
into one model first. Scores are those of CounterFact [@meng2022] and the accuracies of zsRE [@levy2017] (`scores`): efficacy,
paraphrases, neighbours, their harmonic mean S; with `new_tokens`, entropy and consistency of what the model writes.

Shown are the unedited model, the edited one, and the control: random changes of rank one, as large as the edit, of the
same matrices. `random_layers` makes the same edits at other layers, as a control of the layer.
Limits: the answer of a fact set is one string; a right answer in other words counts as wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from torch import Tensor

from cutaway.core import view as views
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Check, Result
from cutaway.core.task import Task
from cutaway.data.edit_files import read_edits
from cutaway.data.edit_requests import EditRequest, requests_of
from cutaway.data.fact_edits import completed
from cutaway.methods import side_effects
from cutaway.methods.control import compared, enough, unchecked
from cutaway.methods.edit import editors, scores
from cutaway.methods.edit.scores import KINDS
from cutaway.methods.labels import described
from cutaway.models.model import Model
from cutaway.models.weight_edit import changed, parameter

Floats = NDArray[np.float64]
Changes = Mapping[str, Tensor]
WRITTEN = ("entropy", "consistency")
NAMES = tuple(f"{kind}{part}" for part in ("", "_magnitude", "_accuracy") for kind in KINDS)


@method(
    asks="How well does an editor write facts?",
    cites="meng2022, levy2017",
    needs=("unembedding", "causal", "answers"),
)
def edit_evaluation(
    model: Model,
    task: Task,
    *,
    editor: Annotated[
        Literal["rome", "memit", "constrained_finetuning", "finetuning"], Field(description="what writes the facts")
    ] = "rome",
    file: Annotated[str, Field(description="facts as CounterFact or zsRE (JSON) instead of the task's")] = "",
    facts: Annotated[int, Field(ge=1, description="how many of them at most")] = 8,
    subject: Annotated[str, Field(description="words of the subject in the task's prompts; empty: its own")] = "",
    together: Annotated[bool, Field(description="write all facts into one model, then ask")] = False,
    layer: Annotated[int | None, Field(ge=0, description="whose MLP is changed; none: by a quick causal trace")] = None,
    contexts: Annotated[int, Field(ge=0, le=50, description="beginnings of a text before the prompt")] = 6,
    steps: Annotated[int, Field(ge=1, description="gradient steps, at most")] = 25,
    new_tokens: Annotated[int, Field(ge=0, le=200, description="tokens written about each subject; 0: none")] = 0,
    random_layers: Annotated[
        int,
        Field(ge=0, description="other layers at which the same is done, 5 or more; 0: no control of the layer"),
        AfterValidator(enough),
    ] = 0,
    controls: Annotated[
        int,
        Field(ge=0, description="random changes that the check compares with, 5 or more; 0: no check"),
        AfterValidator(enough),
    ] = 5,
    seed: Annotated[int, Field(ge=0, description="draws beginnings, noise, sentences and random changes")] = 0,
) -> Result:
    """Write facts, ask about them and their neighbours, and undo."""
    requests, notes = _facts(task, subject, file, facts, seed)
    made = editors.ready(model, editor, requests, layer=layer, contexts=contexts, steps=steps, seed=seed)
    asked = [scores.questions_of(model, request) for request in requests]
    before = _table(model, requests, asked, [{}] * len(requests), new_tokens)
    edits = _edits(made, requests, together)
    after = _table(model, requests, asked, edits, new_tokens)
    random = _random(model, requests, asked, edits, controls, seed)
    checks: list[Check] = []
    if controls:
        checks.append(_check(after, random))
    if random_layers:
        others = _other_layers(model, made, requests, asked, random_layers, together, (contexts, steps, seed))
        checks.append(_layer_check(after, others, made.layers[-1]))
    tables = {"before": before, "after": after, **({"random change": np.mean(random, axis=0)} if controls else {})}
    return Result(
        data=_dataset(requests, tables),
        metrics={**_metrics(before, after), "layer": made.layers[-1], "facts": len(requests)},
        views=_views(new_tokens),
        checks=tuple(checks),
        notes=(*notes, *made.notes, *unchecked(controls)),
    )


def _facts(
    task: Task, subject: str, file: str, most: int, seed: int
) -> tuple[tuple[EditRequest, ...], tuple[str, ...]]:
    """The facts with all that is asked about them."""
    if file:
        return read_edits(file, most), (f"The facts are those of {file}; of the task none is used.",)
    found, notes = requests_of(task, subject)
    return tuple(completed(request, seed + i) for i, request in enumerate(found[:most])), notes


# --- measuring ---------------------------------------------------------------------------------------------------


def _edits(made: editors.Editor, requests: Sequence[EditRequest], together: bool) -> list[dict[str, Tensor]]:
    """For each fact the weights under which it is asked about."""
    if together:
        return [made.edit(requests)] * len(requests)
    return [made.edit([request]) for request in track(requests, "writing each fact")]


def _table(
    model: Model,
    requests: Sequence[EditRequest],
    asked: Sequence[scores.Questions],
    edits: Sequence[Changes],
    new_tokens: int,
) -> Floats:
    """The scores [fact, score]."""
    rows = []
    for request, questions, changes in track(list(zip(requests, asked, edits)), "asking about facts"):
        with changed(model, changes):
            found = scores.scores_of(model, questions)
            written = _written(model, request, new_tokens)
        rows.append([*(found[name] for name in NAMES), *written])
    return np.array(rows, dtype=float)


def _written(model: Model, request: EditRequest, new_tokens: int) -> tuple[float, float]:
    """Entropy and consistency of what the model writes about the subject."""
    if not new_tokens or not request.beginnings:
        return float("nan"), float("nan")
    texts = model.generate(list(request.beginnings), max_new_tokens=new_tokens).texts
    whole = " ".join(beginning + text for beginning, text in zip(request.beginnings, texts))
    entropy = float(np.mean([scores.entropy_of(text) for text in texts]))
    return entropy, scores.consistency_of(whole, request.references)


def _random(
    model: Model,
    requests: Sequence[EditRequest],
    asked: Sequence[scores.Questions],
    edits: Sequence[Changes],
    controls: int,
    seed: int,
) -> list[Floats]:
    """The scores under random changes as large as each edit [control][fact, score]."""
    random = []
    for changes in edits:
        old = {name: parameter(model, name).detach() for name in changes}
        random.append(side_effects.random_changes(old, changes, controls, seed))
    return [_table(model, requests, asked, [each[i] for each in random], 0) for i in range(controls)]


def _other_layers(
    model: Model,
    made: editors.Editor,
    requests: Sequence[EditRequest],
    asked: Sequence[scores.Questions],
    count: int,
    together: bool,
    options: tuple[int, int, int],
) -> list[Floats]:
    """The scores of the same editor at random other layers."""
    contexts, steps, seed = options
    free = [layer for layer in range(model.anatomy.n_layers) if layer != made.layers[-1]]
    order = np.random.default_rng(seed).permutation(len(free))[:count]
    found = []
    for place in track(sorted(order.tolist()), "the same at other layers"):
        name: editors.Name = made.name  # type: ignore[assignment]
        other = editors.ready(model, name, requests, layer=free[place], contexts=contexts, steps=steps, seed=seed)
        found.append(_table(model, requests, asked, _edits(other, requests, together), 0))
    return found


# --- the result --------------------------------------------------------------------------------------------------


def _means(table: Floats) -> dict[str, float]:
    """Means over facts, of those that have the score."""
    found = {}
    for i, name in enumerate((*NAMES, *WRITTEN)):
        column = table[:, i][np.isfinite(table[:, i])]
        found[name] = float(column.mean()) if len(column) else float("nan")
    return found


def _score(table: Floats) -> float:
    return scores.total(_means(table))


def _check(after: Floats, random: Sequence[Floats]) -> Check:
    return compared(
        _score(after),
        [_score(each) for each in random],
        claim="The edits are believed, also in other words, and neighbours stay: more so than with chance changes.",
        how="Write each fact and take the harmonic mean of efficacy, paraphrase and neighbourhood success; the control puts "
        "in random changes of rank one, as large as the edits, in the same matrices.",
        unit="score S",
    )


def _layer_check(after: Floats, others: Sequence[Floats], layer: int) -> Check:
    return compared(
        _score(after),
        [_score(each) for each in others],
        claim=f"Layer {layer} is a better place for the edits than other layers.",
        how="Write the same facts at random other layers with the same editor and compare the harmonic mean S.",
        unit="score S",
    )


def _metrics(before: Floats, after: Floats) -> dict[str, float | int | str]:
    found: dict[str, float | int | str] = {"score_before": _score(before), "score": _score(after)}
    old, new = _means(before), _means(after)
    for name in (*NAMES, *WRITTEN):
        if np.isfinite(new[name]):
            found |= {f"{name}_before": old[name], name: new[name]}
    return found


def _dataset(requests: Sequence[EditRequest], tables: Mapping[str, Floats]) -> xr.Dataset:
    names = [*NAMES, *WRITTEN]
    every = np.stack(list(tables.values()))
    used = [i for i in range(len(names)) if np.isfinite(every[:, :, i]).any()]
    means = np.array([[_means(table)[names[i]] for i in used] for table in tables.values()])
    success = np.array([[*(_means(table)[kind] for kind in KINDS), _score(table)] for table in tables.values()])
    data = xr.Dataset(
        {
            "by_fact": (("state", "fact", "score"), every[:, :, used]),
            "mean": (("score", "state"), means.T),
            "success": (("part", "state"), np.nan_to_num(success.T)),
            "before": ("score", means[0]),
            "after": ("score", means[1]),
        },
        coords={
            "state": list(tables),
            "fact": [f"{i}: {request.says}" for i, request in enumerate(requests)],
            "score": [names[i].replace("_", " ") for i in used],
            "part": [*KINDS, "score S"],
        },
    )
    return described(data, success="success", before="unedited model", after="edited model")


def _views(new_tokens: int) -> tuple[views.View, ...]:
    note = "" if new_tokens else "Nothing was generated: new_tokens is 0."
    return (
        views.bars(
            value="success", label="part", group="state", title="Are the new facts believed, and neighbours left?"
        ),
        views.table(columns=["score", "before", "after"], title="All scores, means over facts", note=note),
    )
