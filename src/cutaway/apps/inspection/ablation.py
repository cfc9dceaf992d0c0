"""What does taking these parts out do to the prediction, and what do as many random parts of the same kind?

The control sets hold as many heads, MLPs, neurons or streams of the same kind as the chosen ones, drawn with the seed;
neurons are drawn from their own layer. Limits: with a few control sets the interval is rough; where a model has no other
part of the kind there is no control, and that is said.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from torch import Tensor

from cutaway.apps.inspection import arguments as given
from cutaway.apps.inspection.predictions import candidate, candidates, entropy, require_next_token
from cutaway.core.edit import ablate as edit
from cutaway.core.errors import ParameterError, TaskError, nearest
from cutaway.core.site import KINDS, Site, Span
from cutaway.core.tokens import first_tokens
from cutaway.methods import sets
from cutaway.methods.control import interval, sets_like
from cutaway.models.metric import Metric
from cutaway.models.model import Model

MOST_SITES = 2000
POOL = 20000
How = Literal["zero", "mean"]


def ablate(model: Model, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The prediction before and after, and the answer's probability under random sets of the same size and kind."""
    given.only(arguments, "text", "sites", "answer", "controls", "seed", "do", "top")
    require_next_token(model)
    ids = given.ids(model, arguments)
    chosen = _concrete(model, given.sites(arguments), len(ids))
    top = given.number(arguments, "top", 10, 1, 200)
    do = _how(arguments)
    number = given.number(arguments, "controls", 8, 0, 200)
    seed = given.number(arguments, "seed", 0, 0, 2**31 - 1)
    before = model.run([list(ids)], logits="last").last_logits[0].float()
    token = _answer(model, arguments, before)
    pool = _pool(model, chosen, seed)
    drawn = sets_like(chosen, pool, number, seed, sort=_sort) if number and len(set(pool) - set(chosen)) else []
    after = model.run([list(ids)], edit=[edit(site, do) for site in chosen], logits="last").last_logits[0].float()
    return {
        "before": candidates(model, before, top),
        "after": candidates(model, after, top),
        "answer": _both(model, before, after, token),
        "entropy": {"before": entropy(before), "after": entropy(after)},
        "control": _control(_probabilities(model, ids, drawn, token, do), float(after.softmax(-1)[token])),
        "do": do,
        "sites": [str(site) for site in chosen],
    }


def _how(arguments: Mapping[str, Any]) -> How:
    do = given.text(arguments, "do", "zero")
    if do not in ("zero", "mean"):
        raise ParameterError(f"'do' is {do!r}:", nearest(do, ["zero", "mean"]))
    return "zero" if do == "zero" else "mean"


def _concrete(model: Model, asked: Sequence[Site], length: int) -> list[Site]:
    """Every single site that is asked for."""
    found: dict[Site, None] = {}
    for site in asked:
        for one in model.anatomy.expand(site, positions=length):
            model.anatomy.place(one)
            found[one.at(None) if one.position == Span() else one] = None
    if not 0 < len(found) <= MOST_SITES:
        raise ParameterError(f"{len(found)} sites are to be taken out.", f"It can be 1 to {MOST_SITES}.")
    if any(KINDS[site.kind][0] == "ends" for site in found):
        raise ParameterError("The ends of a network cannot be taken out here.", "", "Name heads, MLPs or streams.")
    return list(found)


def _answer(model: Model, arguments: Mapping[str, Any], logits: Tensor) -> int:
    """The token whose probability is followed: the one asked for, or the model's own prediction."""
    wanted = arguments.get("answer")
    if wanted is None or wanted == "":
        return int(logits.argmax())
    found = first_tokens(model.tokenizer, given.text(arguments), [given.text(arguments, "answer")])[0]
    if found.id is None:
        raise TaskError(f"The answer {wanted!r} has no token in this vocabulary.")
    return found.id


def _sort(site: Site) -> Hashable:
    """What a random part must have in common with the one that it stands for."""
    return (site.kind, site.stack, site.position, site.head is None, site.expert is None, _own_layer(site))


def _own_layer(site: Site) -> Any:
    return site.layer if site.unit is not None else None


def _pool(model: Model, chosen: Sequence[Site], seed: int) -> list[Site]:
    """All parts of the kinds that are chosen; of very many neurons a random choice."""
    found: dict[Site, None] = {}
    for one in dict.fromkeys(_pattern(site) for site in chosen):
        for site in model.anatomy.expand(one):
            found[site] = None
    pool = list(found)
    if len(pool) <= POOL:
        return pool
    picked = np.random.default_rng(seed).choice(len(pool), size=POOL, replace=False)
    return [pool[place] for place in sorted(picked)]


def _pattern(site: Site) -> Site:
    every = Span()
    return replace(
        site,
        layer=site.layer if site.unit is not None else every,
        head=every if site.head is not None else None,
        expert=every if site.expert is not None else None,
        unit=every if site.unit is not None else None,
    )


def _probabilities(
    model: Model, ids: Sequence[int], drawn: Sequence[Sequence[Site]], token: int, do: How
) -> list[float]:
    """The token's probability under each random set."""
    if not drawn:
        return []
    if do == "zero":
        writes = [[sets.Write(site) for site in some] for some in drawn]
    else:
        wholes = tuple({site.whole for some in drawn for site in some})
        run = model.run([list(ids)], read=wholes, logits="none")
        writes = [sets.mean_writes(run, some) for some in drawn]
    metric = Metric("log_probability", ((token,),))
    found = sets.scores(model, [list(ids)], writes, metric)[:, 0].exp()
    return [float(value) for value in found]


def _both(model: Model, before: Tensor, after: Tensor, token: int) -> dict[str, Any]:
    first, then = (candidate(model, side, side.softmax(-1), token) for side in (before, after))
    return {
        "token": first["text"],
        "id": token,
        "probability_before": first["probability"],
        "probability_after": then["probability"],
        "logit_before": first["logit"],
        "logit_after": then["logit"],
    }


def _control(found: Sequence[float], measured: float) -> dict[str, Any] | None:
    """The answer's probability under the random sets; None where there are none."""
    if not found:
        return None
    low, _, high = interval(found)
    return {
        "mean": float(np.mean(found)),
        "low": low,
        "high": high,
        "n": len(found),
        "values": list(found),
        "outside": not low <= measured <= high,
    }
