"""What would a run do, and what would it cost? Answered from the request alone, without running the network.

Costs are counted in layer-tokens (one token through one layer) and in rows of the unembedding: what a plain forward
pass of every prompt (and for a sweep: of every cell) would take stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cutaway.core.edit import edits_of
from cutaway.core.site import Site
from cutaway.models import forward, memory
from cutaway.models.encode import Encoded, Prompts, encode

if TYPE_CHECKING:
    from cutaway.models.model import Model


@dataclass(frozen=True)
class Plan:
    """What would be done; print it.

    Attributes:
        steps: what is done, one sentence each.
        rows: rows of all batches together.
        batches: forward passes.
        layer_tokens: tokens through layers, and how many a plain run would take.
        unembedded: positions (times tokens of the vocabulary) that are unembedded, and how many a plain run would.
        bytes: estimate of the largest batch.
    """

    steps: tuple[str, ...]
    rows: int
    batches: int
    layer_tokens: tuple[int, int]
    unembedded: tuple[int, int]
    bytes: int

    @property
    def saving(self) -> float:
        """How many times fewer layer-tokens than plain runs."""
        return self.layer_tokens[1] / max(1, self.layer_tokens[0])

    def __str__(self) -> str:
        ours, plain = self.layer_tokens
        few, many = self.unembedded
        lines = [f"  {number}. {step}" for number, step in enumerate(self.steps, 1)]
        lines.append(
            f"  cost: {ours:,} layer-tokens (plain runs: {plain:,}, {self.saving:.1f} × as many), "
            f"{few:,} logits (plain: {many:,}), about {self.bytes / 2**20:,.0f} MiB at once"
        )
        return f"{self.rows} rows in {self.batches} forward passes\n" + "\n".join(lines)


def plan(
    model: Model,
    prompts: Prompts,
    *,
    over: Any = None,
    read: Any = (),
    edit: Any = None,
    logits: str = "all",
    grad: Any = (),
    metric: Any = None,
    strict: bool = False,
    batch: int | str = "auto",
    direction: str = "denoise",
) -> Plan:
    """What `model.run` (or, with `over`, `model.sweep`) would do with the same arguments."""
    if over is not None:
        return _plan_sweep(model, prompts, over, strict, edit or "patch")
    encoded = encode(prompts, model.tokenizer)
    reads, grads = model.expand(read), model.expand(grad)
    edits = tuple(e for one in edits_of(edit) for e in [one] for _ in model.anatomy.expand(one.site)[:1])
    request = forward.Request(encoded, reads, edits, logits, grads, metric, None, strict)  # type: ignore[arg-type]
    stop = None if strict else forward.last_layer_needed(model.anatomy, request)
    n_layers, scales = model.anatomy.n_layers, request.scales
    layers = n_layers if stop is None else stop + 1
    rows = len(encoded.ids) * scales
    size = forward._rows_at_once(model.hf, model.anatomy, request, batch)
    batches = -(-rows // size)
    tokens = sum(encoded.lengths) * scales
    kept = {"all": tokens, "last": rows, "none": 0}[
        logits if not (stop is None and logits == "none" and metric) else "last"
    ]
    steps = [
        f"encode {len(encoded.ids)} prompts of {_range(encoded.lengths)} tokens, {rows} rows in batches of {min(size, rows)}"
    ]
    steps += [f"edit {one}" for one in edits_of(edit)]
    if reads:
        steps.append(f"read {_listed(reads)}")
    eager = {s.layer for s in reads if s.kind in ("scores", "pattern")}
    if eager and model.attention_implementation != "eager":
        steps.append(
            f"for scores and patterns, also run the eager attention function in {len(eager)} layers (z stays as it is)"
        )
    written = {e.site.layer for e in edits if e.site.kind in ("scores", "pattern")}
    if written and model.attention_implementation != "eager":
        steps.append(
            "layers whose scores or pattern are written run eager attention: last bits differ from the plain run"
        )
    steps.append(
        f"stop after layer {stop} of {n_layers}"
        if stop is not None and stop + 1 < n_layers
        else f"run all {n_layers} layers"
    )
    steps.append(
        {"all": "unembed every position", "last": "unembed the last position", "none": "unembed nothing"}[logits]
    )
    if grads:
        steps.append(f"differentiate the metric at {_listed(grads)}, no gradient of any weight")
    peak = forward.bytes_per_row(model.hf, model.anatomy, request, max(encoded.lengths)) * min(size, rows)
    plain = sum(encoded.lengths) * scales * n_layers
    return Plan(
        tuple(steps),
        rows,
        batches,
        (tokens * layers, plain),
        (kept * model.anatomy.vocab_size, tokens * model.anatomy.vocab_size),
        peak,
    )


def _plan_sweep(model: Model, task: Any, over: Any, strict: bool, edit: Any) -> Plan:
    from cutaway.models.sweep import _cells, tier_of

    encoded = task.encode(model.tokenizer) if hasattr(task, "encode") and not isinstance(task, str) else task
    base = encode(encoded, model.tokenizer)
    contrasts = getattr(encoded, "contrast_ids", ()) if edit == "patch" else ()
    other = Encoded(tuple(contrasts)) if contrasts else None
    cells = _cells(model, over, base)
    tier = tier_of(model)
    n_layers, vocabulary = model.anatomy.n_layers, model.anatomy.vocab_size
    ours = plain = run = skipped = 0
    starts: set[tuple[int, int]] = set()
    for prompt, ids in enumerate(base.ids):
        first = _first_difference(ids, other.ids[prompt]) if other is not None else 0
        for site in cells:
            position = _index(site, len(ids))
            if position is False:
                continue
            plain += n_layers * len(ids)
            if other is not None and model.anatomy.is_causal and position is not None and position < first:
                skipped += 1
                continue
            run += 1
            assert isinstance(site.layer, int)
            start = (position if position is not None else first) if tier == "suffix" and not strict else 0
            starts.add((len(ids), start))
            below = site.layer + (site.kind == "resid_post") if tier != "full" else 0
            ours += (n_layers - below) * (len(ids) - start)
        ours += n_layers * len(ids) * (2 if other is not None else 1)
    at_once = memory.rows_at_once(
        max(base.lengths) * model.anatomy.d_model * 160, max(base.lengths), forward.input_device(model.hf)
    )
    steps = [
        f"record the base run of {len(base.ids)} prompts"
        + (" and the run that values come from" if other is not None else ""),
        f"{run:,} of {run + skipped:,} cells are run; {skipped:,} lie before the first token that differs and equal the base",
        {
            "suffix": "rows resume from their layer and position with the base run's keys and values, in a growing batch",
            "grow": "rows resume from their layer, in a growing batch over whole prompts",
            "resume": "rows resume from the lowest layer of their batch",
            "full": "rows run through every layer",
        }[tier if not strict else "resume"],
        "unembed the last position for the metric's tokens only",
    ]
    passes = run if strict else max(len(starts), -(-run // at_once))
    return Plan(
        tuple(steps),
        run,
        passes,
        (ours, plain),
        (2 * run, run * vocabulary * max(base.lengths)),
        at_once * max(base.lengths) * model.anatomy.d_model * 160,
    )


def _index(site: Site, length: int) -> int | bool | None:
    if isinstance(site.position, int):
        return site.position % length if -length <= site.position < length else False
    return None


def _first_difference(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), 0)


def _range(numbers: list[int]) -> str:
    return str(numbers[0]) if min(numbers) == max(numbers) else f"{min(numbers)} to {max(numbers)}"


def _listed(sites: tuple[Site, ...]) -> str:
    shown = ", ".join(str(s) for s in sites[:4])
    return shown + (f" and {len(sites) - 4} more sites" if len(sites) > 4 else "")
