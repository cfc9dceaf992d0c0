"""Does the stream carry the prediction from the layer that the lens names? The check of `logit_lens`.

The stream at the last token is moved, after that layer, into the same words in random orders: if the prediction was
there, it goes along. The control moves the streams of those other texts.

What the last layer gave is the prediction by construction, so moving it would test nothing. Where the lens says the
prediction only after the last layer, another layer is tested: the first from which on the answer's log-probability is
past the middle of its rise, from its lowest to its last value; the one before the last where there is no such layer.
Limits: a rise of less than a nat is none. That a layer carries the answer does not say that no earlier one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cutaway.core.edit import replace
from cutaway.core.progress import track
from cutaway.core.result import Check
from cutaway.core.site import Site
from cutaway.methods.control import compared
from cutaway.models.model import Model

LEAST_RISE = 1.0  # nats


@dataclass(frozen=True)
class Moved:
    """A stream that is moved into other texts.

    Attributes:
        ids: the prompt.
        site: the stream at its last token.
        tokens: whose joint probability is read.
    """

    ids: tuple[int, ...]
    site: Site
    tokens: tuple[int, ...]


def past_the_middle(values: NDArray[np.floating]) -> int:
    """The first index from which on the values are past the middle of their rise; -1 where they do not rise.

    >>> past_the_middle(np.array([-30.0, -40.0, -25.0, -10.0, 0.0]))
    3
    """
    low, last = float(values.min()), float(values[-1])
    if not last - low >= LEAST_RISE:
        return -1
    past = values >= (low + last) / 2
    return len(past) - int(np.logical_and.accumulate(past[::-1]).sum())


def can_be_moved(ids: Sequence[int]) -> bool:
    """Whether the words between the first and the last token can be put in another order."""
    return len(set(ids[1:-1])) > 1


def carried(
    model: Model, cases: Sequence[Moved], *, tested: int, controls: int, seed: int, claim: str, what: str
) -> Check:
    """Move the streams of some cases and compare with those of other texts.

    Args:
        model: the network.
        cases: one or more.
        tested: cases that are used at most, spread evenly.
        controls: random word orders.
        seed: draws them.
        claim: with `{layers}` for the layers that are tested.
        what: whose probability is read: "the prediction".
    """
    chosen = [cases[i] for i in np.unique(np.linspace(0, len(cases) - 1, tested).round().astype(int))]
    generator = torch.Generator().manual_seed(seed)
    moved, other = [], []
    for case in track(chosen, "moving the stream into other texts"):
        with_own, with_other = _probabilities(model, case, controls, generator)
        moved.append(with_own)
        other.append(with_other)
    layers = sorted({case.site.layer for case in chosen if isinstance(case.site.layer, int)})
    span = str(layers[0]) if len(layers) == 1 else f"{layers[0]} to {layers[-1]}"
    return compared(
        float(np.mean(moved)),
        np.mean(other, axis=0).tolist(),
        claim=claim.format(layers=span),
        how=f"Put it into texts of the same words in random orders and read how likely {what} becomes; the control "
        "puts in the stream of another such text.",
        unit=f"probability of {what}",
    )


def _probabilities(
    model: Model, case: Moved, controls: int, generator: torch.Generator
) -> tuple[list[float], list[float]]:
    """The probability of the tokens in shuffled texts that got the stream of the prompt, or that of each other."""
    texts = [_shuffled(case.ids, generator) for _ in range(controls)]
    own = model.run([list(case.ids)], read=(case.site,), logits="none")[case.site]
    others = model.run(texts, read=(case.site,), logits="none")[case.site]

    def probability(values: torch.Tensor) -> list[float]:
        logits = model.run(texts, edit=replace(case.site, values), logits="last").last_logits
        return [float(p) for p in logits.float().softmax(dim=-1)[:, list(case.tokens)].sum(dim=-1)]

    return probability(own), probability(others.roll(1, dims=0))


def _shuffled(ids: Sequence[int], generator: torch.Generator) -> list[int]:
    """The same tokens with all but the first and the last in another order, where there is one."""
    inner = list(ids[1:-1])
    mixed = inner
    for _ in range(20 if len(set(inner)) > 1 else 0):
        mixed = [inner[i] for i in torch.randperm(len(inner), generator=generator).tolist()]
        if mixed != inner:
            break
    return [ids[0], *mixed, ids[-1]]
