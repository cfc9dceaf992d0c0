"""What parts does this network have, and where does each site live?

The layers are found from the structure (the list of blocks that the decoder runs in order), the parts of a layer by
watching one short forward pass (`probe.py`). A site that the probe cannot place is *refused* with its reason: it is
never served wrong. What is placed is checked by the laws of `check.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from cutaway.core.errors import SiteError
from cutaway.core.site import KINDS, Site
from cutaway.models import layer_parts, probe, stacks
from cutaway.models.place import Place

PROBE_LENGTH = 6


@dataclass
class Layer:
    """One block of a stack.

    Attributes:
        index, path, module: which block, and where it is in the model.
        out_index: which element of the block's output is the residual stream; None where it is a tensor.
        places: site kind -> where its value passes.
        refused: site kind -> why this layer does not have it.
        attention: the module that makes the attention call, where the registry is used.
        core: the module inside which the softmax of attention runs.
        experts: the module that runs the experts.
        n_heads, n_kv_heads, d_head, d_value, d_mlp, n_experts: sizes, 0 where there is none.
        sinks: columns of the softmax beyond the keys (attention sinks).
        complete: the contributions that are served are all that the layer adds.
        is_cross: it stands for the cross-attention of a layer.
        parallel: attention and MLP read the same stream.
        post_norm: the stream is normalised after each sum.
    """

    index: int
    path: str
    module: nn.Module
    out_index: int | None = None
    places: dict[str, Place] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    attention: nn.Module | None = None
    core: nn.Module | None = None
    experts: nn.Module | None = None
    output_projection: nn.Module | None = None
    norms: dict[str, nn.Module] = field(default_factory=dict)
    n_heads: int = 0
    n_kv_heads: int = 0
    d_head: int = 0
    d_value: int = 0
    d_mlp: int = 0
    n_experts: int = 0
    sinks: int = 0
    complete: bool = False
    is_cross: bool = False
    parallel: bool = False
    post_norm: bool = False


@dataclass
class Stack:
    """The layers of one stack, with the model's call that runs them."""

    name: str
    path: str
    layers: list[Layer]
    cross: dict[int, Layer] = field(default_factory=dict)


class Anatomy:
    """The parts of an opened network. Sizes and layers are known at once; sites after a short probe, when first asked.

    Args:
        hf: a transformers model.
    """

    def __init__(self, hf: Any) -> None:
        self.hf = hf
        self.config: Any = hf.config
        self.text_config: Any = (
            self.config.get_text_config(decoder=True) if hasattr(self.config, "get_text_config") else self.config
        )
        self.is_encoder_decoder = bool(getattr(self.config, "is_encoder_decoder", False))
        unembed = hf.get_output_embeddings() if hasattr(hf, "get_output_embeddings") else None
        if isinstance(unembed, nn.ModuleList) or not isinstance(unembed, nn.Module):
            unembed = None  # a list has one matrix for each of several texts: none is the unembedding
        self.unembed: nn.Module | None = unembed
        self.embed: Any = _input_embeddings(hf)
        self.encoder_embed: Any = _input_embeddings(hf, of_encoder=True) if self.is_encoder_decoder else None
        self._refused_ends: dict[str, str] = {}
        self._found = stacks.find(hf, self.is_encoder_decoder, lambda: _probe_inputs(self))

    # --- sizes ---------------------------------------------------------------------------------------------------

    @property
    def n_layers(self) -> int:
        """Number of layers of the main stack."""
        return len(self._found[""][1])

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        for name in ("hidden_size", "d_model", "n_embd", "dim", "model_dim"):
            if isinstance(size := getattr(self.text_config, name, None), int):
                return size
        assert self.embed is not None
        return int(self.embed.weight.shape[-1])

    @property
    def vocab_size(self) -> int:
        """Number of tokens of the vocabulary."""
        if self.embed is not None and hasattr(self.embed, "weight"):
            return int(self.embed.weight.shape[0])
        return int(self.text_config.vocab_size)

    @property
    def n_heads(self) -> int:
        """Number of query heads of the first layer that has attention."""
        return self._first("n_heads")

    @property
    def n_kv_heads(self) -> int:
        """Number of key/value heads of the first layer that has attention."""
        return self._first("n_kv_heads")

    @property
    def d_head(self) -> int:
        """Width of a head's z."""
        return self._first("d_head")

    @property
    def d_mlp(self) -> int:
        """Number of neurons of the first layer's MLP, 0 where no layer has neurons of its own."""
        return self._first("d_mlp")

    def _first(self, name: str) -> int:
        return next((int(getattr(layer, name)) for layer in self.stacks[""].layers if getattr(layer, name)), 0)

    @property
    def is_causal(self) -> bool:
        """True when a position never sees a later one."""
        if self.is_encoder_decoder:
            return True
        if getattr(self.config, "is_decoder", False):
            return True
        return (self.unembed is not None and "CausalLM" in type(self.hf).__name__) or _is_causal_class(self.hf)

    @property
    def has_unembedding(self) -> bool:
        """True when the model ends in logits over its vocabulary."""
        return self.unembed is not None

    @property
    def features(self) -> frozenset[str]:
        """What methods may need: `causal`, `unembedding`, `attention`, `encoder_decoder`, `experts`."""
        names = {
            "causal": self.is_causal,
            "unembedding": self.has_unembedding,
            "attention": self.n_heads > 0,
            "encoder_decoder": self.is_encoder_decoder,
            "experts": any(layer.n_experts for layer in self.stacks[""].layers),
        }
        return frozenset(name for name, has in names.items() if has)

    # --- places --------------------------------------------------------------------------------------------------

    @cached_property
    def stacks(self) -> Mapping[str, Stack]:
        """The stacks with every layer's places, from one probe of a few tokens."""
        return _examine(self)

    @property
    def refused_ends(self) -> Mapping[str, str]:
        """Why `embed` or `final` is refused, where it is."""
        _ = self.stacks
        return self._refused_ends

    def layer(self, site: Site) -> Layer:
        """The layer of a site; `SiteError` where the model has no such stack or layer."""
        stack = self.stacks.get("" if site.stack == "cross" else site.stack)
        if stack is None:
            raise SiteError(
                f"'{site}' names the stack {site.stack!r}.",
                "This model has one stack only.",
                "Leave the name out.",
            )
        assert isinstance(site.layer, int)
        if not -len(stack.layers) <= site.layer < len(stack.layers):
            raise SiteError(
                f"'{site}' names layer {site.layer}, which does not exist:",
                f"{type(self.hf).__name__} has {len(stack.layers)} layers, 0 to {len(stack.layers) - 1}.",
            )
        layer = stack.layers[site.layer % len(stack.layers)]
        return layer if site.stack != "cross" else stack.cross.get(layer.index, _no_cross(layer))

    def place(self, site: Site) -> Place:
        """Where a site's value passes; `SiteError` says why where it is refused."""
        if KINDS[site.kind][0] == "ends":
            return self._end(site)
        layer = self.layer(site)
        if site.kind in layer.refused or site.kind not in layer.places:
            reason = layer.refused.get(site.kind, "the probe did not find it")
            raise SiteError(
                f"'{site}' is refused on {type(self.hf).__name__}: {reason}.",
                f"Layer {layer.index} has: {', '.join(k for k in KINDS if k in layer.places)}.",
            )
        return layer.places[site.kind]

    def _end(self, site: Site) -> Place:
        embed = self.encoder_embed if site.on_encoder else self.embed
        unembed = None if site.stack else self.unembed
        module = {"embed": embed, "final": unembed, "logits": unembed}[site.kind]
        if module is None:
            what = "embedding of tokens" if site.kind == "embed" else "unembedding"
            who = f"its {site.stack}" if site.stack and self.is_encoder_decoder else "the model"
            raise SiteError(f"'{site}' is refused on {type(self.hf).__name__}: {who} has no {what}.")
        if (name := f"{site.stack}.{site.kind}" if site.stack else site.kind) in self.refused_ends:
            raise SiteError(f"'{site}' is refused on {type(self.hf).__name__}: {self.refused_ends[name]}.")
        if site.kind == "logits":
            return Place(self.hf, "", "logits")
        return Place(module, site.kind, "in" if site.kind == "final" else "out")

    def sizes(self, site: Site) -> dict[str, int]:
        """The numbers of layers, heads, units and experts that a site's patterns range over."""
        stack = (
            self.stacks["" if site.stack == "cross" else site.stack]
            if site.stack in ("", "cross")
            else self.stacks.get(site.stack)
        )
        layers = stack.layers if stack is not None else []
        if stack is not None and site.stack == "cross":
            layers = list(stack.cross.values())

        def largest(name: str) -> int:
            return max((int(getattr(layer, name)) for layer in layers), default=0)

        heads = largest("n_kv_heads" if site.kind in ("k", "v", "k_pre_rope") else "n_heads")
        last = KINDS[site.kind][1][-1]
        units = {
            "d_model": self.d_model,
            "d_mlp": largest("d_mlp"),
            "d_head": largest("d_head"),
            "vocab": self.vocab_size,
        }
        return {
            "layers": len(self.stacks[""].layers) if site.stack == "cross" else len(layers),
            "heads": heads,
            "units": units.get(last, 0),
            "experts": largest("n_experts"),
        }

    def expand(self, site: Site, positions: int | None = None) -> list[Site]:
        """Every concrete site that a pattern names; layers that lack the kind are left out of a `*`."""
        found = site.expand(**self.sizes(site), positions=positions)
        if isinstance(site.layer, int) or site.layer is None:
            return found
        kept = [one for one in found if one.kind in self.layer(one).places]
        if not kept:
            self.place(found[0] if found else site)
        return kept


def _no_cross(layer: Layer) -> Layer:
    reason = "the layer has no cross-attention"
    return Layer(layer.index, layer.path, layer.module, refused=dict.fromkeys(KINDS, reason))


def _is_causal_class(hf: nn.Module) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

    known = {n for names in NAMES.values() for n in ([names] if isinstance(names, str) else names)}
    is_encoder = hasattr(hf, "config") and any("MaskedLM" in n for n in getattr(hf.config, "architectures", None) or [])
    return type(hf).__name__ in known and not is_encoder and not type(hf).__name__.endswith("MaskedLM")


def _input_embeddings(hf: Any, *, of_encoder: bool = False) -> nn.Module | None:
    """The embedding of the tokens that the main stack reads: of two stacks the decoder's, which may be shared or not."""
    two = bool(getattr(hf.config, "is_encoder_decoder", False)) and hasattr(hf, "get_decoder")
    try:
        stack = hf.get_encoder() if of_encoder else hf.get_decoder() if two else hf
        module = stack.get_input_embeddings()
    except (NotImplementedError, AttributeError):
        return None
    return module if isinstance(module, nn.Module) else None


# --- layers --------------------------------------------------------------------------------------------------


def _probe_inputs(anatomy: Anatomy) -> dict[str, Any]:
    from cutaway.models.forward import input_device

    device = input_device(anatomy.hf)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(*probe.tokens_from(anatomy.vocab_size), (1, PROBE_LENGTH), generator=generator).to(device)
    if anatomy.is_encoder_decoder:
        return {"input_ids": ids, "decoder_input_ids": ids.flip(1)[:, 1:]}  # of another length: two texts can be told
    return {"input_ids": ids}


def _examine(anatomy: Anatomy) -> dict[str, Stack]:
    found = {}
    tolerance = probe_tolerance(anatomy.hf)
    own = {"embed": anatomy.embed, "final": anatomy.unembed, "encoder.embed": anatomy.encoder_embed}
    ends = {name: module for name, module in own.items() if module is not None}
    for name, (path, blocks) in anatomy._found.items():
        length = PROBE_LENGTH - (anatomy.is_encoder_decoder and name == "")
        traces, calls = probe.watch(anatomy.hf, blocks, _probe_inputs(anatomy), length, ends)
        layers, cross = [], {}
        for trace in traces:
            layer = Layer(trace.index, trace.path, trace.module, trace.out_index)
            crossing = layer_parts.fill(layer, trace, tolerance, anatomy)
            layers.append(layer)
            if crossing is not None:
                cross[layer.index] = crossing
        _refuse_broken_chains(layers, traces)
        found[name] = Stack(name, path, layers, cross)
        here = {end: module for end, module in ends.items() if (end == "encoder.embed") == (name == "encoder")}
        anatomy._refused_ends.update(_ends_refused(here, calls, length))
    return found


def _refuse_broken_chains(layers: list[Layer], traces: list[probe.Trace]) -> None:
    """The stream after a layer is the stream before the next one; where it is not, neither is served."""
    ran = [(layer, trace) for layer, trace in zip(layers, traces, strict=True) if trace.runs == 1]
    links = list(pairwise(ran))
    broken = [
        (before, after)
        for (before, gave), (after, took) in links
        if gave.out is not None and took.inp is not None and not probe.same(gave.out, took.inp, 0)
    ]
    if links and len(broken) == len(links):
        broken.append((layers[-1], layers[0]))  # these are no layers of one stream
    for before, after in broken:
        for layer, kind in ((before, "resid_post"), (after, "resid_pre")):
            layer.places.pop(kind, None)
            layer.refused[kind] = f"layer {after.index} does not take what layer {before.index} gives"


def _ends_refused(ends: Mapping[str, nn.Module], calls: Mapping[str, list[probe.Call]], length: int) -> dict[str, str]:
    reasons = {}
    for name in ends:
        runs = calls.get(name, [])
        what = "unembedding" if name == "final" else "embedding of tokens"
        if len(runs) != 1:
            reasons[name] = f"the {what} ran {len(runs)} times in one forward pass"
            continue
        value = runs[0].inp if name == "final" else next((t for _, t in runs[0].outs), None)
        if value is None or value.dim() != 3 or tuple(value.shape[:2]) != (1, length):
            shape = None if value is None else tuple(value.shape)
            reasons[name] = f"its value has the shape {shape} for one prompt of {length} tokens"
    return reasons


def probe_tolerance(hf: nn.Module) -> float:
    """The relative rounding of a sum in the model's dtype, with room for a few operations."""
    dtype = next(p.dtype for p in hf.parameters() if p.is_floating_point())
    return {torch.float64: 1e-9, torch.float32: 2e-5, torch.float16: 8e-3, torch.bfloat16: 4e-2}.get(dtype, 4e-2)
