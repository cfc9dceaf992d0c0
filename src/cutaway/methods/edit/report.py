"""What did an edit do? Before and after for each fact, side effects, random changes of the same size, and the weights.

Every editing method returns this report. The model is measured with the edit in place and is as it was afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core import view as views
from cutaway.core.progress import track
from cutaway.core.result import Check, Result
from cutaway.data.edit_requests import EditRequest
from cutaway.data.fact_edits import completed
from cutaway.methods import side_effects
from cutaway.methods.control import compared, interval, unchecked
from cutaway.methods.edit.rows import log_probabilities, row_of_request
from cutaway.methods.labels import described
from cutaway.methods.side_effects import Effects
from cutaway.models import weight_edit
from cutaway.models.model import Model
from cutaway.models.weight_edit import changed, parameter

TEXT_TOKENS = 40

Changes = Mapping[str, Tensor]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """How much is measured.

    Attributes:
        controls: random changes of the same size.
        texts: paragraphs of plain text.
        other_facts: facts about other subjects.
        seed: draws them.
    """

    controls: int
    texts: int
    other_facts: int
    seed: int


@dataclass(frozen=True, eq=False)
class _Measured:
    """Log-probabilities [fact] of the new and the old answer, and the side effects, of one state of the weights."""

    target: Floats
    true: Floats
    effects: Effects

    @property
    def lead(self) -> float:
        """By how much the new answer leads: over the true one where there is one (nats, mean over facts)."""
        return float((self.target - np.nan_to_num(self.true)).mean())


def report(
    model: Model,
    requests: Sequence[EditRequest],
    changes: Changes,
    *,
    asked: Asked,
    about: Mapping[str, Any],
    notes: Sequence[str] = (),
    metrics: Mapping[str, float | int | str] | None = None,
    data: xr.Dataset | None = None,
    more_views: Sequence[views.View] = (),
) -> Result:
    """The Result of an edit.

    Args:
        model: the network, not edited.
        requests: the facts that were to be written.
        changes: the new value of each changed parameter.
        asked: how much is measured.
        about: what the artifact is about.
        notes: what a reader must know.
        metrics: further figures.
        data: further arrays.
        more_views: pictures of those.
    """
    measure = _measure(model, requests, asked)
    before = measure({})
    after = measure(changes)
    old = {name: parameter(model, name).detach() for name in changes}
    checks: tuple[Check, ...] = ()
    if asked.controls:
        random = side_effects.random_changes(old, changes, asked.controls, asked.seed)
        tried = [measure(each) for each in track(random, "random changes of the same size")]
        checks = _checks(before, after, tried)
    artifact = weight_edit.weights(
        model,
        changes,
        {**about, "facts": [{"prompt": r.prompt, "subject": r.subject, "answer": r.target} for r in requests]},
    )
    sizes = _sizes(artifact.about["parameters"])
    return Result(
        data=_dataset(requests, before, after, sizes).merge(data if data is not None else xr.Dataset()),
        metrics={**_metrics(before, after, sizes), **(metrics or {})},
        views=(*_views(requests), *more_views),
        checks=checks,
        notes=(*notes, *side_effects.collapsed(before.effects, after.effects), *unchecked(asked.controls)),
        artifacts={"weights": artifact},
    )


def _measure(model: Model, requests: Sequence[EditRequest], asked: Asked) -> Callable[[Changes], _Measured]:
    without = [request.subject for request in requests]
    beside = [prompt for request in requests for prompt, _ in completed(request, asked.seed).neighbours]
    ground = side_effects.ground(
        model,
        texts=asked.texts,
        tokens=TEXT_TOKENS,
        other_facts=asked.other_facts,
        without=without,
        seed=asked.seed,
        neighbours=list(dict.fromkeys(beside))[: asked.other_facts],
    )
    targets = [row_of_request(model, request) for request in requests]
    with_true = [i for i, request in enumerate(requests) if request.true]
    trues = [row_of_request(model, requests[i], requests[i].true) for i in with_true]

    def measure(changes: Changes) -> _Measured:
        with changed(model, changes):
            found, _ = log_probabilities(model, [*targets, *trues])
            effects = side_effects.effects(model, ground)
        values = found.numpy()
        true = np.full(len(requests), np.nan)
        true[with_true] = values[len(targets) :]
        return _Measured(values[: len(targets)], true, effects)

    return measure


def _checks(before: _Measured, after: _Measured, random: Sequence[_Measured]) -> tuple[Check, ...]:
    low, middle, high = interval([each.effects.divergence for each in random])
    moved = after.effects.divergence
    return (
        compared(
            after.lead - before.lead,
            [each.lead - before.lead for each in random],
            claim="The edit writes the new answers, more than a change of its size does by chance.",
            how="Put the edited weights in and measure by how much the new answer gains on the old one; the control puts "
            "in random changes of rank one and of the same size.",
            unit="nats",
        ),
        Check(
            "The edit disturbs unrelated text no more than a random change of its size.",
            "Put the edited weights in and measure the divergence from the model before on plain text; the control puts in "
            "random changes of rank one and of the same size.",
            moved,
            middle,
            (low, high),
            len(random),
            moved <= high,
            "nats of KL divergence a token",
        ),
    )


def _sizes(parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    return {name: each["norm_of_the_change"] / max(each["norm_before"], 1e-30) for name, each in parameters.items()}


def _metrics(before: _Measured, after: _Measured, sizes: Mapping[str, float]) -> dict[str, float | int | str]:
    old, new = before.effects, after.effects
    has_true = np.isfinite(after.true)
    found: dict[str, float | int | str] = {
        "probability_of_the_new_answer_before": float(np.exp(before.target).mean()),
        "probability_of_the_new_answer": float(np.exp(after.target).mean()),
        "divergence_on_plain_text": new.divergence,
        "loss_on_plain_text_before": old.loss,
        "loss_on_plain_text": new.loss,
        "neighbours_changed": new.neighbours,
        "other_facts_changed": new.other_facts,
        "other_facts_known_before": old.known,
        "other_facts_known": new.known,
        "size_of_the_change": max(sizes.values()),
    }
    if has_true.any():
        wins = after.target[has_true] > after.true[has_true]
        found["new_answer_beats_the_old"] = float(wins.mean())
    return found


def _dataset(
    requests: Sequence[EditRequest], before: _Measured, after: _Measured, sizes: Mapping[str, float]
) -> xr.Dataset:
    probabilities = np.exp(np.stack([before.target, before.true, after.target, after.true]).reshape(2, 2, -1))
    old, new = before.effects, after.effects
    side = {
        "loss on plain text": (old.loss, new.loss),
        "divergence on plain text": (old.divergence, new.divergence),
        "neighbours with another answer": (old.neighbours, new.neighbours),
        "other facts with another answer": (old.other_facts, new.other_facts),
        "other facts answered rightly": (old.known, new.known),
    }
    data = xr.Dataset(
        {
            "probability": (("state", "answer", "fact"), probabilities),
            "written": (("fact", "state"), np.moveaxis(probabilities[:, 0], 0, 1)),
            "side_effect_before": ("side_effect", [pair[0] for pair in side.values()]),
            "side_effect_after": ("side_effect", [pair[1] for pair in side.values()]),
            "size_of_change": ("parameter", list(sizes.values())),
        },
        coords={
            "state": ["before", "after"],
            "answer": ["new", "old"],
            "fact": [f"{i}: {request.says}" for i, request in enumerate(requests)],
            "side_effect": list(side),
            "parameter": list(sizes),
        },
    )
    return described(data, probability="probability", written="probability of the new answer")


def _views(requests: Sequence[EditRequest]) -> tuple[views.View, ...]:
    return (
        views.bars(value="written", label="fact", group="state", title="Probability of the new answer"),
        views.table(
            columns=["side_effect", "side_effect_before", "side_effect_after"],
            title="What else changed",
        ),
        views.table(columns=["parameter", "size_of_change"], title="Size of the change beside the weights"),
    )
