"""A map with its test: what nearly every attribution returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core.result import Metric, Result
from cutaway.methods.attribute.deletion import deletion_check
from cutaway.methods.attribute.gradients import scores_of
from cutaway.methods.attribute.neutral import Neutral
from cutaway.methods.attribute.targets import Targets
from cutaway.methods.attribute.token_map import token_map
from cutaway.models.model import Model

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Test:
    """How a map is tested: the arguments of `deletion_check` that a user gives."""

    share: float
    controls: int
    seed: int
    signed: bool = True


def checked_map(
    model: Model,
    targets: Targets,
    attribution: Floats,
    scores: Floats,
    *,
    title: str,
    neutral: Tensor | Neutral,
    test: Test,
    unit: str = "",
    metrics: Mapping[str, Metric] | None = None,
    notes: tuple[str, ...] = (),
    arrays: Mapping[str, Floats] | None = None,
) -> Result:
    """The Result of a map, with the check that takes out the tokens that it ranks first.

    Args:
        model, targets, attribution, scores, unit, metrics, notes, arrays: as in `token_map`.
        title: what an attribution is; the check's sentences say it too.
        neutral: the embedding that takes the place of a token's own, or its name.
        test: of the check.
    """
    said = title[0].lower() + title[1:] if title[1:2].islower() else title
    check = deletion_check(
        model,
        targets,
        np.nan_to_num(attribution, nan=-np.inf),
        neutral,
        claim=f"The score hangs on the tokens with the largest {said}.",
        ranked=f"with the largest {said}",
        share=test.share,
        controls=test.controls,
        seed=test.seed,
        signed=test.signed,
    )
    return token_map(
        model,
        targets,
        attribution,
        scores,
        title=title,
        unit=unit,
        check=check,
        metrics=metrics,
        notes=notes,
        arrays=arrays,
    )


def scores_of_texts(model: Model, targets: Targets) -> Floats:
    """The scores of the unchanged texts [prompt, target]."""
    found = targets.empty()[:, :, 0]
    for group in targets.groups():
        for prompt in group:
            row = scores_of(model, targets, [prompt])[0].double().cpu().numpy()
            found[prompt, : len(row)] = row
    return found


def placed(targets: Targets, prompt: int, values: Floats, into: Floats) -> None:
    """Write values [target, position] of a prompt into a map [prompt, target, position], up to what each target sees."""
    for target, position in enumerate(targets.positions[prompt]):
        into[prompt, target, : position + 1] = values[target, : position + 1]
