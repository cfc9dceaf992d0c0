"""What does the network write with its insides changed? transformers' own `generate`, with edits at every step.

Positions are counted in the whole text, so an edit at `@7` acts on token 7 whether it is in the prompt or generated, and
`@-1` is the prompt's last token. With the cache of keys and values on, a step sees one new token only; the edits of
earlier positions are in the cache. The text is the same as from a loop of full forward passes with the same edits.
A list of scales in an edit makes a row for each: a grid of strengths is one decode.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.core.edit import Edit, edits_of
from cutaway.core.errors import ModelError, PlanError
from cutaway.core.run import Run
from cutaway.core.site import Site
from cutaway.models import taps
from cutaway.models.encode import Encoded, Prompts, encode, padded
from cutaway.models.forward import Request, input_device
from cutaway.models.program import Clock, Program

if TYPE_CHECKING:
    from cutaway.models.model import Model


@dataclass(frozen=True)
class Generation:
    """What was written.

    Attributes:
        prompts: token ids of each row's prompt.
        new_ids: token ids that were written, up to the end token.
        texts: the new text of each row.
        rows: which prompt each row continues.
        scales: the scale of each row's edit.
        run: values of the sites that were read, over the whole text but its last token.
    """

    prompts: tuple[tuple[int, ...], ...]
    new_ids: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]
    rows: tuple[int, ...]
    scales: tuple[float, ...]
    run: Run | None = None

    @property
    def ids(self) -> tuple[tuple[int, ...], ...]:
        """Token ids of prompts and continuations."""
        return tuple(prompt + new for prompt, new in zip(self.prompts, self.new_ids, strict=True))


def generate(
    model: Model,
    prompts: Prompts,
    *,
    edit: Edit | Sequence[Edit] | None = None,
    read: Any = (),
    max_new_tokens: int = 20,
    sample: bool = False,
    seed: int = 0,
    **options: Any,
) -> Generation:
    """Write on from prompts.

    Args:
        model: a causal or encoder-decoder network.
        prompts: as in `Model.run`.
        edit: what to change at every step.
        read: sites to keep at every step (those with a position each).
        max_new_tokens: how many tokens at most.
        sample: draw tokens (with `seed`, `temperature=`, `top_p=`, …) instead of taking the most probable.
        seed: of the drawing.
        options: further options of transformers' `generate`.
    """
    if not hasattr(model.hf, "generate") or not model.anatomy.has_unembedding or not model.hf.can_generate():
        raise ModelError(
            f"{type(model.hf).__name__} cannot write text.", "Causal and encoder-decoder models can."
        )
    if max_new_tokens < 1:
        raise PlanError(f"max_new_tokens is {max_new_tokens}.", "It is 1 or more.")
    encoded = encode(prompts, model.tokenizer)
    edits = model._resolve(edits_of(edit), encoded)
    n_scales = Request(encoded, (), edits).scales
    rows = [row for row in range(len(encoded.ids)) for _ in range(n_scales)]
    ids = [encoded.ids[row] for row in rows]
    reads = _readable(model.expand(read), ids)
    clock, inputs = (
        _clock(model, encoded, rows),
        padded(ids, input_device(model.hf), left=True, pad=_pad(model)),
    )
    inputs.setdefault("attention_mask", torch.ones_like(inputs["input_ids"]))
    program = Program(model.anatomy, reads, edits, clock)
    kept: list[dict[Site, Tensor]] = []
    with torch.no_grad(), program.installed(), _following(model, program, kept), _seeded(seed, sample):
        out = model.hf.generate(**inputs, **_options(model, max_new_tokens, sample, options))
    kept.append(dict(program.values))
    return _generation(model, ids, rows, edits, out, inputs["input_ids"].shape[1], _values(reads, kept))


def _pad(model: Model) -> int:
    for source in (model.tokenizer, model.hf.generation_config, model.hf.config):
        for name in ("pad_token_id", "eos_token_id", "bos_token_id"):
            value = getattr(source, name, None)
            value = value[0] if isinstance(value, list | tuple) and value else value
            if isinstance(value, int) and 0 <= value < model.anatomy.vocab_size:
                return value
    return 0


def _options(model: Model, max_new_tokens: int, sample: bool, options: dict[str, Any]) -> dict[str, Any]:
    """Greedy unless asked otherwise: a checkpoint's own sampling settings must not slip in."""
    chosen: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "do_sample": sample,
        "pad_token_id": _pad(model),
    }
    if not sample:
        chosen |= {"temperature": None, "top_p": None, "top_k": None}
    return chosen | options


def _clock(model: Model, encoded: Encoded, rows: list[int]) -> Clock:
    lengths = [len(encoded.ids[row]) for row in rows]
    named = {name: [where[row] for row in rows] for name, where in encoded.named.items()}
    if model.anatomy.is_encoder_decoder:
        return Clock([1] * len(rows), named=named, rows=rows, pads=[0] * len(rows))
    return Clock(lengths, pads=[max(lengths) - length for length in lengths], named=named, rows=rows)


@contextlib.contextmanager
def _following(model: Model, program: Program, kept: list[dict[Site, Tensor]]) -> Iterator[None]:
    """Move the clock before each pass of the network, and keep what the pass before it read."""
    clock, seen = program.clock, 0
    name = "decoder_input_ids" if model.anatomy.is_encoder_decoder else "input_ids"

    def step(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal seen
        ids = kwargs.get(name)
        ids = ids if ids is not None else (args[0] if args else kwargs.get("inputs_embeds"))
        width = int(ids.shape[1]) if ids is not None else 1
        if seen and width > seen:  # no cache: the whole text again
            seen = 0
            kept.clear()
            program.values.clear()
        if program.values:
            kept.append(dict(program.values))
        clock.offset, clock.width = seen, width
        seen += width

    with taps.before(model.hf, step):
        yield


@contextlib.contextmanager
def _seeded(seed: int, sample: bool) -> Iterator[None]:
    """transformers draws from torch's global state: it is set for the drawing and put back."""
    if not sample:
        yield
        return
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(seed)
        yield


def _readable(sites: tuple[Site, ...], ids: list[tuple[int, ...]]) -> tuple[Site, ...]:
    for site in sites:
        if site.position is not None or "position" not in site.dims or site.kind in ("k", "v", "logits"):
            raise PlanError(
                f"'{site}' cannot be read while text is generated.",
                "Sites with one value for each position can, at all positions.",
                "Run the generated text once more: model.run([generation.ids[0]], read=...).",
            )
    if sites and len({len(entry) for entry in ids}) > 1:
        raise PlanError(
            "Reading while generating needs prompts of one length.", "", "Generate from one prompt at a time."
        )
    return sites


def _values(reads: tuple[Site, ...], kept: list[dict[Site, Tensor]]) -> dict[Site, Tensor]:
    return {
        site: torch.cat([step[site] for step in kept if site in step], dim=site.dims.index("position"))
        for site in reads
    }


def _generation(
    model: Model,
    ids: list[tuple[int, ...]],
    rows: list[int],
    edits: Sequence[Edit],
    out: Tensor,
    width: int,
    values: dict[Site, Tensor],
) -> Generation:
    start = 1 if model.anatomy.is_encoder_decoder else width
    ends = _end_tokens(model)
    new = tuple(_until_end([int(i) for i in row[start:].tolist()], ends) for row in out)
    texts = tuple(
        model.tokenizer.decode(row, skip_special_tokens=True) if model.tokenizer else str(row) for row in new
    )
    scales = next((edit.scales for edit in edits if len(edit.scales) > 1), (1.0,))
    run = None
    if values:
        whole = tuple(tuple(prompt) + tuple(row) for prompt, row in zip(ids, new, strict=True))
        run = Run(values, whole, tuple(tuple(model.token_strings(i)) for i in whole))
    return Generation(
        tuple(tuple(i) for i in ids),
        new,
        texts,
        tuple(rows),
        tuple(scales[i % len(scales)] for i in range(len(rows))),
        run,
    )


def _end_tokens(model: Model) -> set[int]:
    ends = getattr(model.hf.generation_config, "eos_token_id", None)
    return set(ends) if isinstance(ends, list | tuple) else ({ends} if isinstance(ends, int) else set())


def _until_end(ids: list[int], ends: set[int]) -> tuple[int, ...]:
    for place, token in enumerate(ids):
        if token in ends:
            return tuple(ids[: place + 1])
    return tuple(ids)
