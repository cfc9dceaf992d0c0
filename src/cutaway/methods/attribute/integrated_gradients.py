"""How much of the score does each word bring, compared with a text in which there are no words?

The gradient is averaged along the straight path from a baseline x' (every token's embedding is a neutral one) to the
text x, and multiplied with the difference [@sundararajan2017]:

    a_i = (x_i - x'_i) · ∫₀¹ ∂f(x' + α (x - x')) / ∂x_i dα        Σ_i a_i = f(x) - f(x')   (completeness)

What a sum over nodes leaves of the second equation is the completeness gap; it is always reported. Language models
are rough along the path: on SmolLM2 and a 14-token prompt, fifty Gauss-Legendre nodes from the mean embedding miss a
third of a probability and most of a logit difference. So the nodes go where the score moves (`quadrature.py`) until
the gap is small; `steps=50` takes a fixed rule instead. Steps are rows of a batch, and targets share their passes.

By default a probability is explained, from embeddings of zero: logits move as wildly where no answer is likely as
where one is, and from zero most networks start with a prediction that favours no token.

The check takes the tokens with the largest attributions out together, against random other tokens [@deyoung2020].
Limits: the attribution is relative to the baseline, and no baseline is neutral; texts along the path are like none
that the network was trained on. Close to zero, norms make the path so rough that a score which moves little elsewhere
(an unlikely answer) cannot be added up: then the gap stays large, and another baseline is needed. A small gap says
that the integral was added up well, not that it explains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, TypeAlias

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cutaway.core.errors import ParameterError
from cutaway.core.method import method
from cutaway.core.progress import tracking
from cutaway.core.result import Result
from cutaway.core.site import Site
from cutaway.core.task import Task
from cutaway.methods.attribute.deletion import deletion_check
from cutaway.methods.attribute.gradients import along, gradients_of, scores_of, values_of
from cutaway.methods.attribute.layer import Layer, nothing_at, place_of
from cutaway.methods.attribute.neutral import Neutral, neutral_embedding
from cutaway.methods.attribute.quadrature import Floats, Integral, Rule, fixed_rule, integrate
from cutaway.methods.attribute.targets import (
    Continuation,
    Controls,
    Foil,
    Generate,
    ScoreName,
    Seed,
    Share,
    Targets,
    targets_of,
)
from cutaway.methods.attribute.token_map import token_map
from cutaway.models.model import Model
from cutaway.models.multigrad import rows_at_once

Advance: TypeAlias = Callable[[int], None]
# The gap that is aimed at, as a part of the change of the score.
CLOSE = 0.1


@method(
    asks="How much of the score does each word bring, compared with a text without words?",
    cites="sundararajan2017, deyoung2020",
    needs=("unembedding",),
)
def integrated_gradients(
    model: Model,
    task: Task,
    *,
    baseline: Annotated[Neutral, Field(description="the embedding that stands for no word")] = "zero",
    steps: Annotated[
        int | None, Field(ge=1, le=10_000, description="nodes of a fixed rule; none: where the score moves")
    ] = None,
    rule: Annotated[Rule, Field(description="where the nodes of a fixed rule are")] = "gauss_legendre",
    tolerance: Annotated[
        float | None,
        Field(gt=0, description="gap to reach without fixed steps, in the score's unit; none: 10 % of its change"),
    ] = None,
    max_steps: Annotated[int, Field(ge=9, description="nodes at most, without fixed steps")] = 160,
    layer: Layer = None,
    score: ScoreName = "probability",
    generate: Generate = 0,
    continuation: Continuation = "",
    foil: Foil = "",
    share: Share = 0.2,
    controls: Controls = 20,
    seed: Seed = 0,
) -> Result:
    """The gradient averaged along the way from a baseline, times the difference, for each token."""
    targets = targets_of(model, task, score, generate, continuation, foil)
    nothing, at = neutral_embedding(model, baseline), place_of(model, layer)
    _refuse_both(steps, tolerance)
    fixed = fixed_rule(rule, steps) if steps else None
    attribution, empty = targets.empty(), targets.empty()[:, :, 0]
    scores, change = empty.copy(), empty.copy()
    found: list[Integral] = []
    with tracking("integrating gradients", total=steps and steps * len(targets)) as advance:
        for prompt in range(len(targets)):
            path = _Path(model, targets, prompt, nothing_at(model, targets, prompt, nothing, at), advance, at)
            found.append(path.fixed(*fixed) if fixed else path.adaptive(tolerance, max_steps))
            for target, position in enumerate(targets.positions[prompt]):
                attribution[prompt, target, : position + 1] = found[-1].values[target, : position + 1]
            scores[prompt, : len(path.at_text)] = path.at_text
            change[prompt, : len(path.at_text)] = found[-1].change
    gap = np.nansum(attribution, axis=-1) - change
    check = deletion_check(
        model,
        targets,
        attribution,
        nothing,
        claim="The score hangs on the tokens with the largest integrated gradients.",
        ranked="with the largest integrated gradients",
        share=share,
        controls=controls,
        seed=seed,
    )
    return token_map(
        model,
        targets,
        attribution,
        scores,
        title="Integrated gradients",
        unit=targets.unit,
        check=check,
        metrics=_metrics(gap, change, found),
        notes=_notes(targets, gap, change, found),
        arrays={"change_from_baseline": change, "completeness_gap": gap},
    )


class _Path:
    """The straight path of one prompt from the baseline to its text."""

    def __init__(
        self, model: Model, targets: Targets, prompt: int, nothing: Tensor, advance: Advance, at: Site
    ) -> None:
        self.model, self.targets, self.prompt, self.advance, self.place = model, targets, prompt, advance, at
        self.ids, self.places = list(targets.ids[prompt]), targets.positions[prompt]
        self.end = values_of(model, targets, [prompt], at)[0]
        self.start = nothing.to(self.end)
        self.at_text = self.values([1.0])[0]

    def fixed(self, nodes: Floats, weights: Floats) -> Integral:
        """A fixed rule."""
        every = range(len(self.places))
        _, slopes = self.evaluate(nodes.tolist(), every)
        values = np.einsum("n,ntp->tp", weights, slopes)
        return Integral(values, self.at_text - self.values([0.0])[0], len(nodes), len(nodes) * len(every), True)

    def adaptive(self, tolerance: float | None, max_steps: int) -> Integral:
        """Nodes where the scores move, until the gap of each is within the tolerance or a share of its change."""
        change = np.abs(self.at_text - self.values([0.0])[0])
        within = np.full(len(change), tolerance) if tolerance else np.maximum(CLOSE * change, CLOSE * change.max() / 5)
        return integrate(self.evaluate, tolerances=within, max_nodes=max_steps)

    def values(self, nodes: Sequence[float]) -> Floats:
        """The scores [node, target]."""
        rows = [self.prompt] * len(nodes)
        found = scores_of(self.model, self.targets, rows, embeddings=self._at(nodes), at=self.place)
        return found.double().cpu().numpy()

    def evaluate(self, nodes: Sequence[float], wanted: Sequence[int]) -> tuple[Floats, Floats]:
        """The scores [node, target], and their slopes along the path [node, wanted target, position]."""
        size = rows_at_once(self.model, len(self.ids), grad=True)
        values, slopes = [], []
        for start in range(0, len(nodes), size):
            piece = nodes[start : start + size]
            rows = [self.prompt] * len(piece)
            found = gradients_of(
                self.model,
                self.targets,
                rows,
                embeddings=self._at(piece),
                wanted=wanted,
                at=self.place,
                reduce=along((self.end - self.start).double()),
            )
            values.append(found.values.double())
            slopes.append(found.grads.transpose(0, 1))
            self.advance(len(piece))
        return torch.cat(values).cpu().numpy(), torch.cat(slopes).cpu().numpy()

    def _at(self, nodes: Sequence[float]) -> Tensor:
        along = torch.tensor(nodes, dtype=torch.float64).to(self.end)[:, None, None]
        return self.start + along * (self.end - self.start)


def _metrics(gap: Floats, change: Floats, found: Sequence[Integral]) -> dict[str, float]:
    return {
        "completeness_gap": float(np.nanmax(np.abs(gap))),
        "relative_gap": float(np.nansum(np.abs(gap)) / max(float(np.nansum(np.abs(change))), 1e-12)),
        "steps": max(each.nodes for each in found),
        "gradients": sum(each.slopes for each in found),
    }


def _notes(targets: Targets, gap: Floats, change: Floats, found: Sequence[Integral]) -> tuple[str, ...]:
    widest = float(np.nanmax(np.abs(gap)))
    said = f"miss the change of the score by up to {widest:.3g} {targets.unit} (the completeness gap)"
    if not all(each.settled for each in found):
        most = max(each.nodes for each in found)
        return (f"The path is rough: with {most} steps the attributions still {said}. Allow more with max_steps.",)
    if np.nansum(np.abs(gap)) > CLOSE * np.nansum(np.abs(change)):
        return (f"The path is rough: the attributions {said}. Leave steps out, so that they go where the score moves.",)
    return ()


def _refuse_both(steps: int | None, tolerance: float | None) -> None:
    if steps is not None and tolerance is not None:
        raise ParameterError(
            f"steps is {steps} and tolerance is {tolerance:g};",
            "either the number of steps is fixed or the gap is.",
            "Leave one of them out; max_steps bounds the steps that a tolerance may take.",
        )
