"""How is a planned run carried out? One forward pass for each batch, with taps, stopped when nothing more is needed.

The slow path is plain: every prompt alone, all layers, all logits (`strict=True`). The fast path stops after the last
layer that is asked for, computes the logits at the asked positions only, and puts as many prompts into a batch as fit.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from cutaway.core.edit import Edit
from cutaway.core.errors import ModelError, PlanError
from cutaway.core.run import Run
from cutaway.core.site import Site
from cutaway.models import memory, taps
from cutaway.models.encode import Encoded, padded
from cutaway.models.program import Clock, Program, stop

if TYPE_CHECKING:
    from cutaway.models.anatomy import Anatomy

Logits = Literal["all", "last", "none"]


@dataclass(frozen=True)
class Request:
    """What is asked of a run, with patterns expanded and edits resolved."""

    encoded: Encoded
    reads: tuple[Site, ...]
    edits: tuple[Edit, ...]
    logits: Logits = "all"
    grads: tuple[Site, ...] = ()
    metric: Callable[[Tensor], Tensor] | None = None
    decoder: Encoded | None = None
    strict: bool = False

    @property
    def scales(self) -> int:
        """Rows that each prompt makes: one, or one for each scale of an edit."""
        counts = {len(edit.scales) for edit in self.edits} - {1}
        if len(counts) > 1:
            raise PlanError(
                f"The edits have {' and '.join(str(c) for c in sorted(counts))} scales.",
                "",
                "Give all of them the same number of scales.",
            )
        return counts.pop() if counts else 1


def accepts(hf: Any, name: str) -> bool:
    """True when the model's forward takes an argument of this name."""
    return name in _signature(type(hf))


_signatures: dict[type, frozenset[str]] = {}


def _signature(kind: type) -> frozenset[str]:
    if kind not in _signatures:
        _signatures[kind] = frozenset(inspect.signature(kind.forward).parameters)  # type: ignore[attr-defined]
    return _signatures[kind]


def model_inputs(
    hf: Any, ids: Sequence[Sequence[int]], decoder: Sequence[Sequence[int]] | None = None
) -> dict[str, Any]:
    """The arguments of one plain forward pass over a batch of prompts."""
    device = input_device(hf)
    inputs: dict[str, Any] = padded(ids, device)
    if decoder is not None:
        inputs["decoder_input_ids"] = padded(decoder, device)["input_ids"]
    if decoder is None and accepts(hf, "use_cache"):
        inputs["use_cache"] = False
    return inputs


def input_device(hf: Any) -> torch.device:
    """Where token ids go: the device of the embedding, also when the layers are spread over several."""
    embedding = hf.get_input_embeddings()
    weight = getattr(embedding, "weight", None)
    if weight is not None and weight.device.type != "meta":
        return weight.device
    # Weights that accelerate fetches for each use have no device of their own.
    hook = getattr(embedding, "_hf_hook", None)
    for one in getattr(hook, "hooks", [hook]):
        if (device := getattr(one, "execution_device", None)) is not None:
            return torch.device(device)
    return torch.device(hf.device)


def execute(hf: Any, anatomy: Anatomy, request: Request, *, batch: int | str = "auto", token_texts: Any = None) -> Run:
    """Carry out a run, batch by batch."""
    rows = [row for row in range(len(request.encoded.ids)) for _ in range(request.scales)]
    size = _rows_at_once(hf, anatomy, request, batch)
    outcomes = []
    for chosen in _chunks(hf, request.encoded.lengths, rows, size):
        outcomes.append(_one_batch(hf, anatomy, request, [rows[i] for i in chosen], chosen))  # noqa: PERF401
    ids = tuple(request.encoded.ids[row] for row in rows)
    if request.decoder is not None:
        ids = tuple(request.decoder.ids[row] for row in rows)
    named = {name: [where[row] for row in rows] for name, where in request.encoded.named.items()}
    tokens = tuple(token_texts(i) for i in ids) if token_texts is not None else ()
    return Run(
        held=_joined([o.values for o in outcomes]),
        ids=ids,
        tokens=tokens,
        logits=_cat([o.logits for o in outcomes if o.logits is not None], "logits"),
        grads=_joined([o.grads for o in outcomes]),
        metric=_cat([o.metric for o in outcomes if o.metric is not None], "metric"),
        positions=named,
        rows=tuple(rows),
        logits_at_end=request.logits == "last",
        encoder_ids=tuple(request.encoded.ids[row] for row in rows) if request.decoder is not None else (),
        n_layers={name: len(blocks) for name, (_, blocks) in anatomy._found.items()},
    )


def _chunks(hf: Any, lengths: Sequence[int], rows: Sequence[int], size: int) -> list[list[int]]:
    """Places of the rows of each batch; where padding would spoil the numbers, rows of one length only.

    transformers' eager attention under a sliding window gives NaN in double precision where a query sees nothing but
    padding: the lowest double is minus infinity for its softmax, which runs in single precision.
    """
    together = memory.chunks(rows, size)
    config = hf.config.get_text_config(decoder=True)
    if hf.dtype != torch.float64 or not getattr(config, "sliding_window", None):
        return together
    even = (itertools.groupby(chunk, key=lambda place: lengths[rows[place]]) for chunk in together)
    return [list(group) for groups in even for _, group in groups]


@dataclass
class _Outcome:
    values: dict[Site, Tensor]
    grads: dict[Site, Tensor]
    logits: Tensor | None
    metric: Tensor | None


def _one_batch(hf: Any, anatomy: Anatomy, request: Request, rows: list[int], places: list[int]) -> _Outcome:
    ids = [request.encoded.ids[row] for row in rows]
    decoder = [request.decoder.ids[row] for row in rows] if request.decoder is not None else None
    named = {name: [where[row] for row in rows] for name, where in request.encoded.named.items()}
    lengths = [len(entry) for entry in (decoder if decoder is not None else ids)]
    if request.scales > 1 and places[0] % request.scales:
        edits = tuple(_rolled(edit, places[0] % request.scales) for edit in request.edits)
    else:
        edits = request.edits
    read = [len(entry) for entry in ids] if decoder is not None else None
    clock = Clock(lengths=lengths, named=named, rows=rows, cross_lengths=read)
    program = Program(anatomy, request.reads, edits, clock, grad=request.grads)
    inputs = model_inputs(hf, ids, decoder)
    if request.grads:
        return _with_gradients(hf, program, request, inputs, lengths)
    with torch.no_grad():
        logits = _logits(hf, anatomy, program, request, inputs, lengths)
    metric = None
    if request.metric is not None and logits is not None:
        metric = _scored(request.metric, _at_end(logits, lengths, request.logits), rows)
    return _Outcome(program.values, {}, logits if request.logits != "none" else None, metric)


def _rolled(edit: Edit, by: int) -> Edit:
    if len(edit.scales) == 1:
        return edit
    return replace(edit, scales=edit.scales[by:] + edit.scales[:by])


def _scored(metric: Callable[[Tensor], Tensor], logits: Tensor, rows: Sequence[int]) -> Tensor:
    for_rows = getattr(metric, "for_rows", None)
    return (for_rows(rows) if for_rows is not None else metric)(logits)


def _at_end(logits: Tensor, lengths: Sequence[int], mode: Logits) -> Tensor:
    if mode == "last":
        return logits[:, 0]
    return logits[list(range(len(lengths))), [length - 1 for length in lengths]]


def _logits(
    hf: Any, anatomy: Anatomy, program: Program, request: Request, inputs: dict[str, Any], lengths: list[int]
) -> Tensor | None:
    """One forward pass; the logits that were asked for, or None after an early exit."""
    stop_after = None if request.strict else last_layer_needed(anatomy, request)
    keep = not request.strict and request.logits == "last" and _can_keep(hf, anatomy, program)
    extra: list[taps.ModuleTap] = []
    if keep and len(set(lengths)) == 1 and accepts(hf, "logits_to_keep"):
        inputs = {**inputs, "logits_to_keep": 1}
    elif keep:
        assert anatomy.unembed is not None
        extra.append(taps.ModuleTap(anatomy.unembed, "in", lambda hidden: _last_rows(hidden, lengths)))
    if stop_after is None and not request.strict and _needs_no_unembedding(anatomy, program, request):
        assert anatomy.unembed is not None
        extra.append(taps.ModuleTap(anatomy.unembed, "in", stop))
    try:
        with program.installed(stop_after=stop_after), taps.module_taps(extra):
            output = hf(**inputs)
    except taps.Stop:
        return None
    logits = getattr(output, "logits", None)
    if logits is None:
        if request.logits != "none" or any(site.kind == "logits" for site in request.reads):
            _no_logits(hf)
        return None
    key = ("", "logits", None)
    if key in program.by_key:
        logits = program.visit(key, logits)
    if request.logits == "last" and not keep:
        logits = logits[list(range(len(lengths))), [length - 1 for length in lengths]][:, None]
    return logits


def _no_logits(hf: Any) -> None:
    raise ModelError(
        f"{type(hf).__name__} has no unembedding, so it gives no logits.",
        "Its residual stream, attention and neurons can be read.",
        'Write model.run(prompts, read=..., logits="none").',
    )


def _needs_no_unembedding(anatomy: Anatomy, program: Program, request: Request) -> bool:
    asked = request.logits != "none" or ("", "logits", None) in program.by_key
    return anatomy.unembed is not None and not asked


def _can_keep(hf: Any, anatomy: Anatomy, program: Program) -> bool:
    """Logits at the last position alone can be computed: no site after the gathering needs all positions."""
    busy = any(kind in ("final", "logits") for _, kind, _ in program.by_key) or "final" in anatomy.refused_ends
    return anatomy.unembed is not None and not busy


def _last_rows(hidden: Tensor, lengths: Sequence[int]) -> Tensor | None:
    if hidden.dim() != 3:
        return None
    return hidden[list(range(len(lengths))), [length - 1 for length in lengths]][:, None]


def last_layer_needed(anatomy: Anatomy, request: Request) -> int | None:
    """The layer after which a run can stop; None when it must go to the end."""
    if request.logits != "none" or request.metric is not None or request.decoder is not None:
        return None
    layers = [site.layer for site in request.reads]
    if not layers or any(not isinstance(layer, int) for layer in layers if layer is not None):
        return None
    if any(site.kind in ("final", "logits") or site.stack for site in request.reads):
        return None
    last = max((layer for layer in layers if isinstance(layer, int)), default=0)
    # The output of the last layer is a tap of its own: stopping there saves the final norm and the unembedding.
    return int(last)


def _with_gradients(
    hf: Any, program: Program, request: Request, inputs: dict[str, Any], lengths: list[int]
) -> _Outcome:
    """A forward and a backward pass to the sites, without gradients of weights."""
    if request.metric is None:
        raise PlanError("Gradients need a metric.", "", "Write model.grad(prompts, metric, at=...).")
    wanted = [p for p in hf.parameters() if p.requires_grad]
    try:
        for p in wanted:
            p.requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad():
            logits = _logits(hf, program.anatomy, program, request, inputs, lengths)
            assert logits is not None
            metric = _scored(request.metric, _at_end(logits, lengths, request.logits), program.clock.rows)
            _require_slope(metric)
            sites = list(program.leaves)
            found = torch.autograd.grad(metric.sum(), [program.leaves[s] for s in sites], allow_unused=True)
    finally:
        for p in wanted:
            p.requires_grad_(True)
    grads, values = {}, {}
    for site, grad in zip(sites, found):
        leaf = program.leaves[site].detach()
        values[site] = program.at_leaf(site, leaf)
        grads[site] = program.at_leaf(site, torch.zeros_like(leaf) if grad is None else grad)
    values.update({s: v.detach() for s, v in program.values.items()})
    kept = logits.detach() if request.logits != "none" else None
    return _Outcome(values, grads, kept, metric.detach())


def _require_slope(metric: Tensor) -> None:
    if not metric.requires_grad:
        raise PlanError(
            "The metric does not change smoothly with the logits, so it has no gradient.",
            "Counts, such as rank and accuracy, have none.",
            "Use logit_difference, log_probability or kl.",
        )


# --- sizes and joining -------------------------------------------------------------------------------------------


def _rows_at_once(hf: Any, anatomy: Anatomy, request: Request, batch: int | str) -> int:
    if request.strict:
        return 1
    if isinstance(batch, int) and not isinstance(batch, bool):
        if batch < 1:
            raise PlanError(f"A batch of {batch} rows.", "A batch has one row or more,", 'or batch="auto".')
        return batch
    if batch != "auto":
        raise PlanError(f"batch is {batch!r}.", 'It is a number of rows or "auto".')
    longest = max(request.encoded.lengths)
    if len(request.encoded.ids) * request.scales == 1:
        return 1
    return memory.rows_at_once(bytes_per_row(hf, anatomy, request, longest), longest, input_device(hf))


def bytes_per_row(hf: Any, anatomy: Anatomy, request: Request, tokens: int) -> int:
    """An estimate of the memory that a row of a batch takes: activations, what is read, and logits."""
    width = next(hf.parameters()).element_size()
    working = tokens * (8 * anatomy.d_model + 4 * max(anatomy.d_model * 4, 1)) * width
    heads = getattr(anatomy.text_config, "num_attention_heads", None) or 8
    working += 3 * heads * tokens * tokens * 4
    kept = sum(_numel(anatomy, site, tokens) for site in (*request.reads, *request.grads)) * width
    logits = {"all": tokens, "last": 1, "none": 0}[request.logits] * anatomy.vocab_size * 4 * 2
    graph = len(anatomy._found[""][1]) * working if request.grads else 0
    return int(working + kept + logits + graph)


def _numel(anatomy: Anatomy, site: Site, tokens: int) -> int:
    sizes = {
        "d_model": anatomy.d_model,
        "d_mlp": 4 * anatomy.d_model,
        "vocab": anatomy.vocab_size,
        "head": getattr(anatomy.text_config, "num_attention_heads", None) or 8,
        "d_head": 64,
        "expert": 8,
    }
    numel = 1
    for dim in site.dims[1:]:
        numel *= sizes.get(dim, tokens)
    return numel


def _joined(parts: list[dict[Site, Tensor]]) -> dict[Site, Tensor]:
    if len(parts) == 1:
        return parts[0]
    sites = parts[0].keys() if parts else []
    return {site: _cat([part[site] for part in parts], site) for site in sites}  # type: ignore[misc]


def _cat(tensors: list[Tensor], site: Site | str) -> Tensor | None:
    """Rows of several batches; shorter ones are padded with zeros to the right."""
    if not tensors:
        return None
    if len(tensors) == 1:
        return tensors[0]
    shape = [max(t.shape[axis] for t in tensors) for axis in range(tensors[0].dim())]
    shape[0] = sum(t.shape[0] for t in tensors)
    if all(list(t.shape[1:]) == shape[1:] for t in tensors):
        return torch.cat(tensors)
    out = tensors[0].new_zeros(shape)
    row = 0
    for t in tensors:
        out[(slice(row, row + t.shape[0]), *(slice(0, n) for n in t.shape[1:]))] = t
        row += t.shape[0]
    return out
