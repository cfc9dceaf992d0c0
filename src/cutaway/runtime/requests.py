"""What may be asked of the worker: requests that wait for their answer, and how waiting can end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from cutaway.core.errors import CutawayError
from cutaway.runtime.frames import Frame


class Busy(CutawayError):  # noqa: N818 - a state, said in a sentence
    """The worker runs a job, and the request would have waited for too long.

    Attributes:
        job: id of the job; empty where another request was in the way.
    """

    def __init__(self, job: str, what: str) -> None:
        super().__init__(
            f"busy: {job or 'another request'}.",
            f"The model is at work{f' ({what})' if what else ''}, one thing at a time.",
            "Ask again when it is done, or cancel it.",
        )
        self.job = job


class WorkerError(CutawayError):
    """The worker said no. `kind` is the name of its error, such as `TaskError`."""

    def __init__(self, kind: str, what: str, expected: str = "", instead: str = "") -> None:
        super().__init__(what, expected, instead)
        self.kind = kind


class WorkerLost(CutawayError):  # noqa: N818
    """The worker ended while it was at work, or could not be started."""


class TooSlow(CutawayError):  # noqa: N818
    """A request took longer than it may."""


@dataclass(eq=False)
class Ask:
    """A request that somebody waits for."""

    number: int
    message: Mapping[str, Any]
    seconds: float
    light: bool = False
    future: Future[Frame] = field(default_factory=Future)
    asked: float = field(default_factory=time.monotonic)
    sent: float | None = None

    def answer(self, frame: Frame) -> None:
        """Hand the answer to whoever still waits."""
        if "error" in frame.header:
            error = frame.header["error"]
            self.fail(WorkerError(error["type"], error["what"], error["expected"], error["instead"]))
        elif frame.header.get("cancelled"):
            self.fail(TooSlow("the request was stopped."))
        elif not self.future.done():
            self.future.set_result(frame)

    def fail(self, error: CutawayError) -> None:
        """Tell whoever still waits that there is no answer."""
        if not self.future.done():
            self.future.set_exception(error)
