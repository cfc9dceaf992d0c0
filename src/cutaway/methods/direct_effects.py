"""What does each part write along the answer's direction, under a final norm that is held still?

The parts of one run (embedding, heads, biases, MLPs) as contributions to the answer's logit, with the factor of the final
norm taken from any run: held at that of the plain run, the changes of the parts add up, and what the norm itself does
to the logit is a part of its own.
Limits: those of direct attribution (`direct_logit_attribution`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core.errors import MethodError
from cutaway.core.run import Run
from cutaway.core.site import Site
from cutaway.methods.answer_direction import Direction, Gaps
from cutaway.methods.contributions import ROUNDING, written_by_layer
from cutaway.models.model import Model
from cutaway.models.unembedding import FrozenNorm, Unembedding

END = "@-1"


@dataclass(frozen=True)
class Part:
    """A part of the network.

    Attributes:
        name: for people.
        kind: `embed`, `head`, `attention`, `attention_bias`, `mlp`, `layer`, `rest` or `bias`.
        layer, head: -1 where it has none.
    """

    name: str
    kind: str
    layer: int
    head: int


@dataclass(frozen=True, eq=False)
class DirectEffects:
    """Contributions of parts to the answer's logit.

    Attributes:
        parts: which.
        held: under the norm of the plain run [prompt, part].
        own: under the norm of the run itself [prompt, part].
        scale: the final norm's factor in the run itself [prompt, 1].
    """

    parts: tuple[Part, ...]
    held: NDArray[np.float64]
    own: NDArray[np.float64]
    scale: Tensor


@torch.no_grad()
def direct_effects(
    model: Model, run: Run, ends: Unembedding, direction: Direction, scale: Tensor | None = None
) -> DirectEffects:
    """The contributions in a run that has read `end_sites`.

    Args:
        model: the network.
        run: with `end_sites` and its last logits.
        ends: the network's final norm and unembedding.
        direction: of the answer.
        scale: the factor of the final norm that `held` takes; None for the run's own.

    Raises:
        MethodError: the parts do not sum to the logit.
    """
    wide, device = direction.vector.dtype, direction.vector.device
    stream = run[Site("resid_post", model.anatomy.n_layers - 1, position=-1)]
    norm = FrozenNorm(ends.norm.gain.to(wide), ends.norm.bias.to(wide), ends.norm.centres, ends.norm.module)
    own = ends.norm.scale(stream).to(device, wide)
    parts, vectors = _written(model, run, wide)
    length = torch.stack(
        [(norm.linear(one.to(device, wide), torch.ones_like(own)) * direction.vector).sum(dim=-1) for one in vectors],
        dim=1,
    )
    constant = (norm.bias.to(device) * direction.vector).sum(dim=-1) + direction.offset.to(device)
    parts.append(Part("biases of the ends", "bias", -1, -1))
    held, mine = (
        torch.cat([length * factor, constant[:, None]], dim=1).double().cpu().numpy()
        for factor in (own if scale is None else scale, own)
    )
    gaps = Gaps.of(run.last_logits, ends, direction, list(mine.T))
    relative = float((np.abs(gaps.gap) / gaps.size).max())
    if not relative <= 10 * ROUNDING.get(model.dtype, 5e-2):
        raise MethodError(
            f"the parts of {model.name!r} sum to {gaps.total[0]:.6g} and not to its logit {gaps.logit[0]:.6g};",
            "direct effects need parts that add up.",
            "Use `ablate` instead.",
        )
    return DirectEffects(tuple(parts), held, mine, own)


def _written(model: Model, run: Run, wide: torch.dtype) -> tuple[list[Part], list[Tensor]]:
    before = run["resid_pre[0]" + END].to(wide)
    parts, vectors = [Part("embedding", "embed", -1, -1)], [before]
    for layer in model.anatomy.stacks[""].layers:
        after = run[Site("resid_post", layer.index, position=-1)].to(wide)
        for term in written_by_layer(model, layer, run, before, after)[0]:
            parts.append(Part(term.name, term.kind, layer.index, term.head))
            vectors.append(term.vector)
        before = after
    return parts, vectors
