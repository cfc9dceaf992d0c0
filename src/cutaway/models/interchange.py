"""What would the network say with this value here? A run that goes on from a site, and can be differentiated.

Training a subspace takes hundreds of runs that differ from plain ones at one site only. Everything below the site's
layer, and in a causal network everything before its position, is the same in all of them: it is recorded once and
resumed, as sweeps do (`resume.py`), here with gradients from the logits back to the new value.
How far the network allows that is `sweep.tier_of`. Only the logits that are compared are computed.
Limits: prompts of one recording are equally long, and the logits are those of the last token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.core.edit import Edit
from cutaway.core.errors import ModelError
from cutaway.core.run import token_positions
from cutaway.core.site import Site
from cutaway.models import taps
from cutaway.models.forward import accepts, model_inputs
from cutaway.models.multigrad import _weights_at_rest
from cutaway.models.program import Clock, Program
from cutaway.models.recording import Recording, prefix_cache, record
from cutaway.models.sweep import tier_of

if TYPE_CHECKING:
    from cutaway.models.model import Model


@dataclass(frozen=True, eq=False)
class Halfway:
    """Prompts of one length, run once and ready to go on from a site.

    Attributes:
        model: the network.
        site: where new values are put in; its position is one token of each prompt.
        base: the recorded run.
        where: the token index of the site in each prompt.
        values: what the prompts have at the site [prompt, width].
    """

    model: Model
    site: Site
    base: Recording
    where: tuple[int, ...]
    values: Float[Tensor, "prompt width"]

    def logits(
        self, rows: Sequence[int], value: Float[Tensor, "row width"], tokens: Sequence[int]
    ) -> Float[Tensor, "row token"]:
        """The logits of `tokens` at the last position, for prompts `rows` with new values at the site.

        Differentiable in `value` where gradients are enabled; no gradient of any weight is computed.
        """
        with _weights_at_rest(self.model.hf):
            return self._logits(list(rows), value, list(tokens))

    def _logits(self, rows: list[int], value: Tensor, tokens: list[int]) -> Tensor:
        model, n_layers = self.model, self.model.anatomy.n_layers
        tier = tier_of(model)
        site = self._joined_later(n_layers)
        assert isinstance(site.layer, int)
        start = min(self.where[row] for row in rows) if tier == "suffix" and self.base.keys is not None else 0
        where = [self.where[row] for row in rows]
        named = {"here": where}
        clock = Clock(
            [self.base.length] * len(rows),
            offset=start,
            width=self.base.length - start,
            named=named,
            rows=range(len(rows)),
        )
        edit = Edit(site.at("here"), "replace", value=value)
        program = Program(model.anatomy, (), [edit], clock)
        found: list[Tensor] = []
        inputs = self._inputs(rows, start)
        below = [] if tier == "full" else self._below(site.layer, rows, start)
        exact = model._unembedding.exact
        ends = [taps.ModuleTap(_unembedding_of(model), "in", self._reading(tokens, found))] if exact else []
        try:
            with taps.module_taps(below), program.installed(), taps.module_taps(ends):
                out = model.hf(**inputs)
        except taps.Stop:
            return found[0]
        return out.logits[:, -1, tokens]

    def _joined_later(self, n_layers: int) -> Site:
        """The stream after a layer is the stream before the next one, which the next layer's start puts in place."""
        site = self.site
        if site.kind == "resid_post" and isinstance(site.layer, int) and site.layer + 1 < n_layers:
            following = replace(site, kind="resid_pre", layer=site.layer + 1)
            if "resid_pre" in self.model.anatomy.layer(following).places:
                return following
        return site

    def _inputs(self, rows: list[int], start: int) -> dict[str, Any]:
        hf = self.model.hf
        inputs = model_inputs(hf, [self.base.ids[row][start:] for row in rows])
        if start:
            cache, prefixes = prefix_cache(self.base, start)
            for prefix in prefixes:
                prefix.prompts = torch.tensor(rows)
            inputs |= {"past_key_values": cache, "use_cache": True}
            inputs.pop("attention_mask", None)
            if accepts(hf, "position_ids"):
                place = torch.arange(start, self.base.length, device=inputs["input_ids"].device)
                inputs["position_ids"] = place[None]
        return inputs

    def _below(self, first: int, rows: list[int], start: int) -> list[taps.ModuleTap]:
        """Layers below the site do not run; the site's layer is given what was recorded."""
        layers = self.model.anatomy.stacks[""].layers
        found = []
        for layer in layers[:first]:
            template = self.base.outputs[layer.index]
            if not isinstance(template, Tensor):
                template = tuple(template)
            found.append(taps.ModuleTap(layer.module, "skip", lambda hidden: hidden, layer.out_index, template))
        stream = self.base.streams[first]
        joined = stream[torch.tensor(rows, device=stream.device), start:]
        found.append(taps.ModuleTap(layers[first].module, "in", lambda hidden: joined))
        return found

    def _reading(self, tokens: list[int], found: list[Tensor]) -> taps.Visitor:
        ends = self.model._unembedding
        bias = None if ends.bias is None else ends.bias.detach()
        ends = replace(ends, weight=ends.weight.detach(), bias=bias)  # views that were made while weights had gradients

        def visit(final: Tensor) -> None:
            if final.dim() == 3:
                found.append(ends.of_final(final[:, -1], tokens))
                raise taps.Stop

        return visit


def _unembedding_of(model: Model) -> torch.nn.Module:
    assert model.anatomy.unembed is not None
    return model.anatomy.unembed


def halfway(
    model: Model, ids: Sequence[Sequence[int]], site: Site, *, named: Mapping[str, Sequence[int]] | None = None
) -> Halfway:
    """Run prompts of one length and keep what going on from a site needs.

    Args:
        model: the network.
        ids: token ids of the prompts.
        site: a concrete site of a layer with one position.
        named: token index of each named position in each prompt.

    Raises:
        ModelError: the network has no unembedding or is an encoder-decoder.
    """
    if model.anatomy.unembed is None or model.anatomy.is_encoder_decoder:
        raise ModelError(
            f"{type(model.hf).__name__} does not continue the text that it reads.",
            "Values are put in on the way to the next token's logits.",
            "Open a causal language model.",
        )
    assert isinstance(site.position, int | str), "a site has one position here"
    where = token_positions(site.position, [len(row) for row in ids], named)
    whole = site.at(None)
    _ = model._unembedding  # learned from a pass of its own, before anything is recorded
    base = record(model, ids, [whole], cache=tier_of(model) == "suffix")
    held = base.sites[whole]
    values = held[torch.arange(len(ids)), torch.tensor(where)]
    return Halfway(model, site, base, tuple(where), values.reshape(len(ids), -1))
