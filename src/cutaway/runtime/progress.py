"""How far is it, on the terminal? Bars with the time remaining on standard error, and ctrl-C.

Standard output stays clean, so that a result can be piped. The first ctrl-C lets the step under way finish
and then stops the work (`Cancelled`), so that nothing is left half written; the second stops at once.
Limits: without a terminal there are no bars; in a thread other than the main one ctrl-C is not ours to catch.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cutaway.core.progress import reporting


class TerminalReporter:
    """Draws a bar for each piece of work under way; see `cutaway.core.progress.Reporter`."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._pieces: list[TaskID] = []
        self._asked_to_stop = False

    def start(self, what: str, total: int | None) -> None:
        """Add a bar below those of the pieces that this one is part of."""
        indent = "  " * len(self._pieces)
        self._pieces.append(self._progress.add_task(indent + what, total=total))

    def advance(self, n: int) -> None:
        """Move the lowest bar."""
        self._progress.advance(self._pieces[-1], n)

    def done(self) -> None:
        """Take the lowest bar away."""
        self._progress.remove_task(self._pieces.pop())

    def cancelled(self) -> bool:
        """Whether `stop` was called."""
        return self._asked_to_stop

    def stop(self) -> bool:
        """Ask the work to stop at its next step; False when no step is coming or it was asked before."""
        if self._asked_to_stop or not self._pieces:
            return False
        self._asked_to_stop = True
        return True


@contextmanager
def watched(console: Console | None = None) -> Iterator[TerminalReporter]:
    """Show the work done inside, and let ctrl-C stop it.

    Args:
        console: where to draw; standard error by default.

    Raises:
        Cancelled: ctrl-C was pressed, from the step at which the work stopped.
        KeyboardInterrupt: it was pressed twice, or while no step was under way.
    """
    screen = console or Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        reporter = TerminalReporter(progress)
        with _stopping_on_interrupt(reporter, screen), reporting(reporter):
            yield reporter


@contextmanager
def _stopping_on_interrupt(reporter: TerminalReporter, console: Console) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if not reporter.stop():
            raise KeyboardInterrupt
        console.print("Stopping after this step; press ctrl-C again to stop at once.", style="dim")

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
