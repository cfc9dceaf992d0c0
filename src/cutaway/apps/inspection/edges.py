"""What does one edge carry? The prediction when it carries what it does for another text, beside random edges.

The edge `z[3].head[2] -> q[7].head[1]` is changed alone: what head 2 of layer 3 writes reaches head 1 of layer 7 as it is
in the contrast, and everything else is as it was. At some tokens only, where the request has `tokens` or the edge a
number of one (`embed -> v[3].head[0]@4`). The control is as many runs of random edges of the same kinds, at the same tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from cutaway.apps.inspection import arguments as given
from cutaway.apps.inspection.predictions import candidate, candidates, require_next_token
from cutaway.core.edge import ELSEWHERE, Bools, Edge, EdgeGraph
from cutaway.core.errors import ParameterError, TaskError
from cutaway.methods.control import interval
from cutaway.methods.edge_effects import random_sets
from cutaway.models import edges
from cutaway.models.edge_positions import Positions
from cutaway.models.encode import Encoded
from cutaway.models.model import Model


def edge(model: Model, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The prediction before and after, its divergence, and that of random edges of the same kinds."""
    given.only(arguments, "text", "contrast", "edge", "tokens", "controls", "seed", "top")
    require_next_token(model)
    ids = given.ids(model, arguments)
    other = given.ids(model, {"text": given.text(arguments, "contrast")})
    _require_alignment(model, ids, other)
    top = given.number(arguments, "top", 5, 1, 200)
    controls = given.number(arguments, "controls", 20, 0, 200)
    seed = given.number(arguments, "seed", 0, 0, 2**31 - 1)
    engine = edges.prepare(model, Encoded((tuple(ids),)), edges.of_prompts(model, Encoded((tuple(other),))))
    named = Edge.parse(given.text(arguments, "edge"))
    tokens, chosen = _tokens(arguments, named, len(ids)), named.everywhere
    engine.graph.number(chosen)  # refuses what this network does not have
    drawn = [one for some in random_sets(engine.graph, [chosen], controls, seed) for one in some]
    sets, positions = _sets(engine.graph, [chosen, *drawn], tokens, len(ids))
    logits = engine.logits(sets, positions=positions)[:, 0].float()
    before, contrast, after = logits[0], logits[1], logits[2]
    answer, wrong = int(before.argmax()), int(contrast.argmax())
    moved = [_divergence(before, one) for one in logits[2:]]
    return {
        "edge": str(named),
        "tokens": tokens,
        "before": candidates(model, before, top),
        "after": candidates(model, after, top),
        "answer": candidate(model, after, after.softmax(-1), answer),
        "contrast_answer": candidate(model, after, after.softmax(-1), wrong),
        "logit_difference": {
            "before": float(before[answer] - before[wrong]),
            "after": float(after[answer] - after[wrong]),
        },
        "kl": moved[0],
        "control": _control(moved[1:], moved[0]),
    }


def _tokens(arguments: Mapping[str, Any], edge: Edge, length: int) -> list[int] | None:
    """The tokens at which the edge is changed, in their order; None for all."""
    found = arguments.get("tokens")
    if found is None and isinstance(edge.position, int):
        found = [edge.position]
    if found is None and edge.position is not None:
        raise ParameterError(
            f"The edge is at the position {edge.position!r},",
            "and a text has tokens, not named positions.",
            f"Say which tokens that is, as in 'tokens': [{min(4, length - 1)}], or write '{edge.everywhere}' for all.",
        )
    if found is None:
        return None
    numbers = isinstance(found, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in found)
    if not numbers or not found or not all(-length <= one < length for one in found):
        raise ParameterError(
            f"'tokens' is {found!r}.",
            f"The text has {length} tokens: it is a list of their numbers, 0 to {length - 1}.",
        )
    return sorted({one % length for one in found})


def _sets(
    graph: EdgeGraph, chosen: Sequence[Edge], tokens: Sequence[int] | None, length: int
) -> tuple[Bools, Positions | None]:
    """No edge changed, all at all tokens, then each edge alone [set, source, target]; at some tokens [..., label]."""
    sets = np.stack([graph.mask(), graph.exists, *(graph.mask([one]) for one in chosen)])
    if tokens is None:
        return sets, None
    labels = tuple(0 if token in tokens else 1 for token in range(length))
    rest = sets & (np.arange(len(sets)) < 2)[:, None, None]  # an edge is changed at its tokens only
    return np.stack([sets, rest], axis=-1), Positions(("tokens", ELSEWHERE), (labels,))


def _require_alignment(model: Model, ids: Sequence[int], other: Sequence[int]) -> None:
    if len(ids) != len(other):
        raise TaskError(
            f"The text has {len(ids)} tokens and the contrast {len(other)}.",
            "An edge carries another text's value token by token, so both are equally long.",
            f"Tokens: {model.token_strings(ids)!r} and {model.token_strings(other)!r}.",
        )


def _divergence(before: Tensor, after: Tensor) -> float:
    """Kullback-Leibler divergence (nats) from the prediction before to the one after [vocab]."""
    first, then = before.log_softmax(-1), after.log_softmax(-1)
    return float((first.exp() * (first - then)).sum())


def _control(found: Sequence[float], measured: float) -> dict[str, Any] | None:
    if not found:
        return None
    low, middle, high = interval(found)
    return {"middle": middle, "low": low, "high": high, "n": len(found), "outside": not low <= measured <= high}
