"""Which words were written because of the context, and which words of the context are the reason?

PECoRe in two steps [@sarti2024]. First every token that is written is scored with the context before the text and
without it: by the divergence of the two predictions, or by how much likelier the token became (P-CXMI). Tokens that
stand out (`deviations` standard deviations above the mean) are sensitive to the context. Then the same score is
differentiated at every token of the context, for each of those, and the context tokens that stand out are the reason.

The check takes the tokens of the context with the largest values out together, against random other tokens of the
prompt, and measures how far the score moves [@deyoung2020].
Limits: "stands out" is relative: in any text something does. The numbers beside it say by how much. A token that
another written token explains is written because of the context too, at second hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
import xarray as xr
from pydantic import Field

from cutaway.core import view as views
from cutaway.core.errors import TaskError
from cutaway.core.method import method
from cutaway.core.result import Result
from cutaway.core.task import Task
from cutaway.methods.attribute.checked import Floats, placed
from cutaway.methods.attribute.deletion import deletion_check, removable
from cutaway.methods.attribute.gradients import slopes
from cutaway.methods.attribute.neutral import Neutral, neutral_embedding
from cutaway.methods.attribute.step_functions import STEP_UNITS, wide
from cutaway.methods.attribute.targets import Continuation, Controls, Generate, Seed, Share, Targets, targets_of
from cutaway.methods.control import unchecked
from cutaway.methods.labels import described
from cutaway.models.model import Model
from cutaway.models.multigrad import scores_of_targets


@method(
    asks="Which words were written because of the context, and which of its words are the reason?",
    cites="sarti2024, deyoung2020",
    needs=("unembedding", "causal"),
)
def context_attribution(
    model: Model,
    task: Task,
    *,
    context: Annotated[str, Field(description="text put before the prompt; empty: the prompt's first half")] = "",
    measure: Annotated[
        Literal["kl", "pcxmi"], Field(description="what sensitivity is: divergence in nats, or information in bits")
    ] = "kl",
    deviations: Annotated[
        float, Field(description="standard deviations above the mean at which a token stands out")
    ] = 1.0,
    most: Annotated[int | None, Field(ge=1, description="instead, so many sensitive tokens and reasons each")] = None,
    generate: Generate = 8,
    continuation: Continuation = "",
    neutral: Annotated[Neutral, Field(description="what takes the place of a token that is taken out")] = "mean",
    share: Share = 0.2,
    controls: Controls = 20,
    seed: Seed = 0,
) -> Result:
    """Context-sensitive tokens of a continuation, and the context tokens that they come from."""
    first = task.subset([0])
    whole = Task.from_prompts([context + first.prompts[0]])
    written = 0 if continuation else generate
    targets = targets_of(model, whole, "log_probability", written, continuation)
    inside = _of_context(model, targets, first, bool(context))
    targets = _compared(model, targets, inside, measure)
    attribution = targets.empty()
    (found,) = slopes(model, targets, reduce=lambda _: partial(torch.linalg.vector_norm, dim=-1))
    values = found.values.double().cpu().numpy()
    sizes = found.grads.double().cpu().numpy()
    outside = np.setdiff1d(np.arange(sizes.shape[1]), inside)
    sizes[:, outside] = np.nan
    placed(targets, 0, sizes, attribution)
    sensitive = standing_out(values, deviations, most)
    attribution[0, ~sensitive] = np.nan
    reasons = {
        int(target): standing_out(attribution[0, target], deviations, most) for target in np.flatnonzero(sensitive)
    }
    strongest = _strongest(targets, int(np.argmax(values)))
    check = deletion_check(
        model,
        strongest,
        np.nan_to_num(attribution[:, [int(np.argmax(values))]], nan=-np.inf),
        neutral_embedding(model, neutral),
        claim="The most sensitive token depends on the tokens of the context that are marked.",
        ranked="of the context with the largest gradients",
        share=share,
        controls=controls,
        seed=seed,
        signed=False,
    )
    return Result(
        data=_dataset(model, targets, attribution, values, sensitive, reasons),
        metrics={
            "sensitive_tokens": int(sensitive.sum()),
            "most_sensitive": targets.words[0][int(np.argmax(values))],
            "mean_sensitivity": float(values.mean()),
        },
        views=_views(measure),
        checks=(check,) if check is not None else (),
        notes=(*targets.notes, *unchecked(controls)),
    )


def standing_out(values: Floats, deviations: float, most: int | None) -> np.ndarray:
    """Which values lie that many standard deviations above the mean; or the largest ones, where a number is given."""
    there = ~np.isnan(values)
    if not there.any():
        return there
    if most is not None:
        floor = np.sort(values[there])[::-1][min(most, int(there.sum())) - 1]
        return there & (np.nan_to_num(values, nan=-np.inf) >= floor)
    edge = values[there].mean() + deviations * values[there].std()
    return there & (np.nan_to_num(values, nan=-np.inf) > edge)


def _of_context(model: Model, targets: Targets, first: Task, given: bool) -> list[int]:
    """The places of the context's tokens, special ones left out."""
    places = removable(model, targets, 0)
    if not given:
        inside = places[: len(places) // 2]
    else:
        own = len(first.encode(model.tokenizer).ids[0]) - (len(targets.encoded.ids[0]) - len(places))
        inside = places[: len(places) - own]
    if not inside:
        raise TaskError(
            f"Nothing of {targets.encoded.prompts[0]!r} is context.",
            "The context is one token or more.",
            "Write context=..., a text that stands before the prompt.",
        )
    return inside


def _compared(model: Model, targets: Targets, inside: Sequence[int], measure: str) -> Targets:
    """The targets, scored against the prediction without the context."""
    gone = set(inside)
    ids = [token for place, token in enumerate(targets.ids[0]) if place not in gone]
    places = [position - len(gone) for position in targets.positions[0]]
    source = targets.source(0) and targets.source(0) - len(gone)
    there = scores_of_targets(model, [ids], places, lambda logits: wide(logits).log_softmax(-1), source=source)[0]
    return replace(targets, score_name=measure, references=(there,))


def _strongest(targets: Targets, target: int) -> Targets:
    """One target alone."""

    def one(rows: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple((row[target],) for row in rows)

    return replace(
        targets,
        positions=one(targets.positions),
        tokens=one(targets.tokens),
        words=one(targets.words),
        references=tuple(row[target : target + 1] for row in targets.references),
    )


def _dataset(
    model: Model,
    targets: Targets,
    attribution: Floats,
    values: Floats,
    sensitive: np.ndarray,
    reasons: dict[int, np.ndarray],
) -> xr.Dataset:
    tokens = model.token_strings(targets.ids[0])
    marked = np.zeros((len(values), len(tokens)), dtype=bool)
    for target, places in reasons.items():
        marked[target] = places
    data = xr.Dataset(
        {
            "sensitivity": (("target",), values),
            "sensitive": (("target",), sensitive),
            "attribution": (("target", "position"), attribution[0].astype(np.float32)),
            "reason": (("target", "position"), marked),
        },
        coords={
            "target": np.arange(len(values)),
            "position": np.arange(len(tokens)),
            "token": (("position",), tokens),
            "place": (("position",), [f"{i} {text}" for i, text in enumerate(tokens)]),
            "target_token": (("target",), list(targets.words[0])),
            "target_place": (("target",), [f"{i} {text}" for i, text in enumerate(targets.words[0])]),
        },
    )
    return described(
        data,
        sensitivity=("sensitivity to the context", STEP_UNITS[targets.score_name]),
        attribution="size of the gradient at the context",
        target_place="written token",
        place="token",
    )


def _views(measure: str) -> tuple[views.View, ...]:
    return (
        views.tokens(
            value="sensitivity", token="target_token", title=f"How far each written token needs the context ({measure})"
        ),
        views.bars(value="sensitivity", label="target_place", title="Sensitivity of each written token"),
        views.heatmap(
            value="attribution", x="place", y="target_place", title="Context tokens that the sensitive ones come from"
        ),
    )
