"""Does a head copy or suppress, and does it look for what is predicted? Four figures of each head, by its weights.

`copying`: the eigenvalue score of its OV circuit (1 copies, -1 suppresses); `own_top`, `own_bottom`: the share of
tokens among their own k most raised, and most lowered, outputs of the whole vocabulary; `own_key`: the share of tokens
that are the preferred key when the direction of their own prediction asks [@elhage2021; @mcdougall2023].
Limits: as `full_circuits` has them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cutaway.core.progress import track
from cutaway.methods.full_circuits import (
    Embedding,
    LayerCircuits,
    circuits_of,
    copying_score,
    directions,
    effective_embeddings,
    own_ranks,
    share_on_diagonal,
    unembedding,
)
from cutaway.models.model import Model

Figures = dict[str, float]


def figures_of_heads(
    model: Model, layers: list[int], tokens: list[int], k: int, embedding: Embedding
) -> dict[tuple[int, int], Figures]:
    """The four figures of every head of some layers."""
    embedded = effective_embeddings(model, tokens, embedding)
    asking = directions(model, tokens).to(embedded)
    w_u = unembedding(model).to(embedded)
    found = {}
    for layer in track(layers, "looking at the circuits of heads"):
        with torch.no_grad():
            circuits = circuits_of(model, layer, embedded, asking)
            for head in range(circuits.n_heads):
                found[layer, head] = _figures(circuits, head, w_u, tokens, k)
    return found


def _figures(circuits: LayerCircuits, head: int, w_u: Tensor, tokens: list[int], k: int) -> Figures:
    above, below = own_ranks(circuits.values[:, head], circuits.matrix[head], w_u, tokens)
    return {
        "copying": copying_score(circuits.values[:, head], circuits.matrix[head], w_u[:, tokens]),
        "own_top": float((above < k).float().mean()),
        "own_bottom": float((below < k).float().mean()),
        "own_key": share_on_diagonal(circuits.scores(head)),
    }
