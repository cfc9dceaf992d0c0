"""Shapes in signatures are checked at run time: at every call that a test makes into the modules named here.

And one process runs tests with a browser and tests with an event loop of their own.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from beartype import beartype
from jaxtyping import install_import_hook

CHECKED = (
    "cutaway.models.metric",
    "cutaway.models.model",
    "cutaway.models.multigrad",
    "cutaway.models.recording",
    "cutaway.models.unembedding",
)
_CONTAINER = re.compile(r"\b(list|tuple|dict|Sequence|Mapping)\[")
_SHAPED = re.compile(r"\b(Float|Int|Bool|Shaped)\[")


def shapes(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, checked where an annotation names a shape; others may be names for type checkers alone.

    Containers are left out: beartype draws from Python's global random state to look at one of their items.
    """
    written = function.__annotations__
    shaped = {n: hint for n, hint in written.items() if _SHAPED.search(str(hint)) and not _CONTAINER.search(str(hint))}
    if not shaped:
        return function
    try:
        function.__annotations__ = shaped
        return beartype(function)
    finally:
        function.__annotations__ = written


# The hook finds its checker by name, and must be there before the library is imported.
assert "cutaway.models" not in sys.modules
sys.modules["cutaway_test_shapes"] = sys.modules[__name__]
install_import_hook(CHECKED, "cutaway_test_shapes.shapes")


@pytest.fixture(autouse=True)
def _no_loop_of_a_browser(request: pytest.FixtureRequest) -> Iterator[None]:
    """Playwright's event loop counts as running until its browser is closed: other tests start loops of their own."""
    running = asyncio._get_running_loop()
    if running is None or "playwright" in request.fixturenames:
        yield
        return
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(running)
