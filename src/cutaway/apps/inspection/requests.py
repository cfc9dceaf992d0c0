"""Which quick questions can be asked of an opened model? Each a function of the model and the request's arguments.

An answer is a dictionary of JSON values, or a `Bundle` where it is arrays. What is wrong with the arguments is a
`CutawayError` with a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cutaway.apps.inspection import arguments as given
from cutaway.apps.inspection.ablation import ablate
from cutaway.apps.inspection.activations import activations
from cutaway.apps.inspection.anatomy import describe
from cutaway.apps.inspection.bundle import Bundle
from cutaway.apps.inspection.edges import edge
from cutaway.apps.inspection.heads import attention
from cutaway.apps.inspection.predictions import following, generate, tokenize
from cutaway.models.model import Model

Answer = dict[str, Any] | Bundle


def anatomy(model: Model, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of the model, with shapes and parameter counts."""
    given.only(arguments)
    return describe(model)


REQUESTS: dict[str, Callable[[Model, dict[str, Any]], Answer]] = {
    "anatomy": anatomy,
    "tokenize": tokenize,
    "next": following,
    "ablate": ablate,
    "edge": edge,
    "generate": generate,
    "activations": activations,
    "attention": attention,
}
