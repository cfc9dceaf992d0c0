"""How does each of several predicted tokens depend on the input? One forward pass for all of them.

Under teacher forcing one pass over a prompt and its continuation predicts every token of the continuation, and in a
causal model the prediction at a position is the one that the text up to there gives alone. So the tokens share their
forward pass, and each takes one backward pass of its own. Two more things are not computed: gradients of weights, and
the unembedding at positions where nothing is predicted. The graph is cut in front of the unembedding: scores are
differentiated to that place for all targets at once, and each target goes on from its own position.

Limits: rows have equally many tokens, and a target's score depends on the logits at its own position only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.core.edit import replace
from cutaway.core.errors import ModelError, PlanError
from cutaway.core.site import Site
from cutaway.models import forward, memory, taps
from cutaway.models.encode import Encoded
from cutaway.models.program import Clock, Program

if TYPE_CHECKING:
    from cutaway.models.model import Model

Score = Callable[[Tensor], Tensor]
EMBED = Site("embed")
# A graph of more tokens leaves the caches of a CPU: its backward passes wait for memory.
CPU_TOKENS = 512


@dataclass(frozen=True, eq=False)
class TargetGradients:
    """Scores of targets and their gradients at the embeddings.

    Attributes:
        values: [row, target].
        grads: [target, row, position, d_model], for the targets that were asked for, in that order.
    """

    values: Float[Tensor, "row every_target"]
    grads: Float[Tensor, "target row position d_model"]


def scores_of_targets(
    model: Model,
    ids: Sequence[Sequence[int]],
    positions: Sequence[int],
    score: Score,
    *,
    embeddings: Float[Tensor, "row position d_model"] | None = None,
) -> Float[Tensor, "row target"]:
    """Scores [row, target] from one forward pass; the arguments are those of `gradients_of_targets`."""
    with torch.no_grad():
        _, cut = _forward(model, ids, positions, embeddings, grad=False)
        return score(cut.logits)


def gradients_of_targets(
    model: Model,
    ids: Sequence[Sequence[int]],
    positions: Sequence[int],
    score: Score,
    *,
    embeddings: Float[Tensor, "row position d_model"] | None = None,
    targets: Sequence[int] | None = None,
) -> TargetGradients:
    """Scores of several targets and their gradients at the embeddings: one forward pass, one backward pass a target.

    Args:
        model: the network.
        ids: token ids of each row, equally many.
        positions: for each target the index of the token whose logits are scored.
        score: logits [row, target, vocab] -> scores [row, target].
        embeddings: values to put in place of the tokens' own embeddings [row, position, d_model].
        targets: which of the targets to differentiate; all of them when None.
    """
    chosen = list(range(len(positions))) if targets is None else list(targets)
    with _weights_at_rest(model.hf), torch.enable_grad():
        leaf, cut = _forward(model, ids, positions, embeddings, grad=True)
        values = score(cut.logits)
        (slope,) = torch.autograd.grad(values.sum(), cut.leaf)
        grads = leaf.new_empty(len(chosen), *leaf.shape)
        for place, target in enumerate(chosen):
            last = place == len(chosen) - 1
            (grads[place],) = torch.autograd.grad(cut.ends[target], leaf, slope[:, target], retain_graph=not last)
    return TargetGradients(values.detach(), grads)


def rows_at_once(model: Model, tokens: int, *, grad: bool) -> int:
    """How many rows of so many tokens to give to one call."""
    one = Encoded(((0,) * tokens,))
    request = forward.Request(one, (), (), "last", (EMBED,) if grad else ())
    bytes_per_row = forward.bytes_per_row(model.hf, model.anatomy, request, tokens)
    device = forward.input_device(model.hf)
    rows = memory.rows_at_once(bytes_per_row, tokens, device)
    return rows if device.type == "cuda" or not grad else max(1, min(rows, CPU_TOKENS // tokens))


@dataclass(frozen=True, eq=False)
class _Cut:
    """Where the graph is cut: `ends` [target][row, width] end the body, `leaf` [row, target, width] begins the head."""

    ends: tuple[Tensor, ...]
    leaf: Tensor
    logits: Tensor


def _forward(
    model: Model,
    ids: Sequence[Sequence[int]],
    positions: Sequence[int],
    embeddings: Tensor | None,
    *,
    grad: bool,
) -> tuple[Tensor, _Cut]:
    """One pass; the embeddings as a leaf (where gradients are wanted) and the cut."""
    length = len(ids[0])
    _refuse(model, ids, positions)
    edits = [] if embeddings is None else [replace(EMBED, embeddings)]
    clock = Clock(lengths=[length] * len(ids), rows=list(range(len(ids))))
    program = Program(model.anatomy, (), edits, clock, grad=(EMBED,) if grad else ())
    found: list[tuple[tuple[Tensor, ...], Tensor]] = []

    def cut(hidden: Tensor) -> Tensor | None:
        if hidden.dim() != 3 or hidden.shape[1] != length:
            return None  # this network gathers positions by itself: the logits are cut instead
        ends = tuple(hidden[:, position] for position in positions)
        leaf = torch.stack(ends, dim=1).detach().requires_grad_(grad)
        found.append((ends, leaf))
        return leaf

    assert model.anatomy.unembed is not None
    with program.installed(), taps.module_taps([taps.ModuleTap(model.anatomy.unembed, "in", cut)]):
        logits = model.hf(**forward.model_inputs(model.hf, ids)).logits
    if not found:
        ends = tuple(logits[:, position] for position in positions)
        leaf = torch.stack(ends, dim=1).detach().requires_grad_(grad)
        found.append((ends, leaf))
        logits = leaf
    ends, leaf = found[-1]
    return program.leaves.get(EMBED, leaf), _Cut(ends, leaf, logits)


def _refuse(model: Model, ids: Sequence[Sequence[int]], positions: Sequence[int]) -> None:
    if model.anatomy.unembed is None or model.anatomy.is_encoder_decoder:
        raise ModelError(
            f"{type(model.hf).__name__} does not continue the text that it reads.",
            "Targets are tokens that a causal language model predicts in its own input.",
        )
    lengths = {len(row) for row in ids}
    if len(lengths) != 1:
        raise PlanError(
            f"The rows have {' and '.join(map(str, sorted(lengths)))} tokens.",
            "Rows of one call are equally long.",
        )
    (length,) = lengths
    outside = [position for position in positions if not 0 <= position < length]
    if outside:
        raise PlanError(f"Nothing is predicted at position {outside[0]}:", f"there are 0 to {length - 1}.")


@contextlib.contextmanager
def _weights_at_rest(hf: Any) -> Iterator[None]:
    """No weight wants a gradient inside."""
    wanted = [weight for weight in hf.parameters() if weight.requires_grad]
    try:
        for weight in wanted:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in wanted:
            weight.requires_grad_(True)
