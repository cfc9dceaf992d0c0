"""What does a set of changed edges do, computed the slow way? Every head of every layer by hand, one prompt set at a time.

The reference for the fast evaluation of edges (`cutaway.models.edges`) and for their gradients: each target has a
stream of its own, summed from what each source wrote, and each head is computed alone from it, as the definition says.
Written for Llama and GPT-2, whose parts it names; nothing of it is used outside of tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cutaway.core.edge import Bools, EdgeGraph
from cutaway.core.site import Site
from cutaway.models.model import Model


@dataclass
class PlainEdges:
    """One slow run.

    Attributes:
        model: a Llama or a GPT-2.
        graph: its edges.
        patched: the changed edges [source, target].
        other: what each source writes instead [prompt, position, d_model]; zero where it is missing.
        offsets: added to what a target reads: a leaf here gives the gradient at that target.
        written: what each source wrote in the run, once it has been made.
    """

    model: Model
    graph: EdgeGraph
    patched: Bools
    other: Mapping[Site, Tensor] = field(default_factory=dict)
    offsets: Mapping[Site, Tensor] = field(default_factory=dict)
    written: dict[Site, Tensor] = field(default_factory=dict)
    constant: Tensor | float = 0.0

    def logits(self, ids: Tensor) -> Tensor:
        """Logits at the last position [prompt, vocab] of prompts of one length [prompt, position]."""
        hf = self.model.hf
        return _llama(self, hf, ids) if hasattr(hf, "model") else _gpt2(self, hf, ids)

    def read(self, target: Site) -> Tensor:
        """The stream of a target."""
        number = self.graph.target_number[target]
        total: Any = self.constant
        for source, value in self.written.items():
            row = self.graph.source_number[source]
            if not self.graph.exists[row, number]:
                continue
            total = total + (self.other.get(source, torch.zeros_like(value)) if self.patched[row, number] else value)
        return total + self.offsets[target] if target in self.offsets else total


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One head [prompt, position, d_head]."""
    scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
    length = q.shape[1]
    hidden = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
    return scores.masked_fill(hidden, float("-inf")).softmax(dim=-1) @ v


def _llama(run: PlainEdges, hf: Any, ids: Tensor) -> Tensor:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    body, config = hf.model, hf.config
    run.written[Site("embed")] = body.embed_tokens(ids)
    positions = torch.arange(ids.shape[1], device=ids.device)[None]
    cos, sin = body.rotary_emb(run.written[Site("embed")], positions)
    heads, shared = config.num_attention_heads, config.num_attention_heads // config.num_key_value_heads
    for number, layer in enumerate(body.layers):
        width = layer.self_attn.head_dim

        def made(kind: str, head: int, number: int = number, layer: Any = layer, width: int = width) -> Tensor:
            matrix = getattr(layer.self_attn, f"{kind}_proj").weight[head * width : (head + 1) * width]
            return layer.input_layernorm(run.read(Site(kind, number, head))) @ matrix.T

        new = {}
        for head in range(heads):
            q, k = apply_rotary_pos_emb(made("q", head)[:, None], made("k", head // shared)[:, None], cos, sin)
            z = _attend(q[:, 0], k[:, 0], made("v", head // shared))
            new[Site("z", number, head)] = z @ layer.self_attn.o_proj.weight[:, head * width : (head + 1) * width].T
        run.written |= new
        stream = run.read(Site("mlp_in", number))
        run.written[Site("mlp_contrib", number)] = layer.mlp(layer.post_attention_layernorm(stream))
    logits: Tensor = hf.lm_head(body.norm(run.read(Site("logits"))))[:, -1]
    return logits


def _gpt2(run: PlainEdges, hf: Any, ids: Tensor) -> Tensor:
    body = hf.transformer
    positions = torch.arange(ids.shape[1], device=ids.device)[None]
    run.written[Site("embed")] = body.wte(ids) + body.wpe(positions)
    for number, layer in enumerate(body.h):
        heads, width = layer.attn.num_heads, layer.attn.head_dim
        matrix, bias = layer.attn.c_attn.weight, layer.attn.c_attn.bias

        def made(
            kind: str, head: int, number: int = number, layer: Any = layer, start: int = width, m: Any = (matrix, bias)
        ) -> Tensor:
            first = "qkv".index(kind) * layer.attn.num_heads * start + head * start
            columns = slice(first, first + start)
            return layer.ln_1(run.read(Site(kind, number, head))) @ m[0][:, columns] + m[1][columns]

        new = {}
        for head in range(heads):
            z = _attend(*(made(kind, head) for kind in "qkv"))
            new[Site("z", number, head)] = z @ layer.attn.c_proj.weight[head * width : (head + 1) * width]
        run.written |= new
        run.constant = run.constant + layer.attn.c_proj.bias  # written by no part
        stream = run.read(Site("mlp_in", number))
        run.written[Site("mlp_contrib", number)] = layer.mlp(layer.ln_2(stream))
    logits: Tensor = hf.lm_head(body.ln_f(run.read(Site("logits"))))[:, -1]
    return logits
