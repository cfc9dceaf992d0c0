"""What would a head do with each token of the vocabulary? Its OV and QK circuits, from weights alone.

A head that attends to token t writes W_O W_V norm(e(t)), which the final norm and the unembedding turn into logits of
every token: row t of its OV circuit. A head that is asked by a stream x looks for tokens t by q(x)·k(e(t)): its QK
circuit [@elhage2021]. What stands for t is its *effective embedding* e(t): the stream after layer 0 of a text of this
one token with attention switched off, the token's embedding plus what the first MLP makes of it. Raw embeddings
hide what early layers do, and in networks with tied embeddings they hide most of it [@mcdougall2023].

Everything is done by the network's own modules (norms, fused projections, norms of q and k), so it holds for grouped
values: heads that share a value head share what they read, not what they write. The final norm is taken without its
scale, which is one factor for a whole row: ranks and signs within a row do not depend on it.
Limits: attention between the layers is left out, and so is what layers 1 to l-1 add; positions are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core.edit import Edit, ablate, replace
from cutaway.core.errors import ModelError
from cutaway.core.site import Site
from cutaway.models.model import Model
from cutaway.models.one_layer import attention_call
from cutaway.models.place import projection_weight
from cutaway.models.unembedding import FrozenNorm

Embedding = Literal["mlp_and_stream", "mlp", "stream"]
TOKENS_AT_ONCE = 4096
COLUMNS_AT_ONCE = 8192


def sampled_tokens(model: Model, count: int, seed: int) -> list[int]:
    """Token ids drawn without repetition, special tokens left out; all of them for 0 or where there are fewer."""
    special = set(getattr(model.tokenizer, "all_special_ids", None) or ())
    known = min(model.anatomy.vocab_size, len(model.tokenizer)) if model.tokenizer else model.anatomy.vocab_size
    usable = [token for token in range(known) if token not in special]
    if count == 0 or count >= len(usable):
        return usable
    return sorted(int(i) for i in np.random.default_rng(seed).choice(usable, size=count, replace=False))


def effective_embeddings(
    model: Model, tokens: Sequence[int], form: Embedding = "mlp_and_stream"
) -> Float[Tensor, "token d_model"]:
    """What stands for each token in later layers, when it is alone and attention is switched off.

    Args:
        model: the network.
        tokens: token ids.
        form: `mlp_and_stream`: the stream after layer 0; `mlp`: what its MLP adds alone; `stream`: what enters it.

    Raises:
        ModelError: a network whose first layer has no such parts.
    """
    layer = model.anatomy.stacks[""].layers[0]
    missing = [kind for kind in ("resid_pre", "attn_contrib") if kind not in layer.places]
    if missing:
        raise ModelError(
            f"{missing[0]}[0] of {type(model.hf).__name__} is refused: {layer.refused.get(missing[0], 'not found')}.",
            "An effective embedding is the stream of a token with attention switched off.",
        )
    if "mlp_contrib" not in layer.places and form != "stream":
        form = "stream"  # a network without MLPs: nothing is made of the embedding
    site = {"mlp_and_stream": "resid_post[0]", "mlp": "mlp_contrib[0]", "stream": "resid_pre[0]"}[form]
    without_positions = _depends_on_position(model)
    parts = []
    for start in range(0, len(tokens), TOKENS_AT_ONCE):
        ids = [[int(token)] for token in tokens[start : start + TOKENS_AT_ONCE]]
        edits: list[Edit] = [ablate("attn_contrib[0]", "zero")]
        if without_positions:
            embedded = model.run(ids, read="embed", logits="none")["embed"]
            edits.append(replace("resid_pre[0]", embedded))
        parts.append(model.run(ids, read=site, edit=edits, logits="none")[site][:, 0])
    return torch.cat(parts)


def _depends_on_position(model: Model) -> bool:
    """Whether one token at two places enters the first layer as two values: learned positions are left out then."""
    stream = model.run([[0, 0]], read="resid_pre[0]", logits="none")["resid_pre[0]"][0]
    return not torch.allclose(stream[0], stream[1], atol=1e-6)


@dataclass(frozen=True, eq=False)
class LayerCircuits:
    """What the heads of one layer make of some tokens.

    Attributes:
        layer: which.
        q: queries of the asking streams [token, head, d_head].
        k: keys of the effective embeddings [token, kv_head, d_head].
        values: of the effective embeddings, once for each query head [token, head, d_head].
        matrix: W_O with what stands between it and the unembedding [head, d_head, d_model].
    """

    layer: int
    q: Float[Tensor, "token head d_head"]
    k: Float[Tensor, "token kv_head d_head"]
    values: Float[Tensor, "token head d_head"]
    matrix: Float[Tensor, "head d_head d_model"]

    @property
    def n_heads(self) -> int:
        """Number of query heads."""
        return self.matrix.shape[0]

    def written(self, head: int) -> Float[Tensor, "token d_model"]:
        """What a head adds to the input of the unembedding for each token, up to one positive factor a row."""
        return self.values[:, head] @ self.matrix[head]

    def scores(self, head: int) -> Float[Tensor, "query key"]:
        """q·k of each asking stream and each token, for one head; grouped heads share their keys."""
        group = self.q.shape[1] // self.k.shape[1]
        return self.q[:, head] @ self.k[:, head // group].T


def circuits_of(
    model: Model,
    layer: int,
    embeddings: Float[Tensor, "token d_model"],
    asking: Float[Tensor, "query d_model"] | None = None,
) -> LayerCircuits:
    """The circuits of a layer's heads on tokens with these effective embeddings.

    Args:
        model: the network.
        layer: which layer.
        embeddings: of the tokens that are attended to.
        asking: streams that ask; the embeddings themselves when None.
    """
    seen = attention_call(model, layer, embeddings)
    q = seen["q"] if asking is None else attention_call(model, layer, asking)["q"]
    matrix = model.W_O(layer).detach()
    group = matrix.shape[0] // seen["v"].shape[1]
    return LayerCircuits(
        layer, q, seen["k"], seen["v"].repeat_interleave(group, dim=1), _towards_end(model, layer, matrix)
    )


def layers_with_heads(model: Model) -> list[int]:
    """Layers whose heads have q, k, v and a matrix of their own.

    Raises:
        ModelError: there is none.
    """
    kinds = {"q", "k", "v", "resid_pre"}
    layers = model.anatomy.stacks[""].layers
    found = [one.index for one in layers if kinds <= set(one.places) and one.output_projection is not None]
    if not found:
        reason = layers[0].refused.get("q", "no output projection was found") if layers else "it has no layers"
        raise ModelError(
            f"No layer of {type(model.hf).__name__} has heads with matrices of their own: {reason}.",
            "OV and QK circuits are products of such matrices.",
        )
    return found


def _towards_end(model: Model, layer: int, matrix: Tensor) -> Tensor:
    """Rows of a matrix that writes into the stream, through a norm after the sublayer (without scale) and the last."""
    places = model.anatomy.layer(Site("z", layer)).places
    if (
        "attn_contrib" in places
        and "attn_out" in places
        and places["attn_contrib"].module is not places["attn_out"].module
    ):
        after = FrozenNorm.of(places["attn_contrib"].module, matrix.shape[-1], matrix.device, matrix.dtype)
        matrix = after.linear(matrix, torch.ones_like(matrix[..., :1]))
    return model.final_norm.linear(matrix, torch.ones_like(matrix[..., :1])).detach()


def unembedding(model: Model) -> Float[Tensor, "d_model vocab"]:
    """The unembedding, without gradients."""
    assert model.anatomy.unembed is not None
    return projection_weight(model.anatomy.unembed).detach()


def directions(model: Model, tokens: Sequence[int]) -> Float[Tensor, "token d_model"]:
    """For each token the direction of the stream that raises its logit: the final norm's gain times its column."""
    columns = unembedding(model)[:, list(tokens)].T
    norm = model.final_norm
    raised = columns * norm.gain.to(columns)
    found: Tensor = raised - raised.mean(dim=-1, keepdim=True) if norm.centres else raised
    return found.detach()


# --- figures -----------------------------------------------------------------------------------------------------


def own_ranks(
    values: Float[Tensor, "token d_head"],
    matrix: Float[Tensor, "d_head d_model"],
    w_u: Float[Tensor, "d_model vocab"],
    tokens: Sequence[int],
) -> tuple[Int[Tensor, " token"], Int[Tensor, " token"]]:
    """How many tokens of the vocabulary each token raises more, and less, than itself; streamed over columns.

    Args:
        values: of the head, for each token.
        matrix: from its values to the input of the unembedding.
        w_u: the unembedding.
        tokens: which they are.
    """
    written = values @ matrix
    width, d_model = matrix.shape
    narrow = len(tokens) * (d_model - width) > width * d_model  # then the short way round is through d_head
    column = torch.tensor(list(tokens), device=written.device)
    above = torch.zeros(len(written), dtype=torch.long, device=written.device)
    below = torch.zeros_like(above)
    own = (written * w_u[:, column].T).sum(dim=-1, keepdim=True)
    for start in range(0, w_u.shape[1], COLUMNS_AT_ONCE):
        columns = w_u[:, start : start + COLUMNS_AT_ONCE]
        logits = values @ (matrix @ columns) if narrow else written @ columns
        here = (column >= start) & (column < start + logits.shape[1])
        logits[here, column[here] - start] = own[here, 0]  # no token is above or below itself, whatever rounding says
        above += (logits > own).sum(dim=-1)
        below += (logits < own).sum(dim=-1)
    return above, below


def copying_score(
    values: Float[Tensor, "token d_head"],
    matrix: Float[Tensor, "d_head d_model"],
    columns: Float[Tensor, "d_model token"],
) -> float:
    """Sum of the eigenvalues of the OV circuit over the sum of their sizes: 1 copies, -1 suppresses [@elhage2021].

    The circuit is token x token of rank d_head: its eigenvalues are those of a d_head x d_head matrix.
    """
    small = (matrix @ columns).double() @ values.double()
    found = torch.linalg.eigvals(small)
    return float(found.real.sum() / found.abs().sum().clamp_min(1e-30))


def share_on_diagonal(scores: Float[Tensor, "query key"]) -> float:
    """Share of the rows whose largest entry is on the diagonal."""
    best = scores.argmax(dim=-1)
    return float((best == torch.arange(len(scores), device=scores.device)).float().mean())


def as_grid(layers: Sequence[int], heads: int, values: dict[tuple[int, int], float]) -> NDArray[np.float64]:
    """Figures of heads as [layer, head]; NaN where a layer has fewer heads."""
    grid = np.full((len(layers), heads), np.nan)
    for (layer, head), value in values.items():
        grid[layers.index(layer), head] = value
    return grid
