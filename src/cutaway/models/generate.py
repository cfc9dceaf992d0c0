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
from cutaway.core.site import Site, Span
from cutaway.models import taps
from cutaway.models.encode import Encoded, Prompts, encode, padded
from cutaway.models.forward import Request, input_device
from cutaway.models.program import Clock, Program
from cutaway.models.recording import by_length
from cutaway.models.resolve import has_positions

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
        raise ModelError(f"{type(model.hf).__name__} cannot write text.", "Causal and encoder-decoder models can.")
    if max_new_tokens < 1:
        raise PlanError(f"max_new_tokens is {max_new_tokens}.", "It is 1 or more.")
    encoded = encode(prompts, model.tokenizer)
    model._within_context(encoded)
    _require_single_rows(options)
    starts = [1] * len(encoded.ids) if model.anatomy.is_encoder_decoder else None
    edits = model._resolve(edits_of(edit), encoded, decoder_lengths=starts)
    for one in edits:
        _require_lasting(one, encoded)
    n_scales = Request(encoded, (), edits).scales
    rows = [row for row in range(len(encoded.ids)) for _ in range(n_scales)]
    reads = _readable(model.expand(read), encoded)
    chosen = _options(model, max_new_tokens, sample, options)
    sliced = any(isinstance(one.site.position, Span) and one.site.position != Span() for one in edits)
    even = model.anatomy.is_encoder_decoder or len(set(encoded.lengths)) == 1
    together = even or (not sliced and _pads_left(model))
    groups = [rows] if together else [[r for r in rows if r in group] for group in by_length(encoded).values()]
    written: dict[int, list[tuple[int, ...]]] = {}
    for group in groups:
        out, values = _write_on(model, encoded, group, edits, reads, chosen, seed)
        for row, new in zip(group, _new_ids(model, out, encoded, group, chosen), strict=True):
            written.setdefault(row, []).append(new)
    new_ids = tuple(new for row in range(len(encoded.ids)) for new in written[row])
    return _generation(model, encoded, rows, edits, new_ids, values)


def _write_on(
    model: Model,
    encoded: Encoded,
    rows: list[int],
    edits: Sequence[Edit],
    reads: tuple[Site, ...],
    chosen: dict[str, Any],
    seed: int,
) -> tuple[Tensor, dict[Site, Tensor]]:
    """transformers' `generate` for a batch of rows, under the edits."""
    clock = _clock(model, encoded, rows)
    # Text goes on at its right end; what an encoder reads does not.
    left = not model.anatomy.is_encoder_decoder
    ids = [encoded.ids[row] for row in rows]
    inputs = padded(ids, input_device(model.hf), left=left, pad=_pad(model))
    inputs.setdefault("attention_mask", torch.ones_like(inputs["input_ids"]))
    program = Program(model.anatomy, reads, edits, clock)
    kept: list[dict[Site, Tensor]] = []
    with (
        torch.no_grad(),
        program.installed(),
        _following(model, program, kept),
        _seeded(seed, chosen["do_sample"]),
    ):
        out = model.hf.generate(**inputs, **chosen)
    kept.append(dict(program.values))
    return out, _values(reads, kept)


def _pads_left(model: Model) -> bool:
    """True when this network writes the same after padding as without: some count positions from the padding on."""
    known = model.__dict__.get("_padding_is_unseen")
    if known is None:
        known = model.__dict__["_padding_is_unseen"] = _same_with_padding(model)
    return bool(known)


def _same_with_padding(model: Model) -> bool:
    device, found = input_device(model.hf), []
    top = min(model.anatomy.vocab_size, 1000)
    for ids in ([[5 % top, 7 % top, 9 % top]], [[5 % top, 7 % top, 9 % top], [8 % top] * 6]):
        inputs = padded(ids, device, left=True, pad=_pad(model))
        inputs.setdefault("attention_mask", torch.ones_like(inputs["input_ids"]))
        options = _options(model, 2, False, {"output_logits": True, "return_dict_in_generate": True})
        options["min_new_tokens"] = 2
        with torch.no_grad():
            found.append(torch.stack([logits[0] for logits in model.hf.generate(**inputs, **options).logits]))
    tolerance = 1e-3 if model.dtype in (torch.float32, torch.float64) else 5e-2
    gap = (found[0] - found[1]).float().norm() if found[0].shape == found[1].shape else torch.tensor(torch.inf)
    return bool(gap <= tolerance * found[0].float().norm())


def _require_single_rows(options: dict[str, Any]) -> None:
    """Edits and positions belong to rows: a search that multiplies or reorders rows would move them."""
    for name in ("num_beams", "num_return_sequences", "num_beam_groups"):
        if (options.get(name) or 1) > 1:
            raise PlanError(
                f"{name} is {options[name]}.",
                "Each prompt is continued in one row, greedily or with sample=True.",
                "For several samples, give the prompt several times.",
            )


def _require_lasting(edit: Edit, encoded: Encoded) -> None:
    """An edit says what it does to tokens that are not there yet."""
    if edit.site.kind == "logits":
        raise PlanError(
            f"'{edit}' changes the logits, which generation reads as they leave the network.",
            "",
            "Edit 'final', or give logits_processor= to change the choice of tokens.",
        )
    position = edit.site.position
    if edit.site.on_encoder or isinstance(position, int | str) or not has_positions(edit):
        return
    inside = isinstance(position, Span) and position.stop is not None and position.stop <= min(encoded.lengths)
    if not inside:
        raise PlanError(
            f"'{edit}' holds a value for each position of the prompt, and none for the text that is written.",
            "It can be put into a range of the prompt.",
            f"Write '{edit.site.at(Span(0, min(encoded.lengths)))}'.",
        )


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
    chosen["num_beams"] = 1
    if (said := model._decoder_prompts(None, 1)) is not None:
        chosen["decoder_start_token_id"] = said.ids[0][0]
    if not sample:
        chosen |= {"temperature": None, "top_p": None, "top_k": None}
        chosen |= {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
        chosen |= {"forced_bos_token_id": None, "forced_eos_token_id": None}
    return chosen | options


def _clock(model: Model, encoded: Encoded, rows: list[int]) -> Clock:
    lengths = [len(encoded.ids[row]) for row in rows]
    named = {name: [where[row] for row in rows] for name, where in encoded.named.items()}
    if model.anatomy.is_encoder_decoder:
        return Clock([1] * len(rows), named=named, rows=rows, pads=[0] * len(rows), cross_lengths=lengths)
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
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_available():
            torch.cuda.manual_seed_all(seed)
        yield


# Each step gives these again for the text so far, or for its last token alone.
_NOT_BY_STEP = ("k", "v", "k_per_query_head", "v_per_query_head", "final", "logits")


def _readable(sites: tuple[Site, ...], encoded: Encoded) -> tuple[Site, ...]:
    for site in sites:
        if site.position is not None or "position" not in site.dims or site.kind in _NOT_BY_STEP or site.on_encoder:
            raise PlanError(
                f"'{site}' cannot be read while text is generated.",
                "Sites with one value for each position can, at all positions.",
                "Run the generated text once more: model.run([generation.ids[0]], read=...).",
            )
    if sites and len(set(encoded.lengths)) > 1:
        raise PlanError(
            "Reading while generating needs prompts of one length.", "", "Generate from one prompt at a time."
        )
    return sites


def _values(reads: tuple[Site, ...], kept: list[dict[Site, Tensor]]) -> dict[Site, Tensor]:
    return {
        site: torch.cat([step[site] for step in kept if site in step], dim=site.dims.index("position"))
        for site in reads
    }


def _new_ids(
    model: Model, out: Tensor, encoded: Encoded, rows: list[int], chosen: dict[str, Any]
) -> list[tuple[int, ...]]:
    """What was written in each row, up to the end token."""
    longest = max(len(encoded.ids[row]) for row in rows)
    start = 1 if model.anatomy.is_encoder_decoder else longest
    ends = _end_tokens(chosen.get("eos_token_id", getattr(model.hf.generation_config, "eos_token_id", None)))
    return [_until_end([int(i) for i in row[start:].tolist()], ends) for row in out]


def _generation(
    model: Model,
    encoded: Encoded,
    rows: list[int],
    edits: Sequence[Edit],
    new: tuple[tuple[int, ...], ...],
    values: dict[Site, Tensor],
) -> Generation:
    texts = tuple(model.tokenizer.decode(row, skip_special_tokens=True) if model.tokenizer else str(row) for row in new)
    scales = next((edit.scales for edit in edits if len(edit.scales) > 1), (1.0,))
    prompts = tuple(encoded.ids[row] for row in rows)
    run = None
    if values:
        said = model._decoder_prompts(None, len(rows))
        first = prompts if said is None else said.ids
        # The last token was written, but not read any more.
        whole = tuple((*before, *after)[:-1] for before, after in zip(first, new, strict=True))
        run = Run(values, whole, tuple(tuple(model.token_strings(i)) for i in whole))
    every = tuple(scales[i % len(scales)] for i in range(len(rows)))
    return Generation(prompts, new, texts, tuple(rows), every, run)


def _end_tokens(ends: Any) -> set[int]:
    return set(ends) if isinstance(ends, list | tuple) else ({ends} if isinstance(ends, int) else set())


def _until_end(ids: list[int], ends: set[int]) -> tuple[int, ...]:
    for place, token in enumerate(ids):
        if token in ends:
            return tuple(ids[: place + 1])
    return tuple(ids)
