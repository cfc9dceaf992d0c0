"""How is an attribution to tokens shown? Labelled arrays, figures and pictures that every such map has.

`attribution` is [prompt, position], or [prompt, target, position] where several targets are explained; it is missing
(NaN) beyond the end of a prompt and at tokens that a target does not see.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cutaway.core import view as views
from cutaway.core.result import Check, Metric, Result
from cutaway.methods.attribute.targets import Targets
from cutaway.methods.labels import described, token_table
from cutaway.methods.scoring import as_words
from cutaway.models.model import Model


def token_map(
    model: Model,
    targets: Targets,
    attribution: NDArray[np.float64],
    scores: NDArray[np.float64],
    *,
    title: str,
    unit: str = "",
    check: Check | None,
    metrics: Mapping[str, Metric] | None = None,
    notes: tuple[str, ...] = (),
    arrays: Mapping[str, NDArray[np.float64]] | None = None,
) -> Result:
    """The Result of a map of tokens.

    Args:
        model: the network.
        targets: what was explained.
        attribution: [prompt, target, position].
        scores: of the unchanged text [prompt, target].
        title: what an attribution is, in a few words.
        unit: of an attribution; "" where it is not that of the score.
        check: of the map.
        metrics: figures beside those that every map has.
        notes: sentences beside those of the targets.
        arrays: further arrays [prompt, target].
    """
    data = _dataset(model, targets, attribution, {"score": scores, **(arrays or {})})
    data = described(
        data,
        attribution=(title[0].lower() + title[1:], unit),
        score=(as_words(targets.score_name), targets.unit),
        place="token",
        target_token="explained token",
    )
    mean_score = float(np.nanmean(scores))
    return Result(
        data=data,
        metrics={"score": mean_score, "scored": targets.score_name, **_largest(data), **(metrics or {})},
        views=_views(targets, f"{title}: {as_words(targets.score_name)}"),
        checks=(check,) if check is not None else (),
        notes=(*targets.notes, *notes, *(() if check is not None else (_UNCHECKED,))),
    )


_UNCHECKED = "Not checked: controls is 0, or no prompt has two tokens that can be taken out."


def _dataset(
    model: Model, targets: Targets, attribution: NDArray[np.float64], per_target: Mapping[str, NDArray[np.float64]]
) -> xr.Dataset:
    names = np.full((len(targets), targets.most), "", dtype=object)
    for prompt, row in enumerate(targets.words):
        names[prompt, : len(row)] = row
    table = token_table(model, targets.ids)
    places = np.array([[f"{i} {text}" if text else "" for i, text in enumerate(row)] for row in table], dtype=object)
    data = xr.Dataset({"attribution": (("prompt", "target", "position"), attribution.astype(np.float32))})
    data = data.assign({name: (("prompt", "target"), values) for name, values in per_target.items()})
    data = data.assign_coords(
        prompt=list(targets.encoded.prompts),
        target=np.arange(targets.most),
        position=np.arange(attribution.shape[-1]),
        token=(("prompt", "position"), table),
        place=(("prompt", "position"), places),
        target_token=(("prompt", "target"), names),
    )
    return data if targets.most > 1 else data.isel(target=0, drop=True)


def _views(targets: Targets, title: str) -> tuple[views.View, ...]:
    first = {"prompt": 0}
    if targets.most == 1:
        return (
            views.tokens(value="attribution", token="token", at=first, title=title),
            views.bars(value="attribution", label="place", at=first, title=f"{title}, by token"),
        )
    return (
        views.heatmap(value="attribution", x="place", y="target_token", at=first, title=f"{title}, for each target"),
        views.tokens(value="attribution", token="token", at={**first, "target": 0}, title=title),
        views.bars(value="attribution", label="place", at={**first, "target": 0}, title=f"{title}, by token"),
    )


def _largest(data: xr.Dataset) -> dict[str, Metric]:
    """The token with the largest attribution to the first target that has any, and its part of the whole."""
    tokens, values = data["token"].values, data["attribution"].values
    rows = values.reshape(len(tokens), -1, values.shape[-1])  # [prompt, target, position]
    known = np.argwhere(~np.isnan(rows).all(axis=-1))
    if not len(known):
        return {}
    prompt, target = known[0]
    first = rows[prompt, target]
    place, whole = int(np.nanargmax(first)), float(np.nansum(np.abs(first)))
    return {
        "largest_token": str(tokens[prompt, place]),
        "largest_share": float(abs(first[place]) / whole) if whole else 0.0,
    }
