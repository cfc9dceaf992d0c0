"""Which attributions are there, and what does one of them say? Maps by the name of their method.

Every attribution takes the same question (score, continuation or generate, foil), so that several can be asked it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cutaway.core import registry
from cutaway.core.result import Result
from cutaway.core.task import Task
from cutaway.methods.attribute.targets import Targets
from cutaway.models.model import Model

Floats = NDArray[np.float64]
MapName = Literal[
    "saliency",
    "input_x_gradient",
    "integrated_gradients",
    "discretized_integrated_gradients",
    "sequential_integrated_gradients",
    "deep_lift",
    "gradient_shap",
    "occlusion",
    "lime",
    "kernel_shap",
    "reagent",
    "value_zeroing",
    "attention_map",
    "alti",
]
# Maps whose values say how much a token matters, and not which way it moves the score.
UNSIGNED = frozenset({"saliency", "reagent", "value_zeroing", "attention_map", "alti"})
# Maps whose values are meant to sum to the change of the score from the neutral text.
COMPLETE = frozenset(
    {
        "integrated_gradients",
        "discretized_integrated_gradients",
        "sequential_integrated_gradients",
        "deep_lift",
        "gradient_shap",
        "kernel_shap",
    }
)
# For those that average or draw less by default where only their order is looked at.
_BRIEFLY: Mapping[str, Mapping[str, Any]] = MappingProxyType({"integrated_gradients": {"max_steps": 40}})


@dataclass(frozen=True)
class Question:
    """What maps are asked: parameters that all of them take."""

    score: str = "metric"
    generate: int = 0
    continuation: str = ""
    foil: str = ""
    seed: int = 0

    def about(self, targets: Targets, model: Model) -> Question:
        """The same question with what the model wrote as its continuation, so that no other model writes another."""
        if not self.generate or len(set(targets.words)) != 1:
            return self
        written = [token for (token,) in targets.tokens[0]]
        return replace(self, generate=0, continuation=model.tokenizer.decode(written))


def map_of(model: Model, task: Task, name: str, asked: Question) -> Result:
    """What a method says, without its own check."""
    found: Callable[..., Result] = registry.get("method", name)
    given = {key: value for key, value in vars(asked).items() if value}
    return found(model, task, controls=0, **given, **_BRIEFLY.get(name, {}))


def values_of_map(result: Result) -> Floats:
    """The attributions [prompt, target, position] of a result."""
    values = np.asarray(result.data["attribution"].values, dtype=np.float64)
    return values if values.ndim == 3 else values[:, None]
