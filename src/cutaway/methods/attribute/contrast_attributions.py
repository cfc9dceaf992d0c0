"""What do two texts have their words do differently? Two maps, aligned token by token, and their difference.

The same method explains the same continuation after two prompts: the task's prompt and its contrast, or another text
of any length (`other`). The prompts are aligned as a `diff` does it, by the longest runs of equal tokens; what stands
between two of those runs is set side by side in order. At each aligned place there is the one map, the other, and
their difference; a token that only one text has stands alone.

The check takes the tokens with the largest values of the first map out together, against random other tokens
[@deyoung2020].
Limits: a difference of two maps is no map of the difference of the scores: for that, explain a score that compares the
two (`score=pcxmi`, or a foil).
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Annotated

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from cutaway.core import view as views
from cutaway.core.errors import ParameterError
from cutaway.core.method import method
from cutaway.core.result import Result
from cutaway.core.task import Task
from cutaway.methods.attribute.deletion import deletion_check
from cutaway.methods.attribute.maps import UNSIGNED, Floats, MapName, Question, map_of, values_of_map
from cutaway.methods.attribute.neutral import neutral_embedding
from cutaway.methods.attribute.targets import (
    Continuation,
    Controls,
    Foil,
    Generate,
    ScoreName,
    Seed,
    Share,
    targets_of,
)
from cutaway.methods.control import unchecked
from cutaway.methods.labels import described
from cutaway.methods.scoring import as_words
from cutaway.models.model import Model


@method(
    asks="What do two texts have their words do differently?",
    cites="deyoung2020",
    needs=("unembedding",),
)
def contrast_attributions(
    model: Model,
    task: Task,
    *,
    other: Annotated[str, Field(description="the text to compare with; empty: the task's contrast")] = "",
    of: Annotated[MapName, Field(description="the method that is asked")] = "input_x_gradient",
    score: ScoreName = "log_probability",
    generate: Generate = 0,
    continuation: Continuation = "",
    foil: Foil = "",
    share: Share = 0.2,
    controls: Controls = 20,
    seed: Seed = 0,
) -> Result:
    """Two maps of the same continuation after two prompts, aligned, and their difference."""
    first = task.subset([0])
    second = _second(first, other)
    targets = targets_of(model, first, score, generate, continuation, foil)
    asked = Question(score, generate, continuation, foil, seed).about(targets, model)
    answered = Task.from_prompts(second, answers=first.answers or None, wrong=first.wrong or None)
    maps = [map_of(model, each, of, asked) for each in (first, answered)]
    here, there = (values_of_map(each)[0] for each in maps)
    texts = [[str(text) for text in each.data["token"].values[0]] for each in maps]
    pairs = aligned(*texts)
    check = deletion_check(
        model,
        targets,
        np.nan_to_num(values_of_map(maps[0]), nan=-np.inf),
        neutral_embedding(model, "mean"),
        claim="The score of the first text hangs on the tokens with its largest values.",
        ranked="with the largest values in the first text",
        share=share,
        controls=controls,
        seed=seed,
        signed=of not in UNSIGNED,
    )
    words = [str(word) for word in np.atleast_1d(maps[0].data["target_token"].values[0])]
    data = _dataset(here, there, texts, pairs, words)
    largest = np.nan_to_num(np.abs(data["difference"].values)).max(axis=0)  # missing: not seen by the target
    return Result(
        data=data,
        metrics={
            "scored": as_words(targets.score_name),
            "largest_difference_at": str(data["pair"].values[int(np.argmax(largest))]),
            "aligned": sum(a is not None and b is not None for a, b in pairs),
        },
        views=_views(of, len(words)),
        checks=(check,) if check is not None else (),
        notes=(*targets.notes, *unchecked(controls)),
    )


def _second(first: Task, other: str) -> str:
    if other or first.contrasts:
        return other or first.contrasts[0]
    raise ParameterError(
        "other is empty, and the task has no contrast;",
        "two texts are compared.",
        "Write other=..., or give the task contrasts.",
    )


def aligned(first: Sequence[str], second: Sequence[str]) -> list[tuple[int | None, int | None]]:
    """Places of two texts side by side; None where a text has nothing.

    >>> aligned(["the", " cat", " sat"], ["the", " old", " dog", " sat"])
    [(0, 0), (1, 1), (None, 2), (2, 3)]
    """
    pairs: list[tuple[int | None, int | None]] = []
    for _, a, a_end, b, b_end in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        for step in range(max(a_end - a, b_end - b)):
            mine, theirs = a + step, b + step
            pairs.append((mine if mine < a_end else None, theirs if theirs < b_end else None))
    return pairs


def _dataset(
    here: Floats,
    there: Floats,
    texts: Sequence[Sequence[str]],
    pairs: Sequence[tuple[int | None, int | None]],
    words: Sequence[str],
) -> xr.Dataset:
    targets = min(len(here), len(there))

    def taken(values: Floats, places: Sequence[int | None]) -> NDArray[np.float64]:
        columns = [np.zeros(targets) if place is None else values[:targets, place] for place in places]
        return np.stack(columns, axis=1)

    mine, theirs = taken(here, [a for a, _ in pairs]), taken(there, [b for _, b in pairs])
    labels = [("" if a is None else texts[0][a], "" if b is None else texts[1][b]) for a, b in pairs]
    data = xr.Dataset(
        {
            "first": (("target", "pair_number"), mine),
            "second": (("target", "pair_number"), theirs),
            "difference": (("target", "pair_number"), mine - theirs),
        },
        coords={
            "target": np.arange(targets),
            "pair_number": np.arange(len(pairs)),
            "first_token": (("pair_number",), [a for a, _ in labels]),
            "second_token": (("pair_number",), [b for _, b in labels]),
            "pair": (
                ("pair_number",),
                [f"{i} {a}" if a == b else f"{i} {a or '∅'} / {b or '∅'}" for i, (a, b) in enumerate(labels)],
            ),
            "target_token": (("target",), list(words[:targets])),
        },
    )
    return described(
        data,
        first="attribution in the first text",
        second="attribution in the second text",
        difference="first minus second",
        pair="token of the first / of the second text",
        target_token="explained token",
    )


def _views(of: str, targets: int) -> tuple[views.View, ...]:
    name, at = as_words(of), {"target": 0}
    whole = views.heatmap(
        value="difference", x="pair", y="target_token", title=f"Difference of {name}, for each explained token"
    )
    return (
        *((whole,) if targets > 1 else ()),
        views.tokens(value="first", token="first_token", at=at, title=f"First text: {name}"),
        views.tokens(value="second", token="second_token", at=at, title=f"Second text: {name}"),
        views.bars(value="difference", label="pair", at=at, title=f"Difference of {name}, first minus second"),
    )
