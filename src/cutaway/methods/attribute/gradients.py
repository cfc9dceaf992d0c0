"""How does each score change with each token's embedding? Scores and gradients of all targets of all prompts.

Prompts of one length share a forward pass, and so do the targets of a prompt. Where the score is a mean over passes
with dropout, each pass is made as often; the network is left as it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cutaway.core.progress import tracking
from cutaway.core.site import Site
from cutaway.methods.attribute.targets import Targets
from cutaway.models.model import Model
from cutaway.models.multigrad import (
    EMBED,
    Reduce,
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
        grads: [target, position, d_model], or [target, position] where they were reduced.
        embeddings: of its tokens, or what they are at the place of the gradients [position, d_model].
    """

    prompt: int
    values: Tensor
    grads: Tensor
    embeddings: Tensor


def slopes(
    model: Model, targets: Targets, at: Site = EMBED, reduce: Callable[[Tensor], Reduce] | None = None
) -> Iterator[Slopes]:
    """The gradients of every prompt, in the order in which prompts share passes.

    Args:
        model: the network.
        targets: what is explained.
        at: where gradients are taken.
        reduce: gives for embeddings [row, position, d_model] what to keep of their gradients; all when None.
    """
    with tracking("gradients at the tokens", total=len(targets)) as advance:
        for group in targets.groups():
            size = rows_at_once(model, len(targets.ids[group[0]]), grad=True)
            for start in range(0, len(group), size):
                prompts = group[start : start + size]
                embeddings = values_of(model, targets, prompts, at)
                kept = None if reduce is None else reduce(embeddings)
                found = gradients_of(model, targets, prompts, at=at, reduce=kept)
                for row, prompt in enumerate(prompts):
                    yield Slopes(prompt, found.values[row], found.grads[:, row], embeddings[row])
                advance(len(prompts))


def along(change: Tensor) -> Reduce:
    """Keep of gradients what they say of a change [(row,) position, d_model]: their product, summed over d_model."""
    return lambda grads: (grads * change[..., : grads.shape[2], :]).sum(dim=-1)


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
    reduce: Reduce | None = None,
) -> TargetGradients:
    """Scores and gradients of rows, each a prompt; see `multigrad.gradients_of_targets`."""
    ids = [targets.ids[prompt] for prompt in prompts]
    places, source, score = targets.positions[prompts[0]], targets.source(prompts[0]), targets.score(prompts)

    def once(reduce: Reduce | None) -> TargetGradients:
        return gradients_of_targets(
            model, ids, places, score, embeddings=embeddings, targets=wanted, source=source, at=at, reduce=reduce
        )

    if not targets.has_dropout:
        return once(reduce)
    found = [once(None) for _ in drawing(model, targets)]  # the mean first: what is kept of it may be a size
    values, grads = (torch.stack([getattr(each, name) for each in found]).mean(0) for name in ("values", "grads"))
    return TargetGradients(values, grads if reduce is None else reduce(grads))


def scores_of(
    model: Model,
    targets: Targets,
    prompts: Sequence[int],
    *,
    embeddings: Tensor | None = None,
    ids: Sequence[Sequence[int]] | None = None,
    positions: Sequence[int] | None = None,
    wanted: Sequence[int] | None = None,
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
        wanted: the targets that are scored; the rows then end at the last of them.
        source: how many of `ids` the encoder reads.
        at: as in `multigrad.gradients_of_targets`.
    """
    own = targets.positions[prompts[0]]
    places = (own if wanted is None else [own[target] for target in wanted]) if positions is None else positions
    rows = [targets.ids[prompt][: max(places) + 1] for prompt in prompts] if ids is None else ids
    read = targets.source(prompts[0]) if source is None else source
    score = targets.score(prompts, wanted)
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
