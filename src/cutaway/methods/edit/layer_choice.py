"""At which layer is a fact edited? A quick causal trace, or a third of the way up.

The embeddings of the subject are drowned in noise (three standard deviations), and what the MLPs of a few neighbouring
layers give at the subject's last token is put back; the layer in the middle of the window that brings most of the answer
back is chosen [@meng2022]. Windows that reach the first layer are left out: its MLP all but stands for the embedding, so
that putting it back undoes the noise. Where no subject is named, it is the layer a third of the way up, which is about
where the authors edit (8 of 24, 12 of 36, 17 of 48 layers).
Limits: three draws of noise and a few prompts. Where facts are found and where they are best edited need not agree.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cutaway.core.errors import ParameterError
from cutaway.core.site import Site
from cutaway.core.tokens import token_ends
from cutaway.data.edit_requests import EditRequest
from cutaway.methods.edit.rows import Row, row_of_request
from cutaway.methods.sets import Write, scores
from cutaway.models.metric import Metric
from cutaway.models.model import Model

PROMPTS = 4
DRAWS = 3
NOISE = 3.0  # standard deviations of the embeddings


def chosen(
    model: Model, layer: int | None, requests: Sequence[EditRequest], seed: int
) -> tuple[int, Tensor, tuple[str, ...]]:
    """The layer to edit, what putting each layer's MLPs back brings (nats; empty without a trace), and notes.

    Raises:
        ParameterError: the model has no such layer.
    """
    n_layers = model.anatomy.n_layers
    if layer is not None:
        if layer >= n_layers:
            raise ParameterError(
                f"layer is {layer};",
                f"{model.name} has {n_layers} layers, 0 to {n_layers - 1}.",
                "Leave it out, and it is found by a quick trace.",
            )
        return layer, torch.zeros(0), ()
    traced = [request for request in requests if request.after][:PROMPTS]
    if not traced:
        return n_layers // 3, torch.zeros(0), (f"Layer {n_layers // 3} is a third of the way up.",)
    back = torch.stack([_trace(model, request, seed) for request in traced]).mean(dim=0)
    best = _best(back, window(n_layers))
    return best, back, (f"Layer {best} was chosen by a quick causal trace of {len(traced)} of the prompts.",)


def _best(back: Tensor, width: int) -> int:
    """The layer that brings most back, without the ends.

    The first MLP all but stands for the embedding, so that putting it back undoes the noise; what the last one gives at the
    subject reaches no other token.
    """
    n_layers = len(back)
    first = min(width // 2 + 1, n_layers - 1)
    inner = back[first : max(first + 1, n_layers - 1)]
    return first + int(inner.argmax())


def window(n_layers: int) -> int:
    """How many layers are put back at once: 10 of 48, and as many of others in proportion."""
    return max(1, round(n_layers * 10 / 48))


def _trace(model: Model, request: EditRequest, seed: int) -> Tensor:
    """Log-probability of the answer with each layer's MLPs put back, less that without [layer]."""
    row = row_of_request(model, request, request.true or None)
    ids, n_layers = list(row.asked), model.anatomy.n_layers
    sites = [Site("mlp_out", layer) for layer in range(n_layers)]
    run = model.run([ids], read=[Site("embed"), *sites], logits="last")
    answer = row.answer[0] if request.true else int(run.last_logits[0].argmax())
    first = token_ends(model.tokenizer, request.prompt, [(request.span[0], request.span[0] + 1)])[0] or 0
    embedded = run[Site("embed")][0]
    generator = torch.Generator().manual_seed(seed)
    sets: list[list[Write]] = []
    for _ in range(DRAWS):
        noise = torch.randn(row.place + 1 - first, embedded.shape[-1], generator=generator).to(embedded)
        noised = embedded[first : row.place + 1] + NOISE * embedded.std() * noise
        drowned = [Write(Site("embed").at(first + i), value[None]) for i, value in enumerate(noised)]
        sets += [drowned, *([*drowned, *_put_back(run, sites, layer, row)] for layer in range(n_layers))]
    metric = Metric("log_probability", ((answer,),))
    table = scores(model, [ids], sets, metric, what="tracing the fact")[:, 0].reshape(DRAWS, n_layers + 1)
    return (table[:, 1:] - table[:, :1]).mean(dim=0)


def _put_back(run: object, sites: Sequence[Site], layer: int, row: Row) -> list[Write]:
    width = window(len(sites))
    low = max(0, layer - width // 2)
    chosen_sites = sites[low : min(len(sites), layer - width // 2 + width)]
    return [Write(site.at(row.place), run[site][0, row.place][None]) for site in chosen_sites]  # type: ignore[index]
