"""What does the score lose when a word is taken away?

One token after the other (or one word: all its tokens together) is put out of the text, and the fall of the score is
measured [@zeiler2014]: a_i = f(x) - f(x without i). `instead` says what takes its place: the embedding of a neutral
token, or nothing at all (`remove`: the text closes up, and every later token moves one place forward). All texts of a
prompt are rows of a batch. With words, each token of a word shows the fall of the whole word.

The check takes the tokens that cost the most alone out together, against random other tokens [@deyoung2020].
Limits: a text with a hole is unlike any text. Two words that say the same cover for each other: taking out either
loses nothing. Special tokens, such as the one that begins a text, are not taken out: their attribution is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Result
from cutaway.core.task import Task
from cutaway.methods.attribute.deletion import deletion_check, removable, scores_without
from cutaway.methods.attribute.gradients import scores_of
from cutaway.methods.attribute.neutral import Neutral, neutral_embedding
from cutaway.methods.attribute.targets import (
    Continuation,
    Controls,
    Foil,
    Generate,
    ScoreName,
    Seed,
    Share,
    Targets,
    targets_of,
)
from cutaway.methods.attribute.token_map import token_map
from cutaway.methods.attribution_aggregation import words_of
from cutaway.models.model import Model
from cutaway.models.multigrad import rows_at_once

__all__ = ["occlusion", "seen_places", "words_of"]
Floats = NDArray[np.float64]


@method(
    asks="What does the score lose when a word is taken away?",
    cites="zeiler2014, deyoung2020",
    needs=("unembedding",),
)
def occlusion(
    model: Model,
    task: Task,
    *,
    unit: Annotated[Literal["token", "word"], Field(description="what is taken away at a time")] = "token",
    instead: Annotated[
        Neutral | Literal["remove"], Field(description="what takes its place; remove: nothing, the text closes up")
    ] = "mean",
    score: ScoreName = "metric",
    generate: Generate = 0,
    continuation: Continuation = "",
    foil: Foil = "",
    share: Share = 0.2,
    controls: Controls = 20,
    seed: Seed = 0,
) -> Result:
    """The fall of the score when each token, or each word, is taken out of the text."""
    targets = targets_of(model, task, score, generate, continuation, foil)
    neutral = neutral_embedding(model, "mean" if instead == "remove" else instead)
    attribution, scores = targets.empty(), targets.empty()[:, :, 0]
    for prompt in track(range(len(targets)), "taking words out"):
        sets = _sets(model, targets, prompt, unit)
        if instead == "remove":
            found = _scores_closed_up(model, targets, prompt, [(), *sets])
        else:
            found = scores_without(model, targets, prompt, [(), *sets], neutral)
        scores[prompt, : found.shape[1]] = found[0]
        for places, after in zip(sets, found[1:], strict=True):
            for target, position in enumerate(targets.positions[prompt]):
                seen = [place for place in places if place <= position]
                attribution[prompt, target, seen] = found[0, target] - after[target]
    check = deletion_check(
        model,
        targets,
        np.nan_to_num(attribution, nan=-np.inf),
        neutral,
        claim=f"The {unit}s that cost the most when hidden alone also do so together.",
        ranked=f"{'of the words ' if unit == 'word' else ''}that cost the most when hidden alone",
        share=share,
        controls=controls,
        seed=seed,
    )
    title = f"Fall of the score without the {unit}"
    return token_map(model, targets, attribution, scores, title=title, unit=targets.unit, check=check)


def seen_places(model: Model, targets: Targets, prompt: int) -> list[int]:
    """Positions that can be taken out: those of the prompt, and of what goes on from it up to the last target."""
    written = len(targets.encoded.ids[prompt]) + (1 if targets.sources else 0)  # a decoder's start token stays
    return sorted({*removable(model, targets, prompt), *range(written, len(targets.ids[prompt]))})


def _sets(model: Model, targets: Targets, prompt: int, unit: str) -> list[list[int]]:
    """Places that are taken out together, one set after the other; of a continuation too, up to its last target."""
    ids = targets.ids[prompt]
    inside = set(seen_places(model, targets, prompt))
    if unit == "token":
        return [[place] for place in sorted(inside)]
    sets: dict[int, list[int]] = {}
    for place, word in enumerate(words_of(model.token_strings(ids))):
        if place in inside:
            sets.setdefault(word, []).append(place)
    return list(sets.values())


def _scores_closed_up(model: Model, targets: Targets, prompt: int, sets: Sequence[Sequence[int]]) -> Floats:
    """Scores [set, target] of the text without the tokens of each set; missing where no text is left.

    All targets of a closed text are scored in one pass: each sees the text up to its own place.
    """
    ids, places, source = targets.ids[prompt], targets.positions[prompt], targets.source(prompt)
    found = np.full((len(sets), len(places)), np.nan)
    alike: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for row, gone in enumerate(map(set, sets)):
        moved = tuple(place - sum(at <= place for at in gone) for place in places)
        alike.setdefault((source - sum(at < source for at in gone), moved), []).append(row)
    for (read, moved), members in alike.items():
        wanted = [target for target, place in enumerate(moved) if place >= read]
        if not wanted or bool(read) != bool(source):
            continue
        length = moved[-1] + 1
        size = rows_at_once(model, length, grad=False, targets=len(wanted))
        for start in range(0, len(members), size):
            piece = members[start : start + size]
            texts = [[token for at, token in enumerate(ids) if at not in sets[row]][:length] for row in piece]
            values = scores_of(
                model,
                targets,
                [prompt] * len(piece),
                ids=texts,
                positions=[moved[target] for target in wanted],
                wanted=wanted,
                source=read,
            )
            found[np.ix_(piece, wanted)] = values.double().cpu().numpy()
    return found
