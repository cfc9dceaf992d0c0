"""How does each score change with each token's embedding? Gradients of all targets of all prompts.

Prompts of one length share a forward pass, and so do the targets of a prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from cutaway.core.progress import tracking
from cutaway.methods.attribute.neutral import own_embeddings
from cutaway.methods.attribute.targets import Targets
from cutaway.models.model import Model
from cutaway.models.multigrad import gradients_of_targets, rows_at_once


@dataclass(frozen=True, eq=False)
class Slopes:
    """The gradients of one prompt.

    Attributes:
        prompt: its index.
        values: the scores [target].
        grads: [target, position, d_model].
        embeddings: of its tokens [position, d_model].
    """

    prompt: int
    values: Tensor
    grads: Tensor
    embeddings: Tensor


def slopes(model: Model, targets: Targets) -> Iterator[Slopes]:
    """The gradients of every prompt, in the order in which prompts share passes."""
    with tracking("gradients at the tokens", total=len(targets)) as advance:
        for group in targets.groups():
            size = rows_at_once(model, len(targets.ids[group[0]]), grad=True)
            for start in range(0, len(group), size):
                prompts = group[start : start + size]
                ids = [list(targets.ids[prompt]) for prompt in prompts]
                embeddings = own_embeddings(model, ids)
                found = gradients_of_targets(model, ids, targets.positions[prompts[0]], targets.score(prompts))
                for row, prompt in enumerate(prompts):
                    yield Slopes(prompt, found.values[row], found.grads[:, row], embeddings[row])
                advance(len(prompts))
