"""Edges on our side: scores of all edges, sets of edges in one pass, and the plain passes that they are compared with."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

from bench.side import worker


@dataclasses.dataclass(frozen=True)
class Asked:
    """Pairs of one length with their metric."""

    model: Any
    ids: tuple[tuple[int, ...], ...]
    other: tuple[tuple[int, ...], ...]
    metric: Any


def asked(model: Any, *, pairs: int, seed: int = 0) -> Asked:
    """So many indirect-object pairs of one length (the commonest), with the logit difference."""
    from collections import Counter

    import cutaway
    from cutaway.models.metric import metric_of

    encoded = cutaway.tasks.ioi(n=6 * pairs, seed=seed).encode(model.tokenizer)
    length = Counter(map(len, encoded.ids)).most_common(1)[0][0]
    chosen = [i for i, ids in enumerate(encoded.ids) if len(ids) == length][:pairs]
    if len(chosen) < pairs:
        raise ValueError(f"Only {len(chosen)} of the pairs have {length} tokens; {pairs} are wanted.")
    metric = metric_of(encoded)
    answers, wrong = (tuple(table[i] for i in chosen) for table in (metric.answers, metric.wrong))
    return Asked(
        model,
        tuple(encoded.ids[i] for i in chosen),
        tuple(encoded.contrast_ids[i] for i in chosen),
        dataclasses.replace(metric, answers=answers, wrong=wrong),
    )


@cache
def random_network(layers: int, heads: int, width: int, vocabulary: int = 1000) -> Any:
    """A random GPT-2 of some size, opened."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from cutaway.models.model import Model

    generator = torch.Generator().manual_seed(0)
    sizes = {"n_layer": layers, "n_head": heads, "n_embd": width, "n_positions": 512, "vocab_size": vocabulary}
    config = GPT2Config(bos_token_id=0, eos_token_id=0, **sizes)
    network = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for weight in network.parameters():
            if weight.dim() > 1:
                weight.copy_(0.02 * torch.randn(weight.shape, generator=generator))
    return Model(network, name=f"random GPT-2, {layers} layers of {heads} heads")


def made_up(model: Any, *, rows: int, length: int) -> Asked:
    """Random prompts and contrasts for a random network."""
    import torch

    from cutaway.models.metric import Metric

    generator = torch.Generator().manual_seed(1)
    ids, other = torch.randint(5, 900, (2, rows, length), generator=generator).tolist()
    metric = Metric("logit_difference", ((7,),) * rows, ((9,),) * rows)
    return Asked(model, tuple(map(tuple, ids)), tuple(map(tuple, other)), metric)


def given_pairs(
    model: Any, *, ids: list[list[int]], other: list[list[int]], answers: list[int], wrong: list[int]
) -> Asked:
    """Pairs of token ids for the opened model, with the logit difference of two tokens each."""
    from cutaway.models.metric import Metric

    metric = Metric("logit_difference", tuple((token,) for token in answers), tuple((token,) for token in wrong))
    return Asked(model, tuple(map(tuple, ids)), tuple(map(tuple, other)), metric)


def question(model: Any, given: dict[str, Any]) -> Asked:
    """What a work is done on: pairs on the opened model, given ones, or made-up ones on a random network."""
    if "ids" in given:
        return given_pairs(model, **given)
    if "layers" not in given:
        return asked(model, pairs=given["pairs"])
    network = random_network(given["layers"], given["heads"], given["width"])
    return made_up(network, rows=given["pairs"], length=given["length"])


def forward_backward(model: Any, *, weights: bool = True, **given: Any) -> worker.Thunk:
    """One plain forward and backward pass of the prompts, as torch does it; with or without weights' gradients."""
    import torch

    case = question(model, given)
    tokens = torch.tensor(case.ids)

    def work() -> worker.Values:
        hf = case.model.hf
        hf.requires_grad_(weights)
        try:
            if weights:
                case.metric(hf(tokens).logits[:, -1]).sum().backward()
            else:
                embeds = hf.get_input_embeddings()(tokens).detach().requires_grad_(True)
                case.metric(hf(inputs_embeds=embeds).logits[:, -1]).sum().backward()
        finally:
            hf.zero_grad(set_to_none=True)
            hf.requires_grad_(True)
        return {}

    return work


def plain_forward(model: Any, **given: Any) -> worker.Thunk:
    """One plain forward pass of the prompts."""
    import torch

    case = question(model, given)
    tokens = torch.tensor(case.ids)

    def work() -> worker.Values:
        with torch.no_grad():
            return {"metric": case.metric(case.model.hf(tokens).logits[:, -1])}

    return work


def edge_scores(model: Any, **given: Any) -> worker.Thunk:
    """Scores of all edges by one backward pass, both forward passes in it."""
    from cutaway.models import edge_gradients, edges
    from cutaway.models.encode import Encoded

    case = question(model, given)
    edges.graph_of(case.model)  # learned once for an opened model
    _ = case.model._unembedding

    def work() -> worker.Values:
        other = edges.of_prompts(case.model, Encoded(case.other))
        found = edge_gradients.scores(case.model, Encoded(case.ids), other, case.metric, edge_gradients.plain())
        return {"scores": found, "edges": edges.graph_of(case.model).n_edges}

    return work


def edge_names(model: Any) -> worker.Thunk:
    """Names of the sources and targets that the scores' rows and columns are for, and which edges exist."""
    import numpy as np

    from cutaway.models import edges

    graph = edges.graph_of(model)
    return lambda: {
        "sources": np.array([str(site) for site in graph.sources]),
        "targets": np.array([str(site) for site in graph.targets]),
        "exists": graph.exists,
    }


def edge_set(model: Any, *, share: float, **given: Any) -> worker.Thunk:
    """One random set with a share of all edges, on prompts whose base run is known."""
    import numpy as np

    from cutaway.models import edges
    from cutaway.models.encode import Encoded

    case = question(model, given)
    graph = edges.graph_of(case.model)
    mask = (np.random.default_rng(0).random(graph.shape) < share) & graph.exists
    runs = edges.prepare(case.model, Encoded(case.ids), edges.of_prompts(case.model, Encoded(case.other)))
    runs.scores(mask, case.metric)  # the base run is recorded once
    return lambda: {"metric": runs.scores(mask, case.metric), "edges": int(mask.sum())}


WORKS: dict[str, worker.Work] = {
    "forward_backward": forward_backward,
    "plain_forward": plain_forward,
    "edge_scores": edge_scores,
    "edge_names": edge_names,
    "edge_set": edge_set,
}
