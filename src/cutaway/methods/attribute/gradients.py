"""How does each score change with each token's embedding? Scores and gradients of all targets of all prompts.

Prompts of one length share a forward pass, and so do the targets of a prompt. Where the score is a mean over passes
with dropout, each pass is made as often; the network is left as it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cutaway.core.progress import tracking
from cutaway.core.site import Site
from cutaway.methods.attribute.targets import Targets
from cutaway.models.model import Model
from cutaway.models.multigrad import (
    EMBED,
    TargetGradients,
    gradients_of_targets,
    rows_at_once,
    scores_of_targets,
    values_at,
)

DRAWS = 16  # passes with dropout for each figure


@dataclass(frozen=True, eq=False)
class Slopes:
    """The gradients of one prompt.

    Attributes:
        prompt: its index.
        values: the scores [target].
        grads: [target, position, d_model].
        embeddings: of its tokens, or what they are at the place of the gradients [position, d_model].
    """

    prompt: int
    values: Tensor
    grads: Tensor
    embeddings: Tensor


def slopes(model: Model, targets: Targets, at: Site = EMBED) -> Iterator[Slopes]:
    """The gradients of every prompt, in the order in which prompts share passes."""
    with tracking("gradients at the tokens", total=len(targets)) as advance:
        for group in targets.groups():
            size = rows_at_once(model, len(targets.ids[group[0]]), grad=True)
            for start in range(0, len(group), size):
                prompts = group[start : start + size]
                embeddings = values_of(model, targets, prompts, at)
                found = gradients_of(model, targets, prompts, at=at)
                for row, prompt in enumerate(prompts):
                    yield Slopes(prompt, found.values[row], found.grads[:, row], embeddings[row])
                advance(len(prompts))


def values_of(model: Model, targets: Targets, prompts: Sequence[int], at: Site = EMBED) -> Tensor:
    """The embeddings of prompts of one length, or what they become at a place further on [row, position, d_model]."""
    return values_at(model, [targets.ids[prompt] for prompt in prompts], source=targets.source(prompts[0]), at=at)


def gradients_of(
    model: Model,
    targets: Targets,
    prompts: Sequence[int],
    *,
    embeddings: Tensor | None = None,
    wanted: Sequence[int] | None = None,
    at: Site = EMBED,
) -> TargetGradients:
    """Scores and gradients of rows, each a prompt; see `multigrad.gradients_of_targets`."""
    ids = [targets.ids[prompt] for prompt in prompts]
    places, source = targets.positions[prompts[0]], targets.source(prompts[0])
    found = [
        gradients_of_targets(
            model, ids, places, targets.score(prompts), embeddings=embeddings, targets=wanted, source=source, at=at
        )
        for _ in drawing(model, targets)
    ]
    if len(found) == 1:
        return found[0]
    values, grads = (torch.stack([getattr(each, name) for each in found]).mean(0) for name in ("values", "grads"))
    return TargetGradients(values, grads)


def scores_of(
    model: Model,
    targets: Targets,
    prompts: Sequence[int],
    *,
    embeddings: Tensor | None = None,
    ids: Sequence[Sequence[int]] | None = None,
    positions: Sequence[int] | None = None,
    only: int | None = None,
    source: int | None = None,
    at: Site = EMBED,
) -> Tensor:
    """Scores [row, target] of rows, each a prompt (with other tokens, where `ids` are given).

    Args:
        model: the network.
        targets: what is explained.
        prompts: which prompt each row is.
        embeddings: as in `multigrad.gradients_of_targets`.
        ids: the tokens of the rows, where they are not those of the prompts.
        positions: of the targets in `ids`.
        only: the one target that is scored; the rows then end at it.
        source: how many of `ids` the encoder reads.
        at: as in `multigrad.gradients_of_targets`.
    """
    own = targets.positions[prompts[0]]
    places = (own if only is None else own[only : only + 1]) if positions is None else positions
    rows = [targets.ids[prompt][: max(places) + 1] for prompt in prompts] if ids is None else ids
    read = targets.source(prompts[0]) if source is None else source
    score = targets.score(prompts, only=only)
    found = [
        scores_of_targets(model, rows, places, score, embeddings=embeddings, source=read, at=at)
        for _ in drawing(model, targets)
    ]
    return found[0] if len(found) == 1 else torch.stack(found).mean(0)


def drawing(model: Model, targets: Targets) -> Iterator[int]:
    """Once; or, for a score that is a mean over dropout, once for each draw with dropout on."""
    if not targets.has_dropout:
        yield 0
        return
    for draw in range(DRAWS):
        with dropping(model.hf, seed=draw):
            yield draw


@contextlib.contextmanager
def dropping(hf: nn.Module, *, seed: int) -> Iterator[None]:
    """Dropout on, and nothing else that training switches; afterwards all is as it was."""
    layers = [module for module in hf.modules() if isinstance(module, nn.Dropout) and not module.training]
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_available():
            torch.cuda.manual_seed_all(seed)
        try:
            for module in layers:
                module.training = True
            yield
        finally:
            for module in layers:
                module.training = False
