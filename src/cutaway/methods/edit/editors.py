"""Which editor, made ready once for many facts? Layers, statistics and beginnings, and then a function of the facts.

Evaluations and studies edit many facts one by one, each on the unedited model: what all of them share is prepared once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from cutaway.data.edit_requests import EditRequest
from cutaway.methods.edit import constrained_finetuning, layer_choice, memit, rome
from cutaway.methods.edit.target_value import Settings, contexts_for
from cutaway.models.model import Model
from cutaway.models.trial import down_projection

Name = Literal["rome", "memit", "constrained_finetuning", "finetuning"]
MEMIT_BOUND = 0.75


@dataclass(frozen=True, eq=False)
class Editor:
    """An editor that is ready.

    Attributes:
        name: which.
        layers: whose MLPs it changes.
        edit: facts -> the new value of each changed parameter; the model is left as it was.
        notes: what a reader must know.
    """

    name: str
    layers: tuple[int, ...]
    edit: Callable[[Sequence[EditRequest]], dict[str, Tensor]]
    notes: tuple[str, ...]


def ready(
    model: Model,
    name: Name,
    requests: Sequence[EditRequest],
    *,
    layer: int | None = None,
    contexts: int = 6,
    steps: int = 25,
    corpus: str = "",
    tokens: int | None = None,
    seed: int = 0,
) -> Editor:
    """An editor with its defaults, made ready for a model.

    Args:
        model: the network.
        name: rome, memit, constrained_finetuning (FT+L) or finetuning (FT, without a bound).
        requests: facts of the kind that will be written, for the choice of the layer.
        layer: whose MLP is changed (of memit the last of five); None for a quick causal trace.
        contexts: beginnings of a text before the prompt.
        steps: gradient steps at most.
        corpus: file of plain text for key statistics; empty for the project's.
        tokens: of it; None for ten for each neuron.
        seed: draws beginnings, noise and texts.
    """
    chosen, _, how = layer_choice.chosen(model, layer, requests, seed)
    if name in ("constrained_finetuning", "finetuning"):
        bound = 5e-4 if name == "constrained_finetuning" else 0.0
        matrix = down_projection(model, chosen)

        def tune(facts: Sequence[EditRequest]) -> dict[str, Tensor]:
            new, _ = constrained_finetuning.write(model, facts, matrix, bound=bound, rate=5e-4, steps=steps)
            return {matrix.name: new}

        return Editor(name, (chosen,), tune, how)
    beginnings = contexts_for(model, contexts, seed)
    layers = [chosen] if name == "rome" else list(range(max(0, chosen - memit.LAYERS + 1), chosen + 1))
    moments, said = memit.moments_for(model, layers, "", corpus, tokens, seed)
    projections = [down_projection(model, each) for each in layers]
    bound = Settings.bound if name == "rome" else MEMIT_BOUND
    settings = Settings(steps=steps, contexts=contexts, bound=bound, seed=seed)

    def write(facts: Sequence[EditRequest]) -> dict[str, Tensor]:
        if name == "rome":
            found = rome.write(model, facts, projections[0], moments[chosen], beginnings, settings)
            return {projections[0].name: found[-1].weights}
        return memit.write(model, facts, projections, moments, beginnings, settings, 1.0)[0]

    return Editor(name, tuple(layers), write, (*how, *said))
