"""How does each of several predicted tokens depend on the input? One forward pass for all of them.

Under teacher forcing one pass over a prompt and its continuation predicts every token of the continuation, and in a
causal model the prediction at a position is the one that the text up to there gives alone. So the tokens share their
forward pass, and each takes one backward pass of its own. Three more things are not computed: gradients of weights,
the unembedding at positions where nothing is predicted, and slopes of tokens that a target does not see. The graph is
cut in front of the unembedding: scores are differentiated to that place for all targets at once, and each target goes
on from its own position. A backward pass goes over all tokens of its forward pass; so early targets of a long
continuation get a second, shorter one, where that costs less.

In an encoder-decoder a row is what the encoder reads and, behind it, what the decoder has said so far; `source` says
where the one ends and the other begins. Gradients reach both.

Limits: rows have equally many tokens, and a target's score depends on the logits at its own position only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.core.edit import replace
from cutaway.core.errors import ModelError, PlanError
from cutaway.core.site import Site
from cutaway.models import forward, memory, pullback, taps
from cutaway.models.encode import Encoded
from cutaway.models.layer_pullback import Unexplained
from cutaway.models.pass_groups import groups_of_targets, pass_tokens
from cutaway.models.program import Clock, Program

if TYPE_CHECKING:
    from cutaway.models.model import Model

Score = Callable[[Tensor], Tensor]
# Gradients [target, row, position, d_model] at the first positions -> what is kept of them [target, row, position].
Reduce = Callable[[Tensor], Tensor]
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
        grads: [target, row, position, d_model], for the targets that were asked for, in that order; or
            [target, row, position], what was kept of them.
    """

    values: Float[Tensor, "row every_target"]
    grads: Float[Tensor, "target row position *d_model"]


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
    reduce: Reduce | None = None,
    formulas: pullback.Formulas | Literal["where they serve"] | None = "where they serve",
) -> TargetGradients:
    """Scores of several targets and their gradients at the embeddings: shared forward passes, one backward a target.

    Args:
        model: the network.
        ids: token ids of each row, equally many.
        positions: for each target the index of the token whose logits are scored.
        score: logits [row, target, vocab] -> scores [row, target].
        embeddings: values to put in place of the tokens' own embeddings [row, position, d_model].
        targets: which of the targets to differentiate; all of them when None.
        source: in an encoder-decoder, how many tokens at the start of a row the encoder reads.
        at: where the gradient is taken, and what `embeddings` takes the place of: a stream of width d_model.
        reduce: what to keep of gradients, so that those of many targets of a long text need no memory.
        formulas: go back by formulas (see `pullback`); None for autograd.
    """
    chosen = list(range(len(positions))) if targets is None else list(targets)
    if formulas == "where they serve":
        formulas = None if at != EMBED else pullback.formulas_for(model, ids, len(chosen))
    if formulas is not None:
        with contextlib.suppress(Unexplained):
            return _by_formulas(model, formulas, ids, positions, score, embeddings, chosen, reduce)
    found = _Found((len(chosen), len(ids), len(ids[0])), reduce)
    with _weights_at_rest(model.hf), torch.enable_grad():
        leaves, cut = _forward(model, ids, positions, embeddings, source, at, grad=True)
        values = score(cut.logits)
        (slope,) = torch.autograd.grad(values.sum(), cut.leaf)
        places = tuple(positions[target] for target in chosen)
        if model.anatomy.is_causal:
            first, *shorter = groups_of_targets(places, len(ids[0]), len(ids), pass_tokens(slope.device))
        else:
            first, shorter = tuple(range(len(places))), []
        _backward(cut, leaves, slope, [chosen[member] for member in first], first, found)
        del leaves, cut
        for group in shorter:
            length = places[group[0]] + 1
            rows, given = [row[:length] for row in ids], None if embeddings is None else embeddings[:, :length]
            leaves, cut = _forward(model, rows, [places[i] for i in group], given, source, at, grad=True, scores=False)
            own = slope[:, [chosen[member] for member in group]]
            _backward(cut, leaves, own, range(len(group)), group, found)
            del leaves, cut
    return TargetGradients(values.detach(), found.whole)


def _by_formulas(
    model: Model,
    formulas: pullback.Formulas,
    ids: Sequence[Sequence[int]],
    positions: Sequence[int],
    score: Score,
    embeddings: Tensor | None,
    chosen: Sequence[int],
    reduce: Reduce | None,
) -> TargetGradients:
    _refuse(model, ids, positions, 0, EMBED)
    found = _Found((len(chosen), len(ids), len(ids[0])), reduce)
    kept = _Kept(model, ids, embeddings, 0, EMBED, grad=True)
    with _weights_at_rest(model.hf), torch.enable_grad():
        with kept.installed():
            run = pullback.watched(model, formulas, ids, positions, score)
        for members, grads in pullback.pulled(run, kept.leaves[0], chosen, [positions[target] for target in chosen]):
            found.put(members, [grads])
    return TargetGradients(run.values, found.whole)


class _Found:
    """Gradients as they come: of some targets, at the first positions; the rest is zero."""

    def __init__(self, shape: tuple[int, int, int], reduce: Reduce | None) -> None:
        self.shape, self.reduce = shape, reduce
        self.whole = torch.zeros(shape)

    def put(self, members: Sequence[int], grads: Sequence[Tensor]) -> None:
        """Keep gradients [target, row, position, d_model], given in parts that follow each other."""
        several = grads[0] if len(grads) == 1 else torch.cat(list(grads), dim=2)
        kept = several if self.reduce is None else self.reduce(several)
        if self.whole.dim() < kept.dim() or self.whole.dtype != kept.dtype or self.whole.device != kept.device:
            self.whole = kept.new_zeros(*self.shape, *kept.shape[3:])
        self.whole[list(members), :, : kept.shape[2]] = kept


def _backward(
    cut: _Cut,
    leaves: tuple[Tensor, ...],
    slope: Tensor,
    targets: Sequence[int],
    members: Sequence[int],
    found: _Found,
) -> None:
    """The gradients of some targets of a pass, as many at once as keep the machine busy; the graph is used up."""
    most = BACKWARD_TOKENS["cuda" if slope.device.type == "cuda" else "cpu"]
    size = max(1, most // sum(leaf.shape[0] * leaf.shape[1] for leaf in leaves))
    for start in range(0, len(targets), size):
        piece = targets[start : start + size]
        last = start + size >= len(targets)
        for place, grads in _of_some(cut, leaves, slope, piece, keep=not last):
            found.put(members[start : start + size][place], grads)


def _of_some(
    cut: _Cut, leaves: tuple[Tensor, ...], slope: Tensor, targets: Sequence[int], *, keep: bool
) -> Iterator[tuple[slice, list[Tensor]]]:
    """Gradients [target, row, position, d_model] of targets, together where PyTorch can, and which of them those are."""
    if len(targets) > 1:
        along = slope.new_zeros(len(targets), *cut.hidden.shape)
        for place, target in enumerate(targets):
            along[place, :, cut.places[target]] = slope[:, target]
        try:
            # PyTorch warns of operations that it has no batched form of: they run one after the other.
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*performance drop.*")
                together = torch.autograd.grad(cut.hidden, leaves, along, retain_graph=True, is_grads_batched=True)
        except RuntimeError as error:
            if "vmap" not in str(error) and "batch" not in str(error):
                raise
        else:
            yield slice(None), list(together)
            return
    for place, target in enumerate(targets):
        last = not keep and place == len(targets) - 1
        end = cut.hidden[:, cut.places[target]]
        alone = torch.autograd.grad(end, leaves, slope[:, target], retain_graph=not last)
        yield slice(place, place + 1), [grad[None] for grad in alone]


@torch.no_grad()
def values_at(
    model: Model,
    ids: Sequence[Sequence[int]],
    *,
    source: int = 0,
    at: Site = EMBED,
    embeddings: Float[Tensor, "row position d_model"] | None = None,
) -> Tensor:
    """The tokens' own embeddings (or others), or what they become at a place further on [row, position, d_model]."""
    if not source:
        edits = [] if embeddings is None else [replace(EMBED, embeddings)]
        return model.run([list(row) for row in ids], read=at, edit=edits, logits="none")[at]
    seen: list[Tensor] = []
    parts = [] if embeddings is None else [embeddings[:, :source], embeddings[:, source:]]

    def put(value: Tensor) -> Tensor:
        return parts.pop(0).to(value)

    def keep(value: Tensor) -> None:
        seen.append(value.detach().clone())
        if len(seen) == 2:
            raise taps.Stop

    places = [*(_places(model, EMBED, put) if parts else ()), *_places(model, at, keep)]
    with contextlib.suppress(taps.Stop), taps.module_taps(places):
        model.hf(**_inputs(model, ids, source))
    return torch.cat(seen, dim=1)


def rows_at_once(model: Model, tokens: int, *, grad: bool, targets: int = 1) -> int:
    """How many rows of so many tokens, and of so many targets, to give to one call."""
    one = Encoded(((0,) * tokens,))
    request = forward.Request(one, (), (), "last", (EMBED,) if grad else ())
    bytes_per_row = forward.bytes_per_row(model.hf, model.anatomy, request, tokens)
    bytes_per_row += 3 * 4 * (targets - 1) * model.anatomy.vocab_size  # logits, and what a score makes of them
    device = forward.input_device(model.hf)
    rows = memory.rows_at_once(bytes_per_row, tokens, device)
    return rows if device.type == "cuda" or not grad else max(1, min(rows, CPU_TOKENS // tokens))


@dataclass(frozen=True, eq=False)
class _Cut:
    """Where the graph is cut: `hidden` ends the body, and at its `places` [target] begins the head.

    There `leaf` [row, target, width] takes over, from which the logits [row, target, vocab] are computed.
    """

    hidden: Tensor
    places: tuple[int, ...]
    leaf: Tensor
    logits: Tensor


def _forward(
    model: Model,
    ids: Sequence[Sequence[int]],
    positions: Sequence[int],
    embeddings: Tensor | None,
    source: int,
    at: Site,
    *,
    grad: bool,
    scores: bool = True,
) -> tuple[tuple[Tensor, ...], _Cut]:
    """One pass; the embeddings as leaves (where gradients are wanted) and the cut. Without `scores` it ends there."""
    length = len(ids[0]) - source
    _refuse(model, ids, positions, source, at)
    places = tuple(position - source for position in positions)
    found: list[tuple[Tensor, Tensor]] = []

    def cut(hidden: Tensor) -> Tensor | None:
        if hidden.dim() != 3 or hidden.shape[1] != length:
            return None  # this network gathers positions by itself: the logits are cut instead
        found.append((hidden, hidden[:, list(places)].detach().requires_grad_(grad)))
        if not scores:
            raise taps.Stop
        return found[-1][1]

    assert model.anatomy.unembed is not None
    kept, logits = _Kept(model, ids, embeddings, source, at, grad), None
    end = taps.ModuleTap(model.anatomy.unembed, "in", cut)
    with contextlib.suppress(taps.Stop), kept.installed(), taps.module_taps([end]):
        logits = model.hf(**_inputs(model, ids, source)).logits
    if not found:
        assert logits is not None
        found.append((logits, logits[:, list(places)].detach().requires_grad_(grad)))
        logits = found[-1][1]
    hidden, leaf = found[-1]
    return kept.leaves or (leaf,), _Cut(hidden, places, leaf, leaf if logits is None else logits)


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
        return taps.module_taps(_places(self.model, self.at, self._visit))

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        return tuple(self.program.leaves.values()) if self.program is not None else tuple(self.own)

    def _visit(self, value: Tensor) -> Tensor:
        """The encoder's place is passed before the decoder's is."""
        new = self.parts[len(self.own)].to(value) if self.parts else value
        self.own.append(new.detach().requires_grad_(self.grad))
        return self.own[-1]


def _places(model: Model, at: Site, visit: taps.Visitor) -> list[taps.ModuleTap]:
    """Taps on a place of both stacks of an encoder-decoder: their embeddings, or the stream that enters a layer."""
    if at != EMBED:
        found = [model.anatomy.place(each) for each in (dataclasses.replace(at, stack="encoder"), at)]
        return [taps.ModuleTap(place.module, place.side, visit, place.index) for place in found]
    stacks = (model.hf.get_encoder(), model.hf.get_decoder())
    modules = dict.fromkeys(stack.get_input_embeddings() for stack in stacks)  # one module, or two
    return [taps.ModuleTap(module, "out", visit) for module in modules]


def _inputs(model: Model, ids: Sequence[Sequence[int]], source: int) -> dict[str, Any]:
    if not source:
        return forward.model_inputs(model.hf, ids)
    said = [list(row[source:]) for row in ids]
    return {**forward.model_inputs(model.hf, [list(row[:source]) for row in ids], said), "use_cache": False}


def _refuse(model: Model, ids: Sequence[Sequence[int]], positions: Sequence[int], source: int, at: Site) -> None:
    two = model.anatomy.is_encoder_decoder
    if model.anatomy.unembed is None or two != bool(source):
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
