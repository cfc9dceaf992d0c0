"""What can be asked of a network? One folder a question, one file a method.

Every method of the registry is here by its name: `cutaway.methods.ablate(model, task)`. Most are `cutaway.NAME` too; `ablate`
is not, because `cutaway.ablate` is the edit.
"""

from __future__ import annotations

from typing import Any

from cutaway.core import registry
from cutaway.core.errors import MethodError


def __getattr__(name: str) -> Any:
    """A method of the registry, imported at its first use."""
    if name.startswith("__"):
        raise AttributeError(name)
    try:
        registry.find("method", name)
    except MethodError as error:
        raise AttributeError(f"module 'cutaway.methods' has no attribute {name!r}: {error}") from None
    return registry.get("method", name)
