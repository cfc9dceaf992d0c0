"""How does each of several predicted tokens depend on the input? One forward pass for all of them.

Under teacher forcing one pass over a prompt and its continuation predicts every token of the continuation, and in a
causal model the prediction at a position is the one that the text up to there gives alone. So the tokens share their
forward pass, and each takes one backward pass of its own. Two more things are not computed: gradients of weights, and
the unembedding at positions where nothing is predicted. The graph is cut in front of the unembedding: scores are
differentiated to that place for all targets at once, and each target goes on from its own position.

In an encoder-decoder a row is what the encoder reads and, behind it, what the decoder has said so far; `source` says
where the one ends and the other begins. Gradients reach both.

Limits: rows have equally many tokens, and a target's score depends on the logits at its own position only. Values
inside the network (`at`) are those of a network with one stack.
"""

from __future__ import annotations

import contextlib
import warnings
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
# Tokens of as many targets as are differentiated together.
BACKWARD_TOKENS = {"cpu": 768, "cuda": 16384}


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
    source: int = 0,
    at: Site = EMBED,
) -> Float[Tensor, "row target *more"]:
    """Scores [row, target] from one forward pass; the arguments are those of `gradients_of_targets`.

    A score may give more than one number for a target [row, target, ...].
    """
    with torch.no_grad():
        _, cut = _forward(model, ids, positions, embeddings, source, at, grad=False)
        return score(cut.logits)


def gradients_of_targets(
    model: Model,
    ids: Sequence[Sequence[int]],
    positions: Sequence[int],
    score: Score,
    *,
    embeddings: Float[Tensor, "row position d_model"] | None = None,
    targets: Sequence[int] | None = None,
    source: int = 0,
    at: Site = EMBED,
) -> TargetGradients:
    """Scores of several targets and their gradients at the embeddings: one forward pass, one backward pass a target.

    Args:
        model: the network.
        ids: token ids of each row, equally many.
        positions: for each target the index of the token whose logits are scored.
        score: logits [row, target, vocab] -> scores [row, target].
        embeddings: values to put in place of the tokens' own embeddings [row, position, d_model].
        targets: which of the targets to differentiate; all of them when None.
        source: in an encoder-decoder, how many tokens at the start of a row the encoder reads.
        at: where the gradient is taken, and what `embeddings` takes the place of: a stream of width d_model.
    """
    chosen = list(range(len(positions))) if targets is None else list(targets)
    with _weights_at_rest(model.hf), torch.enable_grad():
        leaves, cut = _forward(model, ids, positions, embeddings, source, at, grad=True)
        values = score(cut.logits)
        (slope,) = torch.autograd.grad(values.sum(), cut.leaf)
        grads = leaves[0].new_empty(len(chosen), len(ids), len(ids[0]), leaves[0].shape[-1])
        size = _targets_at_once(ids, leaves[0].device)
        for start in range(0, len(chosen), size):
            piece = chosen[start : start + size]
            _backward(cut, leaves, slope, piece, grads[start : start + size], keep=start + size < len(chosen))
    return TargetGradients(values.detach(), grads)


def _targets_at_once(ids: Sequence[Sequence[int]], device: torch.device) -> int:
    """Backward passes of several targets as one: worth it where a pass alone is too small to keep the machine busy."""
    most = BACKWARD_TOKENS["cuda" if device.type == "cuda" else "cpu"]
    return max(1, most // (len(ids) * len(ids[0])))


def _backward(
    cut: _Cut, leaves: tuple[Tensor, ...], slope: Tensor, targets: Sequence[int], into: Tensor, *, keep: bool
) -> None:
    """The gradients of some targets [target, row, position, d_model]; the graph is kept where more follow."""
    if len(targets) > 1 and cut.hidden is not None:
        along = slope.new_zeros(len(targets), *cut.hidden.shape)
        for place, target in enumerate(targets):
            along[place, :, cut.places[target]] = slope[:, target]
        try:
            # PyTorch warns of operations that it has no batched form of: they run one after the other.
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*performance drop.*")
                found = torch.autograd.grad(cut.hidden, leaves, along, retain_graph=True, is_grads_batched=True)
            torch.cat(found, dim=2, out=into)
            return
        except RuntimeError as error:
            if "vmap" not in str(error) and "batch" not in str(error):
                raise
    for place, target in enumerate(targets):
        last = not keep and place == len(targets) - 1
        found = torch.autograd.grad(cut.ends[target], leaves, slope[:, target], retain_graph=not last)
        torch.cat(found, dim=1, out=into[place])


@torch.no_grad()
def values_at(model: Model, ids: Sequence[Sequence[int]], *, source: int = 0, at: Site = EMBED) -> Tensor:
    """The tokens' own embeddings, or what they become at a place further on [row, position, d_model]."""
    if not source:
        return model.run([list(row) for row in ids], read=at, logits="none")[at]
    seen: list[Tensor] = []

    def keep(value: Tensor) -> None:
        seen.append(value.detach().clone())
        if len(seen) == 2:
            raise taps.Stop

    with contextlib.suppress(taps.Stop), taps.module_taps(_embedding_taps(model, keep)):
        model.hf(**_inputs(model, ids, source))
    return torch.cat(seen, dim=1)


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
    """Where the graph is cut: `ends` [target][row, width] end the body, `leaf` [row, target, width] begins the head.

    `hidden` is the whole end of the body, at whose `places` the ends are.
    """

    ends: tuple[Tensor, ...]
    leaf: Tensor
    logits: Tensor
    hidden: Tensor | None = None
    places: tuple[int, ...] = ()


def _forward(
    model: Model,
    ids: Sequence[Sequence[int]],
    positions: Sequence[int],
    embeddings: Tensor | None,
    source: int,
    at: Site,
    *,
    grad: bool,
) -> tuple[tuple[Tensor, ...], _Cut]:
    """One pass; the embeddings as leaves (where gradients are wanted) and the cut."""
    length = len(ids[0]) - source
    _refuse(model, ids, positions, source, at)
    positions = [position - source for position in positions]
    found: list[tuple[tuple[Tensor, ...], Tensor, Tensor]] = []

    def cut(hidden: Tensor) -> Tensor | None:
        if hidden.dim() != 3 or hidden.shape[1] != length:
            return None  # this network gathers positions by itself: the logits are cut instead
        ends = tuple(hidden[:, position] for position in positions)
        leaf = torch.stack(ends, dim=1).detach().requires_grad_(grad)
        found.append((ends, leaf, hidden))
        return leaf

    assert model.anatomy.unembed is not None
    kept = _Kept(model, ids, embeddings, source, at, grad)
    with kept.installed(), taps.module_taps([taps.ModuleTap(model.anatomy.unembed, "in", cut)]):
        logits = model.hf(**_inputs(model, ids, source)).logits
    if not found:
        ends = tuple(logits[:, position] for position in positions)
        leaf = torch.stack(ends, dim=1).detach().requires_grad_(grad)
        found.append((ends, leaf, logits))
        logits = leaf
    ends, leaf, hidden = found[-1]
    return kept.leaves or (leaf,), _Cut(ends, leaf, logits, hidden, tuple(positions))


class _Kept:
    """The embeddings of a pass: put in place where they are given, and kept as leaves where gradients are wanted."""

    def __init__(
        self, model: Model, ids: Sequence[Sequence[int]], given: Tensor | None, source: int, at: Site, grad: bool
    ) -> None:
        self.model, self.grad, self.source, self.at = model, grad, source, at
        self.parts = [] if given is None else [given[:, :source], given[:, source:]]
        self.own: list[Tensor] = []
        edits = [] if given is None or source else [replace(at, given)]
        clock = Clock(lengths=[len(ids[0])] * len(ids), rows=list(range(len(ids))))
        grads = (at,) if grad and not source else ()
        self.program = None if source else Program(model.anatomy, (), edits, clock, grad=grads)

    def installed(self) -> contextlib.AbstractContextManager[None]:
        if self.program is not None:
            return self.program.installed()
        return taps.module_taps(_embedding_taps(self.model, self._visit))

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        return tuple(self.program.leaves.values()) if self.program is not None else tuple(self.own)

    def _visit(self, value: Tensor) -> Tensor:
        """The encoder embeds its tokens before the decoder does, in one module or in two."""
        new = self.parts[len(self.own)].to(value) if self.parts else value
        self.own.append(new.detach().requires_grad_(self.grad))
        return self.own[-1]


def _embedding_taps(model: Model, visit: taps.Visitor) -> list[taps.ModuleTap]:
    stacks = (model.hf.get_encoder(), model.hf.get_decoder())
    modules = dict.fromkeys(stack.get_input_embeddings() for stack in stacks)
    return [taps.ModuleTap(module, "out", visit) for module in modules]


def _inputs(model: Model, ids: Sequence[Sequence[int]], source: int) -> dict[str, Any]:
    if not source:
        return forward.model_inputs(model.hf, ids)
    said = [list(row[source:]) for row in ids]
    return {**forward.model_inputs(model.hf, [list(row[:source]) for row in ids], said), "use_cache": False}


def _refuse(model: Model, ids: Sequence[Sequence[int]], positions: Sequence[int], source: int, at: Site) -> None:
    two = model.anatomy.is_encoder_decoder
    if model.anatomy.unembed is None or two != bool(source) or (two and at != EMBED):
        raise ModelError(
            f"{type(model.hf).__name__} does not continue the text that it reads.",
            "Targets are tokens that a causal language model predicts in its own input, or a decoder behind a source.",
        )
    lengths = {len(row) for row in ids}
    if len(lengths) != 1:
        raise PlanError(
            f"The rows have {' and '.join(map(str, sorted(lengths)))} tokens.",
            "Rows of one call are equally long.",
        )
    (length,) = lengths
    outside = [position for position in positions if not source <= position < length]
    if outside:
        raise PlanError(f"Nothing is predicted at position {outside[0]}:", f"there are {source} to {length - 1}.")


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
