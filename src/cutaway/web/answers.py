"""How does the server say things? JSON that every reader takes, and errors in three parts.

Numbers that JSON does not have (NaN, infinities) become null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from cutaway.core.errors import CutawayError
from cutaway.runtime.requests import Busy, TooSlow, WorkerError, WorkerLost
from cutaway.store.ground import NotKept


class Refusal(CutawayError):  # noqa: N818 - an answer
    """Something that is answered with a status of our choice."""

    def __init__(self, status: int, what: str, expected: str = "", instead: str = "") -> None:
        super().__init__(what, expected, instead)
        self.status = status


class NotHere(Refusal):
    """What was asked for does not exist."""

    def __init__(self, what: str, expected: str = "", instead: str = "") -> None:
        super().__init__(404, what, expected, instead)


def finite(value: Any) -> Any:
    """The value with what JSON does not have as null; tuples become lists."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case str() | int() | None:
            return value
        case Mapping():
            return {str(name): finite(item) for name, item in value.items()}
        case list() | tuple():
            return [finite(item) for item in value]
        case _:
            return finite(value.item()) if hasattr(value, "item") else str(value)


def encoded(value: Any) -> bytes:
    """JSON values as bytes."""
    return json.dumps(finite(value), separators=(",", ":"), allow_nan=False).encode()


def answer(value: Any, status: int = 200) -> Response:
    """JSON values as an answer."""
    return Response(encoded(value), status, media_type="application/json")


def refusal(error: CutawayError) -> Response:
    """An error as an answer, in its three parts."""
    parts: dict[str, Any] = {"what": error.what, "expected": error.expected, "instead": error.instead}
    if isinstance(error, Busy):
        parts["job"] = error.job or None
    return answer({"error": parts}, status_of(error))


def status_of(error: CutawayError) -> int:
    """The status that fits an error: who is asked for something impossible is not at fault (4xx, not 5xx)."""
    match error:
        case Refusal():
            return error.status
        case NotKept():
            return 404
        case Busy():
            return 409
        case TooSlow():
            return 408
        case WorkerLost():
            return 409
        case WorkerError():
            return 500 if error.kind == "unexpected" else 422
        case _:
            return 422
