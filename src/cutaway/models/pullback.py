"""Gradients of many targets by formulas instead of autograd's graph: exact, with less to compute.

A backward pass through a graph goes over all tokens of its forward pass, and asks for one operation after the other. By
formulas (`layer_pullback`) a target goes back over the tokens that it sees; in the last layer, where nothing but its own
position is scored, its MLP and its query are those of one token. Targets of about one length go together, as many as
keep a processor's caches full, and each thread takes targets of its own.

The formulas are those of a stream to which attention and an MLP are added. Whether a network is of that kind is seen from
values: once a few gradients are compared with autograd's, and in every run each link of the chain (the sums, what the
norms give, what heads read) is compared with what the network itself has computed. Otherwise autograd is asked.

Limits: one causal stack, float32 on a CPU, texts so short that the patterns of all layers are no burden.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cutaway.core.errors import ModelError
from cutaway.models import forward, layer_pullback, taps
from cutaway.models.edge_parts import LayerParts, parts_of
from cutaway.models.layer_pullback import LayerPullback, Only, Seen, Unexplained, Upto
from cutaway.models.probe import same

if TYPE_CHECKING:
    from cutaway.models.model import Model

DTYPES = {torch.float32}  # double precision is asked for where rounding matters: autograd follows the network in that
FEWEST = 4  # targets, for which it is worth the trouble
GROUP_TOKENS = 640  # of targets that go back together: fewer wait for weights, more compute for nothing
BATCH_TOKENS = 16384  # of targets of a thread that are in the same layer
ROUNDING = 1e-5  # relative, of single precision: in that many norms compute whatever the weights are
PATTERNS = 10  # times the size of a stream: what the pattern of a layer may be


@dataclass(frozen=True, eq=False)
class Formulas:
    """What was learned of a network: its parts, and by what q·k is multiplied in each layer."""

    parts: tuple[LayerParts, ...]
    scales: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Watched:
    """One forward pass of rows, prepared for going back.

    Attributes:
        values: scores [row, target].
        slope: of these in the stream after the last layer [row, target, d_model].
        layers: their pullbacks.
        entered: the stream before the first layer [row, position, d_model], with its graph.
    """

    values: Tensor
    slope: Tensor
    layers: Sequence[LayerPullback]
    entered: Tensor


def formulas_for(model: Model, rows: Sequence[Sequence[int]], targets: int) -> Formulas | None:
    """What is known of a network, where formulas serve such rows and so many targets."""
    weight = next(model.hf.parameters())
    if targets < FEWEST or weight.device.type != "cpu" or weight.dtype not in DTYPES:
        return None
    anatomy = model.anatomy
    if not anatomy.is_causal or anatomy.is_encoder_decoder or anatomy.unembed is None:
        return None
    if anatomy.n_heads * len(rows[0]) > PATTERNS * anatomy.d_model:
        return None
    if any(isinstance(module, nn.Dropout) and module.training and module.p for module in model.hf.modules()):
        return None
    if "_formulas" not in model.__dict__:
        model.__dict__["_formulas"] = None  # while it is learned, autograd is asked
        model.__dict__["_formulas"] = _learned(model)
    known: Formulas | None = model.__dict__["_formulas"]
    return known


def watched(
    model: Model,
    formulas: Formulas,
    ids: Sequence[Sequence[int]],
    positions: Sequence[int],
    score: Callable[[Tensor], Tensor],
) -> Watched:
    """Run rows up to their scores, with gradients enabled.

    Raises:
        Unexplained: the run was not what the formulas say.
    """
    layers: list[LayerPullback] = []
    entered: list[Tensor] = []
    left: list[Tensor] = []  # the stream after the layer before

    def prepare(part: LayerParts, scale: float, seen: Seen) -> None:
        if left and not same(left[0], seen.values["stream"], ROUNDING):
            raise Unexplained("the stream after a layer is not that before the next one")
        before = layers[-1] if layers else None
        layers.append(layer_pullback.prepared(part, seen, scale, ROUNDING, before))
        if before is None:
            entered.append(seen.values["entered"])
        left[:] = [seen.values["after"]]
        seen.clear()  # a layer at a time: what is kept of all is what going back needs

    scales = dict(zip(formulas.parts, formulas.scales, strict=True))
    _, end = _run(model, formulas.parts, ids, positions, lambda part, seen: prepare(part, scales[part], seen))
    values = score(end.logits)
    (slope,) = torch.autograd.grad(values.sum(), end.leaf)
    slope = _before_the_end(end, slope, positions)
    return Watched(values.detach(), slope, layers, entered[0])


@dataclass(frozen=True, eq=False)
class _End:
    """The end of a run: the graph is cut after the last layer, at `stream`, and in front of the unembedding.

    Attributes:
        stream, final: [row, position, d_model]; the one gives the other.
        leaf: `final` at the targets, from which the logits are computed [row, target, d_model].
        logits: [row, target, vocab].
    """

    stream: Tensor
    final: Tensor
    leaf: Tensor
    logits: Tensor


def _run(
    model: Model,
    parts: Sequence[LayerParts],
    ids: Sequence[Sequence[int]],
    positions: Sequence[int],
    done: Callable[[LayerParts, Seen], None] | None = None,
) -> tuple[list[Seen], _End]:
    """What the layers did, and what came after them.

    Args:
        model: the network.
        parts: of its layers.
        ids: rows.
        positions: of the targets.
        done: gets what a layer did when it has run; without it the scores are seen too, to be learned from.
    """
    seen = [Seen() for _ in parts]
    modules: list[taps.ModuleTap] = []
    attention: dict[nn.Module, taps.AttentionTap] = {}
    for part, each in zip(parts, seen, strict=True):
        own, call = layer_pullback.watching(part, each, learn=done is None)
        modules += own
        if done is not None:
            modules.append(
                taps.ModuleTap(part.layer.module, "out", partial(_tell, done, part, each), part.layer.out_index)
            )
        attention |= call
    streams: list[Tensor] = []
    finals: list[Tensor] = []

    def begin(stream: Tensor) -> Tensor:
        streams.append(stream.detach().requires_grad_(True))
        return streams[0]

    def cut(final: Tensor) -> Tensor:
        if final.shape != streams[0].shape:
            raise Unexplained("the unembedding does not take the stream of each position")
        finals[:] = final, final[:, list(positions)].detach().requires_grad_(True)
        return finals[1]

    last = parts[-1].layer
    assert model.anatomy.unembed is not None
    modules.append(taps.ModuleTap(last.module, "out", begin, last.out_index))
    modules.append(taps.ModuleTap(model.anatomy.unembed, "in", cut))
    with taps.module_taps(modules), taps.attention_taps(attention):
        logits = model.hf(**forward.model_inputs(model.hf, ids)).logits
    return seen, _End(streams[0], finals[0], finals[1], logits)


def _tell(done: Callable[[LayerParts, Seen], None], part: LayerParts, seen: Seen, _: Tensor) -> None:
    done(part, seen)


def _before_the_end(end: _End, slope: Tensor, positions: Sequence[int]) -> Tensor:
    """Slopes in front of the unembedding as those after the last layer [row, target, d_model].

    Each position is on its own here: one pass takes back one target of each.
    """
    found, left = torch.empty_like(slope), list(range(len(positions)))
    while left:
        now = list({positions[target]: target for target in left}.values())
        left = [target for target in left if target not in now]
        places = [positions[target] for target in now]
        along = torch.zeros_like(end.final)
        along[:, places] = slope[:, now]
        (back,) = torch.autograd.grad(end.final, end.stream, along, retain_graph=True)
        found[:, now] = back[:, places]
    return found


# --- going back ----------------------------------------------------------------------------------------------------


def pulled(
    run: Watched, leaf: Tensor, targets: Sequence[int], positions: Sequence[int]
) -> Iterator[tuple[list[int], Float[Tensor, "member row length d_model"]]]:
    """Gradients of targets at a leaf, the embeddings: which of them, and their gradients at the first positions.

    Args:
        run: the forward pass.
        leaf: [row, position, d_model], from which the stream before the first layer was made.
        targets: which of the run's targets.
        positions: of these.
    """
    rows, length = leaf.shape[:2]
    threads = torch.get_num_threads()
    groups = grouped(positions, rows, threads)
    batches = spread(groups, positions, rows, threads)
    lanes = min(threads, len(batches))
    stop = threading.Event()

    def back(batch: Sequence[Sequence[int]]) -> list[tuple[list[int], Tensor]]:
        with torch.no_grad():
            found = [_start(run, [targets[i] for i in group], [positions[i] for i in group]) for group in batch]
            for layer in reversed(run.layers[:-1]):
                for number, grads in enumerate(found):
                    if stop.is_set():
                        return []
                    found[number] = layer(grads, Upto(grads.shape[2]))
            return [(list(group), grads) for group, grads in zip(batch, found, strict=True)]

    def ends(found: list[tuple[list[int], Tensor]]) -> Iterator[tuple[list[int], Tensor]]:
        for members, grads in found:
            yield members, grads if run.entered is leaf else _entering(run.entered, leaf, grads, length)

    if lanes == 1:
        for batch in batches:
            yield from ends(back(batch))
        return
    try:
        # Each thread computes alone: what it would share with others is too little to be worth the waiting.
        with ThreadPoolExecutor(lanes, "targets", lambda: torch.set_num_threads(max(1, threads // lanes))) as pool:
            try:
                for found in pool.map(back, batches):
                    yield from ends(found)
            finally:
                stop.set()
    finally:
        torch.set_num_threads(threads)  # threads that are made later ask for the number that was set last


def grouped(positions: Sequence[int], rows: int, threads: int) -> list[list[int]]:
    """Targets of about one length, the longest first: indices of those that go back together.

    The groups have about equally many tokens, and each thread gets equally many groups.
    """
    order = sorted(range(len(positions)), key=lambda target: -positions[target])
    total = sum(rows * (position + 1) for position in positions)
    count = min(len(order), threads * max(1, round(total / (threads * GROUP_TOKENS))))
    groups: list[list[int]] = [[] for _ in range(count)]
    passed = 0
    for target in order:
        groups[min(count - 1, passed * count // total)].append(target)
        passed += rows * (positions[target] + 1)
    return [group for group in groups if group]


def spread(groups: Sequence[list[int]], positions: Sequence[int], rows: int, threads: int) -> list[list[list[int]]]:
    """Groups in batches of about equally many tokens: as many batches as threads, or a multiple of that."""
    sizes = [len(group) * rows * (positions[group[0]] + 1) for group in groups]
    count = min(len(groups), threads * -(-sum(sizes) // (threads * BATCH_TOKENS)))
    batches: list[list[list[int]]] = [[] for _ in range(count)]
    loads = [0] * count
    for size, group in sorted(zip(sizes, groups, strict=True), key=lambda pair: -pair[0]):
        least = loads.index(min(loads))
        batches[least].append(group)
        loads[least] += size
    return batches


def _start(run: Watched, targets: Sequence[int], positions: Sequence[int]) -> Tensor:
    """Gradients of a group before the last layer."""
    slope = run.slope[:, list(targets)].transpose(0, 1)[:, :, None]
    return run.layers[-1](slope, Only(positions[0] + 1, torch.tensor(positions)))


def _entering(entered: Tensor, leaf: Tensor, grads: Tensor, length: int) -> Tensor:
    """Gradients at the stream before the first layer as those at the embeddings."""
    here = grads.shape[2]
    padded = nn.functional.pad(grads, (0, 0, 0, length - here))
    (found,) = torch.autograd.grad(entered, leaf, padded, retain_graph=True, is_grads_batched=True)
    return found[:, :, :here]


# --- learning the formulas -----------------------------------------------------------------------------------------


def _learned(model: Model) -> Formulas | None:
    """The formulas of a network; None where a few of their gradients are not those of autograd."""
    from cutaway.models import multigrad
    from cutaway.models.anatomy import _probe_inputs

    ids = _probe_inputs(model.anatomy)["input_ids"].tolist()
    places = list(range(len(ids[0])))
    noise = torch.randn(model.anatomy.vocab_size, generator=torch.Generator().manual_seed(0))

    def score(logits: Tensor) -> Tensor:
        return logits.log_softmax(dim=-1) @ noise.to(logits)

    try:
        parts = parts_of(model).layers
        with multigrad._weights_at_rest(model.hf), torch.inference_mode(False), torch.enable_grad():
            seen, _ = _run(model, parts, ids, places)
            scales = tuple(layer_pullback.scale_of(each) for each in seen)
        formulas = Formulas(parts, scales)
        theirs = multigrad.gradients_of_targets(model, ids, places, score, formulas=None).grads
        found = multigrad.gradients_of_targets(model, ids, places, score, formulas=formulas).grads
    except (ModelError, Unexplained, RuntimeError):
        return None
    fits = (found - theirs).norm() <= ROUNDING * theirs.norm()
    return formulas if bool(fits) else None
