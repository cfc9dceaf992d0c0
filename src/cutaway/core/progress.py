"""How far is it, and does anybody still want it? Progress and cancellation, without knowing who watches.

Code that works in steps says so with `track` (a loop) or `tracking` (steps of its own). A `Reporter` that
somebody put in place with `reporting` is told; with none in place the steps are silent and cost next to
nothing. Each step is also the moment at which a cancelled piece of work stops, by raising `Cancelled`.
Limits: a step that is under way is finished first, and a thread started inside does not inherit the reporter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

from cutaway.core.errors import Cancelled

T = TypeVar("T")


class Reporter(Protocol):
    """Somebody who watches pieces of work. Pieces nest: `advance` and `done` mean the one started last."""

    def start(self, what: str, total: int | None) -> None:
        """A piece of work begins; `total` is its number of steps where that is known."""

    def advance(self, n: int) -> None:
        """`n` more steps of the piece started last are finished."""

    def done(self) -> None:
        """The piece started last is over, finished or not."""

    def cancelled(self) -> bool:
        """Whether the work should stop at this step."""


_reporter: ContextVar[Reporter | None] = ContextVar("cutaway_reporter", default=None)


@contextmanager
def reporting(reporter: Reporter) -> Iterator[Reporter]:
    """Tell `reporter` about the work done inside."""
    token = _reporter.set(reporter)
    try:
        yield reporter
    finally:
        _reporter.reset(token)


@contextmanager
def tracking(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Report a piece of work in steps of one's own: the value is a function to call with the steps finished.

    >>> with tracking("patching", total=420) as advance:
    ...     advance(64)
    """
    reporter = _reporter.get()
    if reporter is None:
        yield _ignore
        return
    stop_if_cancelled(what)
    reporter.start(what, total)

    def advance(n: int = 1) -> None:
        reporter.advance(n)
        stop_if_cancelled(what)

    try:
        yield advance
    finally:
        reporter.done()


def track(iterable: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Go through `iterable` and report each step; `total` is taken from its length where it has one.

    >>> list(track([1, 2, 3], "counting"))
    [1, 2, 3]
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with tracking(what, total) as advance:
        for item in iterable:
            yield item
            advance(1)


def stop_if_cancelled(what: str = "the work") -> None:
    """Raise `Cancelled` when the reporter in place asks for it."""
    reporter = _reporter.get()
    if reporter is not None and reporter.cancelled():
        raise Cancelled(f"Cancelled while {what}.")


def _ignore(n: int = 1) -> None:
    """Nobody watches."""
