"""Which parts can be gated off, all together? Gates on heads and MLPs, learned by gradient descent (subnetwork probing).

Each part has a gate m between 0 and 1 and writes m · (its value) + (1 - m) · (what it writes in the other run). The
gates are hard concrete variables: noisy while they are learned, exactly 0 or 1 for most noise, with a probability of not
being 0 that has a gradient [@louizos2018; @cao2021]. What is made small is the divergence of the prediction plus `penalty`
times the mean of these probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core.edit import Edit, apply
from cutaway.core.progress import track
from cutaway.core.site import Site
from cutaway.methods.circuit_runs import Runs
from cutaway.models.edge_values import Contributions
from cutaway.models.encode import Encoded
from cutaway.models.recording import by_length

Floats = NDArray[np.float64]
LOW, HIGH, HEAT = -0.1, 1.1, 2 / 3  # the stretch of the gates and their temperature, as in the paper


@dataclass(frozen=True)
class Learned:
    """Gates that were learned.

    Attributes:
        open: probability that each source's gate is not 0 [source]; 1 for `embed`.
        loss: of each step.
    """

    open: Floats
    loss: tuple[float, ...]


def learn(runs: Runs, *, penalty: float = 1.0, steps: int = 100, learning_rate: float = 0.1, seed: int = 0) -> Learned:
    """Learn a gate for each head and MLP.

    Args:
        runs: of the task.
        penalty: nats that a part may cost, if all parts are open.
        steps: of Adam.
        learning_rate: of Adam.
        seed: of the noise.
    """
    sites = [site for site in dict.fromkeys(source.whole for source in runs.graph.sources) if site.kind != "embed"]
    numbers = {site: [i for i, s in enumerate(runs.graph.sources) if s.whole == site] for site in sites}
    generator = torch.Generator().manual_seed(seed)
    wanted = torch.full((len(runs.graph.sources),), 2.0, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([wanted], lr=learning_rate)
    losses = []
    for _ in track(range(steps), "gates", total=steps):
        noise = torch.rand(wanted.shape, generator=generator, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
        gate = torch.sigmoid((noise.log() - (1 - noise).log() + wanted) / HEAT) * (HIGH - LOW) + LOW
        gate = gate.clamp(0, 1)
        distance, slope = _pass(runs, numbers, gate.detach())
        cost = penalty * _probability(wanted).mean()
        optimiser.zero_grad()
        (cost + (gate * slope).sum()).backward()
        optimiser.step()
        losses.append(distance + float(cost.detach()))
    found = _probability(wanted).detach().numpy()
    found[[source.kind == "embed" for source in runs.graph.sources]] = 1.0
    return Learned(found, tuple(losses))


def _probability(wanted: Tensor) -> Tensor:
    """That a gate is not 0."""
    return torch.sigmoid(wanted - HEAT * float(np.log(-LOW / HIGH)))


def _pass(runs: Runs, numbers: Mapping[Site, Sequence[int]], gate: Tensor) -> tuple[float, Tensor]:
    """The divergence with these gates (mean over prompts), and its slope at each gate [source]."""
    slope, distance = torch.zeros(gate.shape, dtype=torch.float64), 0.0
    count = len(runs.encoded.ids)
    for prompts in by_length(runs.engine.encoded).values():
        own: dict[Site, Tensor] = {}
        edits = [_gated(site, gate[list(rows)], runs.engine.other, prompts, own) for site, rows in numbers.items()]
        assert runs.divergence.reference is not None
        metric = replace(runs.divergence, reference=runs.divergence.reference[list(prompts)])
        ids = Encoded(tuple(runs.encoded.ids[i] for i in prompts))
        run = runs.model.run(ids, edit=edits, logits="last", metric=metric, grad=list(numbers), batch=len(prompts))
        distance += float(metric(run.last_logits).sum()) / count
        for site, rows in numbers.items():
            difference = -_change(site, own[site], runs.engine.other, prompts)
            product = (run.grad(site).double() * difference.double()) / count
            each = product.sum(dim=(0, 1, 3)) if site.kind == "z" else product.sum()[None]
            slope[list(rows)] += each.cpu()
    return distance, slope


def _gated(site: Site, gate: Tensor, other: Contributions, prompts: Sequence[int], own: dict[Site, Tensor]) -> Edit:
    function: Callable[[Tensor], Tensor] = partial(_mixed, site, gate, other, prompts, own)
    return apply(site, function)


def _mixed(
    site: Site, gate: Tensor, other: Contributions, prompts: Sequence[int], own: dict[Site, Tensor], value: Tensor
) -> Tensor:
    own[site] = value.detach().clone()  # what is given is written over
    shut = (1 - gate).to(value)
    return value + (shut[:, None] if site.kind == "z" else shut) * _change(site, value, other, prompts)


def _change(site: Site, value: Tensor, other: Contributions, prompts: Sequence[int]) -> Tensor:
    there = other.of(site, prompts, value.shape[1])
    return -value if there is None else there.to(value) - value
