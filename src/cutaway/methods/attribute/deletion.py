"""Are the words that a map marks the words that matter? Take them out together, against random words.

The tokens that a map ranks highest are put out of the text together (their embeddings become a neutral one) and
the fall of the score is measured: what ERASER calls comprehensiveness [@deyoung2020]. The control puts out as many
of the prompt's other tokens, drawn at random. Special tokens stay: a network leans on them whatever the text says.

Limits: a text with words missing is unlike any text, for the marked words and for the random ones. In a short prompt
there are few sets of other words, so the interval is rough.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core.progress import track
from cutaway.core.result import Check
from cutaway.methods.attribute.gradients import scores_of, values_of
from cutaway.methods.attribute.neutral import Neutral, neutral_embedding
from cutaway.methods.attribute.targets import Targets
from cutaway.methods.control import compared, sets_like
from cutaway.methods.scoring import as_words
from cutaway.models.model import Model
from cutaway.models.multigrad import Score, rows_at_once
from cutaway.models.shared_prefix import is_shorter, scores_with_holes

T = TypeVar("T")
# At most so many predictions are tested, spread evenly over the prompts, and so many of each prompt's targets.
TESTED = 8
TARGETS_OF_A_PROMPT = 2
IN_NATS = " (in nats, for nearly any gap brings the probability itself to nothing)"


def deletion_check(
    model: Model,
    targets: Targets,
    attribution: NDArray[np.float64],
    neutral: Tensor | Neutral,
    *,
    claim: str,
    ranked: str,
    share: float,
    controls: int,
    seed: int,
    signed: bool = True,
) -> Check | None:
    """The check of a map; None where there are no controls, or no two tokens to take out.

    Args:
        model: the network.
        targets: what was explained.
        attribution: [prompt, target, position]; larger says that the token matters more.
        neutral: the embedding [d_model] that takes the place of a token's own, or its name.
        claim: as in `Check`.
        ranked: which tokens the map ranks highest, in words that follow "the tokens": "with the largest gradients".
        share: of the tokens of a prompt that are taken out, at least one.
        controls: number of random sets for each prediction.
        seed: draws them.
        signed: the map says which way the score moves; otherwise the size of the change counts.
    """
    able = testable(model, targets)
    if not able or not controls:
        return None
    nothing = neutral_embedding(model, neutral) if isinstance(neutral, str) else neutral
    chosen = evenly(able, TESTED)
    in_nats = targets.score_name == "probability"
    scored = targets.with_score("log_probability") if in_nats else targets
    measured, random = [], []
    for number, (prompt, target) in enumerate(track(chosen, "taking tokens out")):
        inside = removable(model, targets, prompt)
        marked = _largest(attribution[prompt, target], inside, max(1, round(share * len(inside))))
        others = sets_like(marked, inside, controls, seed + number, lambda place: 0)
        found = scores_without(model, scored, prompt, [(), marked, *others], nothing, only=target)[:, 0]
        fall = found[0] - found[1:] if signed else np.abs(found[0] - found[1:])
        measured.append(float(fall[0]))
        random.append(fall[1:])
    return compared(
        float(np.mean(measured)),
        np.mean(random, axis=0).tolist(),
        claim=claim,
        how=f"Take out together the {100 * share:g} % of the tokens {ranked} ({len(chosen)} "
        f"prediction{'s' if len(chosen) > 1 else ''}) and measure how far the {as_words(scored.score_name)}"
        f"{IN_NATS if in_nats else ''} {'falls' if signed else 'moves'}; "
        "the control takes out as many of the other tokens.",
        unit=scored.unit,
    )


def testable(model: Model, targets: Targets) -> list[tuple[int, int]]:
    """Prompts and targets of which at least two tokens can be taken out; a few targets of each prompt."""
    return [
        (prompt, target)
        for prompt in range(len(targets))
        if len(removable(model, targets, prompt)) > 1
        for target in evenly(range(len(targets.positions[prompt])), TARGETS_OF_A_PROMPT)
    ]


def removable(model: Model, targets: Targets, prompt: int) -> list[int]:
    """Positions of a prompt whose tokens can be taken out: those of the prompt itself that are not special."""
    special = set(getattr(model.tokenizer, "all_special_ids", None) or ())
    return [place for place, token in enumerate(targets.encoded.ids[prompt]) if token not in special]


def scores_without(
    model: Model,
    targets: Targets,
    prompt: int,
    sets: Sequence[Sequence[int]],
    neutral: Tensor,
    *,
    only: int | None = None,
) -> NDArray[np.float64]:
    """Scores [set, target] of a prompt with the tokens of each set put out together; of one target, or of all.

    Texts share what comes before their first hole where that saves work; see `models/shared_prefix.py`.
    """
    wanted = list(range(len(targets.positions[prompt]))) if only is None else [only]
    positions = [targets.positions[prompt][target] for target in wanted]
    ids = list(targets.ids[prompt][: max(positions) + 1])
    own = values_of(model, targets, [prompt])[:, : len(ids)]
    if not targets.has_dropout and is_shorter(model, len(ids), sets):

        def score_of(rows: int, chosen: Sequence[int]) -> Score:
            return targets.score([prompt] * rows, [wanted[target] for target in chosen])

        shared = scores_with_holes(model, ids, positions, score_of, sets, embeddings=own[0], filler=neutral)
        return shared.double().cpu().numpy()
    size = rows_at_once(model, len(ids), grad=False, targets=len(positions))
    found = []
    for start in range(0, len(sets), size):
        piece = sets[start : start + size]
        embeddings = own.expand(len(piece), -1, -1).clone()
        for row, places in enumerate(piece):
            embeddings[row, list(places)] = neutral.to(embeddings)
        found.append(scores_of(model, targets, [prompt] * len(piece), embeddings=embeddings, wanted=wanted))
    return torch.cat(found).double().cpu().numpy()


def evenly(members: Sequence[T], most: int) -> list[T]:
    """Members at even distances, the first and the last among them, at most so many."""
    if not members:
        return []
    places = np.unique(np.linspace(0, len(members) - 1, most).round().astype(int))
    return [members[int(place)] for place in places]


def _largest(attribution: NDArray[np.float64], inside: Sequence[int], size: int) -> list[int]:
    """The places with the largest attributions; the earlier one where two are equal."""
    order = np.argsort(-attribution[list(inside)], kind="stable")
    return [inside[int(place)] for place in order[:size]]
