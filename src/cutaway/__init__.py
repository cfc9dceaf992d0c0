"""Open up a running language model: see what it computes, find what causes what, name its parts, change them.

    import cutaway as ca

    model = ca.open("smollm2")
    ca.explain(model, "When Mary and John went to the store, John gave a drink to").show()
    ca.logit_lens(model, ca.tasks.ioi(n=50), top=5)

This is the whole public API, and every method of the registry besides (`ca.logit_lens`; `cutaway list`
shows them). Nothing is imported before it is used, so `import cutaway` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cutaway import methods
    from cutaway.apps.explanation import explain
    from cutaway.core import view as views
    from cutaway.core.artifact import Artifact
    from cutaway.core.circuit import Circuit
    from cutaway.core.claim import Claim, Figure
    from cutaway.core.edge import Edge
    from cutaway.core.edit import Edit, ablate, add, apply, patch, project_out, replace, scale
    from cutaway.core.method import method, task
    from cutaway.core.registry import Namespace
    from cutaway.core.result import Check, Result
    from cutaway.core.run import Run
    from cutaway.core.site import Site
    from cutaway.core.study import Findings, StudyRun, study
    from cutaway.core.task import EncodedTask, Task
    from cutaway.core.view import View
    from cutaway.models.model import Model
    from cutaway.models.open import open

    load = Result.load
    tasks = Namespace("task")

__version__ = "0.1.0"

__all__ = [  # noqa: RUF022 - in the order in which one meets them
    # open a model and ask it
    "open", "explain", "tasks", "methods", "load",
    # what one works with
    "Model", "Task", "EncodedTask", "Site", "Run", "Edit", "Result", "View", "views", "Check",
    "Artifact", "Edge", "Circuit",
    # changes of a run
    "patch", "ablate", "add", "scale", "replace", "project_out", "apply",
    # methods and tasks of one's own
    "method", "task",
    # papers
    "study", "StudyRun", "Findings", "Claim", "Figure",
]  # fmt: skip

_HOME = {
    "cutaway.apps.explanation": ("explain",),
    "cutaway.core.artifact": ("Artifact",),
    "cutaway.core.circuit": ("Circuit",),
    "cutaway.core.claim": ("Claim", "Figure"),
    "cutaway.core.edge": ("Edge",),
    "cutaway.core.edit": ("Edit", "ablate", "add", "apply", "patch", "project_out", "replace", "scale"),
    "cutaway.core.method": ("method", "task"),
    "cutaway.core.result": ("Check", "Result"),
    "cutaway.core.run": ("Run",),
    "cutaway.core.site": ("Site",),
    "cutaway.core.study": ("Findings", "StudyRun", "study"),
    "cutaway.core.task": ("EncodedTask", "Task"),
    "cutaway.core.view": ("View",),
    "cutaway.models.model": ("Model",),
    "cutaway.models.open": ("open",),
}


def __getattr__(name: str) -> Any:
    """A name of the public API, or a method of the registry, imported at its first use."""
    if name.startswith("__"):
        raise AttributeError(f"module 'cutaway' has no attribute {name!r}")
    value = globals()[name] = _found(name)
    return value


def __dir__() -> list[str]:
    from cutaway.core import registry

    return sorted({*__all__, "__version__", *(e.name for e in registry.entries("method") if "/" not in e.name)})


def _found(name: str) -> Any:
    from cutaway.core import registry
    from cutaway.core.errors import MethodError

    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    match name:
        case "tasks":
            return registry.Namespace("task")
        case "methods":
            return importlib.import_module("cutaway.methods")
        case "views":
            return importlib.import_module("cutaway.core.view")
        case "load":
            return importlib.import_module("cutaway.core.result").Result.load
    try:
        registry.find("method", name)
    except MethodError as error:
        raise AttributeError(f"module 'cutaway' has no attribute {name!r}: {error}") from None
    return registry.get("method", name)
