"""An opened network: run it, read it, change it, differentiate it.

The network under study *is* the Hugging Face module (`model.hf`): nothing is copied, folded or written anew. A `Model`
adds names for its values (`Site`), a plan for each run, and nothing that stays behind.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cutaway.core.edit import Edit, edits_of
from cutaway.core.errors import ModelError, PlanError, TaskError, nearest
from cutaway.core.run import Run
from cutaway.core.site import Site, Span, parse_sites
from cutaway.core.tokens import plain_ids, token_texts
from cutaway.models import forward, projections, unembedding
from cutaway.models.anatomy import Anatomy
from cutaway.models.encode import Encoded, Prompts, encode
from cutaway.models.forward import Request
from cutaway.models.place import projection_weight
from cutaway.models.program import Clock, Program
from cutaway.models.resolve import resolve

if TYPE_CHECKING:
    from cutaway.models.generate import Generation
    from cutaway.models.plan import Plan
    from cutaway.models.sweep import Sweep

Reads = str | Site | Sequence[str | Site]


def _require_plain(edits: Sequence[Edit]) -> None:
    """Edits that can stay active while a user calls the network: rows and logits are the user's own there."""
    for edit in edits:
        if len(edit.scales) > 1:
            raise PlanError(
                f"'{edit}' has {len(edit.scales)} scales, which are rows of a batch.",
                "While a network is called directly, an edit has one scale.",
                "Use model.run or model.generate.",
            )
        if edit.site.kind == "logits":
            raise PlanError(
                f"'{edit}' changes the logits, which the caller gets as they leave the network.",
                "",
                "Change them where they arrive, or edit 'final'.",
            )


class Model:
    """An opened network.

    Attributes:
        hf: the transformers module itself.
        tokenizer: its tokenizer; None for a network that takes token ids only.
        name: what it was opened as.
        source: where the weights came from, with a fingerprint.
        anatomy: its sizes, layers and sites.
    """

    def __init__(self, hf: Any, tokenizer: Any = None, *, name: str = "", source: str = "") -> None:
        self.hf = hf
        self.tokenizer = tokenizer
        self.name = name or type(hf).__name__
        self.source = source
        self.anatomy = Anatomy(hf)
        self._texts: dict[int, str] = {}

    def __repr__(self) -> str:
        a = self.anatomy
        sizes = f"{a.n_layers} layers, d_model {a.d_model}"
        return f"Model({self.name!r}: {type(self.hf).__name__}, {sizes}, {self.dtype}, {self.device})"

    @property
    def device(self) -> torch.device:
        """Where token ids go."""
        return forward.input_device(self.hf)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        dtype: torch.dtype = next(p.dtype for p in self.hf.parameters() if p.is_floating_point())
        return dtype

    @property
    def attention_implementation(self) -> str:
        """The attention function in use: `sdpa`, `eager`, …"""
        return str(getattr(self.hf.config, "_attn_implementation", None) or "eager")

    # --- tokens --------------------------------------------------------------------------------------------------

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, with the special tokens that the tokenizer adds."""
        return list(encode(text, self.tokenizer).ids[0])

    def token_strings(self, ids: Sequence[int]) -> list[str]:
        """Each token as text, with the space that it stands for."""
        missing = [i for i in dict.fromkeys(int(i) for i in ids) if i not in self._texts]
        if missing and self.tokenizer is None:
            self._texts.update({i: f"<{i}>" for i in missing})
        elif missing:
            self._texts.update(zip(missing, token_texts(self.tokenizer, missing), strict=True))
        return [self._texts[int(i)] for i in ids]

    def token_id(self, text: str) -> int:
        """The id of a text that is one token; `TaskError` shows the tokens where it is more."""
        if self.tokenizer is None:
            raise TaskError("This model has no tokenizer.", "", "Use token ids.")
        ids = plain_ids(self.tokenizer, [text])[0]
        if len(ids) != 1:
            parts = " + ".join(repr(part) for part in self.token_strings(ids)) or "nothing"
            raise TaskError(
                f"{text!r} is {len(ids)} tokens here ({parts}).",
                "",
                "Name a text that is one token; a leading space often decides it.",
            )
        return ids[0]

    # --- running -------------------------------------------------------------------------------------------------

    def run(
        self,
        prompts: Prompts,
        *,
        read: Reads = (),
        edit: Edit | Sequence[Edit] | None = None,
        positions: Mapping[str, Sequence[int]] | None = None,
        logits: str = "all",
        metric: Callable[[Tensor], Tensor] | None = None,
        grad: Reads = (),
        decoder: Prompts | None = None,
        batch: int | str = "auto",
        strict: bool = False,
    ) -> Run:
        """One planned forward pass (and a backward one where gradients are asked for).

        Args:
            prompts: a text, texts, token ids, or a task.
            read: sites to keep, as text with commas between them or a sequence.
            edit: what to change; reads of an edited site show the value after the edits.
            positions: names for token positions, one index for each prompt, to use as `@name`.
            logits: `all` positions, the `last` one, or `none`.
            metric: a function of the logits at each prompt's last token [prompt, vocab] -> [prompt].
            grad: sites at which the gradient of the metric's sum is wanted.
            decoder: what the decoder of an encoder-decoder has said so far; the default is its start token.
            batch: rows at once, or "auto": as many as fit into the free memory.
            strict: every prompt alone with all layers and logits: bit-identical to the plain network.
        """
        request = self._request(prompts, read, edit, positions, logits, metric, grad, decoder, strict)
        return forward.execute(self.hf, self.anatomy, request, batch=batch, token_texts=self._token_tuple)

    def grad(
        self,
        prompts: Prompts,
        metric: Callable[[Tensor], Tensor],
        at: Reads,
        *,
        edit: Edit | Sequence[Edit] | None = None,
        read: Reads = (),
        positions: Mapping[str, Sequence[int]] | None = None,
        decoder: Prompts | None = None,
        batch: int | str = "auto",
    ) -> Run:
        """Gradients of a metric at sites; no gradient of any weight is computed.

        Args:
            prompts: as in `run`.
            metric: a function of the logits at each prompt's last token [prompt, vocab] -> [prompt].
            at: the sites; `run.grad(site)` has the shape of `run[site]`.
            edit: what to change in the forward pass.
            read: further sites to keep.
            positions: named positions, as in `run`.
            decoder: as in `run`.
            batch: rows at once.
        """
        return self.run(
            prompts,
            read=read,
            edit=edit,
            positions=positions,
            logits="last",
            metric=metric,
            grad=at,
            decoder=decoder,
            batch=batch,
        )

    def sweep(
        self,
        task: Any,
        over: Reads,
        *,
        edit: Any = "patch",
        direction: str = "denoise",
        metric: Any = None,
        batch: int | str = "auto",
        strict: bool = False,
    ) -> Sweep:
        """Change one site after another and measure each; see `cutaway.models.sweep.sweep`."""
        from cutaway.models.sweep import sweep

        return sweep(self, task, over, edit=edit, direction=direction, metric=metric, batch=batch, strict=strict)

    def generate(self, prompts: Prompts, *, edit: Edit | Sequence[Edit] | None = None, **options: Any) -> Generation:
        """Write on, with edits active at every step; see `cutaway.models.generate.generate`."""
        from cutaway.models.generate import generate

        return generate(self, prompts, edit=edit, **options)

    def plan(self, prompts: Prompts, *, over: Reads | None = None, **options: Any) -> Plan:
        """What a run (or, with `over`, a sweep) would do and cost, without running it."""
        from cutaway.models.plan import plan

        return plan(self, prompts, over=over, **options)

    @contextlib.contextmanager
    def editing(
        self,
        edit: Edit | Sequence[Edit],
        *,
        prompts: Prompts | None = None,
        lengths: Sequence[int] | None = None,
    ) -> Iterator[Model]:
        """Keep edits active for a `with` block, in which `model.hf(...)` is called as ever (also compiled).

        Args:
            edit: what to change.
            prompts: the prompts that will be run, where an edit needs them (named or negative positions, means).
            lengths: instead of prompts: the number of tokens of each row. In an encoder-decoder, besides prompts: those
                of the decoder.
        """
        edits = edits_of(edit)
        _require_plain(edits)
        if prompts is not None:
            encoded = encode(prompts, self.tokenizer)
            n = len(encoded.ids)
            clock = Clock(encoded.lengths, named=encoded.named, rows=list(range(n)))
            if self.anatomy.is_encoder_decoder:
                clock = replace(clock, lengths=list(lengths or [1] * n), cross_lengths=encoded.lengths)
            edits = self._resolve(edits, encoded, decoder_lengths=clock.lengths)
        else:
            clock = Clock(list(lengths or []), rows=list(range(len(lengths or []))))
            edits = self._resolve(edits, None, decoder_lengths=lengths)
            if lengths is None and any(isinstance(e.site.position, int | str) for e in edits):
                raise PlanError(
                    "An edit at one position needs to know where the prompts end.",
                    "",
                    "Write model.editing(edits, prompts=[...]) or lengths=[...].",
                )
        with Program(self.anatomy, (), edits, clock).installed():
            yield self

    # --- weights -------------------------------------------------------------------------------------------------

    def unembed(
        self, resid: Float[Tensor, "*place d_model"], tokens: Sequence[int] | Int[Tensor, " token"] | None = None
    ) -> Float[Tensor, "*place vocab"]:
        """Final norm and unembedding of residual stream values [..., d_model] -> logits [..., vocab or len(tokens)]."""
        return self._unembedding.logits(resid, tokens)

    @property
    def final_norm(self) -> unembedding.FrozenNorm:
        """The final norm as an affine map with frozen statistics."""
        return self._unembedding.norm

    @cached_property
    def _unembedding(self) -> unembedding.Unembedding:
        return unembedding.Unembedding.of(self)

    @property
    def W_U(self) -> Float[Tensor, "d_model vocab"]:  # noqa: N802 - the field's name
        """The unembedding [d_model, vocab]."""
        if self.anatomy.unembed is None:
            raise ModelError(f"{type(self.hf).__name__} has no unembedding.")
        return projection_weight(self.anatomy.unembed)

    def W_O(self, layer: int) -> Float[Tensor, "head d_head d_model"]:  # noqa: N802 - the field's name
        """The output projection of a layer's attention as [head, d_head, d_model]."""
        part = self.anatomy.layer(Site("z", layer))
        if part.output_projection is None:
            raise ModelError(
                f"Layer {layer} of {type(self.hf).__name__} has no matrix that takes each head's z to the residual stream.",
                "It may be gated, or without attention.",
            )
        weight = projection_weight(part.output_projection)
        return weight.reshape(part.n_heads, -1, weight.shape[-1])

    def W_Q(self, layer: int) -> Float[Tensor, "head d_model d_head"]:  # noqa: N802 - the field's name
        """What makes a layer's queries, as [head, d_model, d_head]; it reads the stream after the layer's norm."""
        return projections.weights(self, "q", layer)

    def W_K(self, layer: int) -> Float[Tensor, "kv_head d_model d_head"]:  # noqa: N802 - the field's name
        """What makes a layer's keys, as [key/value head, d_model, d_head]."""
        return projections.weights(self, "k", layer)

    def W_V(self, layer: int) -> Float[Tensor, "kv_head d_model d_value"]:  # noqa: N802 - the field's name
        """What makes a layer's values, as [key/value head, d_model, d_value]."""
        return projections.weights(self, "v", layer)

    def attention_bias(self, layer: int) -> Float[Tensor, " d_model"] | None:
        """The bias of the output projection of a layer's attention, or None."""
        part = self.anatomy.layer(Site("z", layer))
        bias = getattr(part.output_projection, "bias", None)
        return bias if isinstance(bias, Tensor) else None

    def check(self, **options: Any) -> Any:
        """Run the laws on this model: which sites can be trusted; see `cutaway.models.check.check`."""
        from cutaway.models.check import check

        return check(self, **options)

    # --- inside --------------------------------------------------------------------------------------------------

    def _token_tuple(self, ids: Sequence[int]) -> tuple[str, ...]:
        return tuple(self.token_strings(ids))

    def _request(
        self,
        prompts: Prompts,
        read: Reads,
        edit: Edit | Sequence[Edit] | None,
        positions: Mapping[str, Sequence[int]] | None,
        logits: str,
        metric: Callable[[Tensor], Tensor] | None,
        grad: Reads,
        decoder: Prompts | None,
        strict: bool,
    ) -> Request:
        if logits not in ("all", "last", "none"):
            raise PlanError(f"logits is {logits!r}:", nearest(str(logits), ["all", "last", "none"]))
        if metric is not None and logits == "none":
            logits = "last"
        encoded = encode(prompts, self.tokenizer, positions)
        self._within_context(encoded)
        reads, grads = self.expand(read), self.expand(grad)
        said = self._decoder_prompts(decoder, len(encoded.ids))
        if said is not None:
            self._within_context(said)
        own = said.lengths if said is not None else None
        return Request(
            encoded,
            reads,
            self._resolve(edits_of(edit), encoded, decoder=decoder, decoder_lengths=own),
            logits,  # type: ignore[arg-type]
            grads,
            metric,
            said,
            strict,
        )

    def expand(self, sites: Reads) -> tuple[Site, ...]:
        """Concrete sites of this model that sites and patterns name; all positions stay one site."""
        found: dict[Site, None] = {}
        for site in parse_sites(sites):
            for one in self.anatomy.expand(site):
                found[one.at(None) if one.position == Span() else one] = None
        return tuple(found)

    def _resolve(
        self,
        edits: Sequence[Edit],
        encoded: Encoded | None,
        *,
        decoder: Prompts | None = None,
        decoder_lengths: Sequence[int] | None = None,
    ) -> tuple[Edit, ...]:
        def lengths(site: Site) -> Sequence[int]:
            on_decoder = decoder_lengths is not None and not site.on_encoder and self.anatomy.is_encoder_decoder
            if encoded is None or on_decoder:
                return list(decoder_lengths or ())
            return encoded.lengths

        def reference(sites: tuple[Site, ...]) -> Mapping[Site, Tensor]:
            if encoded is None:
                raise PlanError(
                    "A mean or resampled value needs prompts to take it from.",
                    "",
                    "Give prompts= or a reference= run.",
                )
            return self.run(encoded, read=sites, logits="none", decoder=decoder)

        known = encoded is not None or bool(decoder_lengths)
        return resolve(edits, self.anatomy, reference, lengths if known else None)

    def _decoder_prompts(self, decoder: Prompts | None, n: int) -> Encoded | None:
        if not self.anatomy.is_encoder_decoder:
            if decoder is not None:
                raise PlanError(f"{self.name} has no decoder beside its main stack.", "", "Leave decoder= out.")
            return None
        if decoder is not None:
            encoded = encode(decoder, self.tokenizer)
            if len(encoded.ids) not in (1, n):
                raise PlanError(
                    f"The decoder has {len(encoded.ids)} prompts, the encoder {n}.",
                    "It has one for each, or one for all.",
                )
            return encoded if len(encoded.ids) == n else Encoded(encoded.ids * n)
        start = getattr(self.hf.config, "decoder_start_token_id", None)
        start = start if start is not None else getattr(self.hf.config, "bos_token_id", None) or 0
        return Encoded(((int(start),),) * n)

    def _within_context(self, encoded: Encoded) -> None:
        limit = getattr(self.anatomy.text_config, "max_position_embeddings", None)
        longest = max(encoded.lengths)
        if isinstance(limit, int) and longest > limit > 0:
            raise TaskError(
                f"A prompt has {longest} tokens.",
                f"{self.name} takes {limit} at most.",
                "Shorten the prompt.",
            )
        size = self.anatomy.vocab_size
        wrong = next((i for ids in encoded.ids for i in ids if not 0 <= i < size), None)
        if wrong is not None:
            raise TaskError(f"Token id {wrong} does not exist.", f"{self.name} has {size} tokens, 0 to {size - 1}.")
