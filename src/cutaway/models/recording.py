"""What did the base run go through? Streams, keys and values, and sites of prompts of one length, kept for resuming."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from cutaway.core.site import Site
from cutaway.models import taps
from cutaway.models.encode import Encoded
from cutaway.models.forward import accepts, model_inputs
from cutaway.models.program import Clock, Program

if TYPE_CHECKING:
    from cutaway.models.model import Model


@dataclass
class Recording:
    """A run of prompts of equal length.

    Attributes:
        ids: token ids [prompt][position].
        streams: what enters each layer, and what leaves the last one: n_layers + 1 tensors [prompt, position, d_model].
        outputs: what each layer returned, as it returned it (for layers that are passed over).
        keys, values: of each layer [prompt, head, position, d_head]; None where the cache is of another kind.
        sites: values of whole sites.
        calls: the arguments with which each layer was called.
        attention: what each layer's attention module returned, as it returned it.
        logits: at the last position [prompt, vocab].
    """

    ids: list[tuple[int, ...]]
    streams: list[Float[Tensor, "prompt position d_model"]]
    outputs: list[Any]
    keys: list[Float[Tensor, "prompt head position d_head"]] | None
    values: list[Float[Tensor, "prompt head position d_value"]] | None
    sites: dict[Site, Tensor] = field(default_factory=dict)
    calls: list[Any] = field(default_factory=list)
    attention: list[Any] = field(default_factory=list)
    logits: Float[Tensor, "prompt vocab"] | None = None

    @property
    def length(self) -> int:
        """Tokens of each prompt."""
        return len(self.ids[0])


def record(
    model: Model,
    ids: Sequence[Sequence[int]],
    sites: Sequence[Site],
    *,
    streams: bool = True,
    cache: bool = True,
    strict: bool = False,
) -> Recording:
    """Run prompts of equal length once and keep what a resumed run needs."""
    hf, anatomy = model.hf, model.anatomy
    rows = [tuple(entry) for entry in ids]
    clock = Clock([len(r) for r in rows], rows=list(range(len(rows))))
    program = Program(anatomy, tuple(sites), (), clock)
    kept: list[Tensor] = []
    outputs: list[Any] = []
    calls: list[Any] = []
    attention: dict[str, Any] = {}
    layers = anatomy.stacks[""].layers
    modules = {layer.path: layer.module for layer in layers} if streams else {}
    for layer in layers if streams else []:
        if "attn_out" in layer.places:
            modules[f"attention {layer.path}"] = layer.places["attn_out"].module

    def seen(name: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        if name.startswith("attention "):
            attention[name.removeprefix("attention ")] = output
            return
        found = taps.first_tensor(args, kwargs)
        assert found is not None
        kept.append(found[1])
        outputs.append(output)
        calls.append((args, kwargs))

    inputs = model_inputs(hf, rows)
    if cache and accepts(hf, "past_key_values"):
        # Without a configuration every layer keeps all keys, also where the model looks through a sliding window.
        inputs |= {"past_key_values": DynamicCache(), "use_cache": True}
    whole = not strict and accepts(hf, "logits_to_keep")
    if whole:
        inputs["logits_to_keep"] = 1
    with torch.no_grad(), program.installed(), taps.watching(modules, seen):
        out = hf(**inputs)
    if streams:
        last = layers[-1].out_index
        kept.append(outputs[-1] if isinstance(outputs[-1], Tensor) else outputs[-1][last or 0])
    keys, values = _keys_and_values(inputs.get("past_key_values"), len(layers), len(rows[0]))
    logits = getattr(out, "logits", None)
    return Recording(
        rows,
        kept,
        outputs,
        keys,
        values,
        program.values,
        calls,
        [attention.get(layer.path) for layer in layers],
        logits[:, -1] if logits is not None else None,
    )


def _keys_and_values(cache: Any, n_layers: int, length: int) -> tuple[list[Tensor] | None, list[Tensor] | None]:
    if cache is None or len(cache.layers) != n_layers:
        return None, None
    keys = [getattr(layer, "keys", None) for layer in cache.layers]
    values = [getattr(layer, "values", None) for layer in cache.layers]
    plain = all(isinstance(t, Tensor) and t.dim() == 4 and t.shape[2] == length for t in (*keys, *values))
    return (keys, values) if plain else (None, None)  # type: ignore[return-value]


class _Prefix(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values of the positions before a start, for whichever rows are alive at that layer."""

    def __init__(self, keys: Tensor, values: Tensor, start: int) -> None:
        super().__init__()
        self.keys, self.values, self.start = keys[:, :, :start], values[:, :, :start], start
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self.prompts: Tensor | None = None

    def update(self, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if self.prompts is None or len(self.keys) == 1:
            old = [t.expand(len(key), -1, -1, -1) for t in (self.keys, self.values)]
        else:
            old = [t[self.prompts.to(t.device)] for t in (self.keys, self.values)]
        return torch.cat([old[0], key], dim=2), torch.cat([old[1], value], dim=2)


def prefix_cache(recording: Recording, start: int) -> tuple[Cache, list[_Prefix]]:
    """A cache that answers with the base run's keys and values before `start`; nothing is ever added to it."""
    assert recording.keys is not None and recording.values is not None
    layers = [_Prefix(k, v, start) for k, v in zip(recording.keys, recording.values, strict=True)]
    return Cache(layers=list(layers)), layers


def by_length(encoded: Encoded | Sequence[Sequence[int]]) -> dict[int, list[int]]:
    """Indices of prompts grouped by their number of tokens."""
    groups: dict[int, list[int]] = {}
    for index, ids in enumerate(encoded.ids if isinstance(encoded, Encoded) else encoded):
        groups.setdefault(len(ids), []).append(index)
    return groups
