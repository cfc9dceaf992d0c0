"""What runs in the worker process? One request after the other, cancelled when asked, gone when its parent is.

`serve` reads requests from standard input in a thread of its own and answers them as frames. Heavy requests
run one at a time in the main thread, with a reporter that sends their progress and hears of their
cancellation. Light ones are answered at once by the reading thread, also while a heavy one runs. When
standard input ends, the parent is gone: the work under way is cancelled, and the process ends by itself.
Limits: a step that is under way is finished before a request stops; a light handler must not touch what
heavy ones hold. Whatever libraries print goes to standard error.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from cutaway.core.errors import Cancelled, CutawayError
from cutaway.core.progress import reporting
from cutaway.runtime.frames import Frame, read_line, write_frame

Handler = Callable[[Mapping[str, Any], "Line"], Frame]
EVERY = 0.1  # seconds between two messages about progress
GRACE = 1.5  # seconds that work has to stop in when the parent is gone


class Line:
    """The way back to the parent: frames, written one at a time by whichever thread has one."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, frame: Frame) -> None:
        """Send a frame; a parent that is gone is not told."""
        with self._lock:
            try:
                write_frame(self._stream, frame)
            except (BrokenPipeError, ValueError, OSError):
                return

    def event(self, name: str, **facts: Any) -> None:
        """Send word of something that happened."""
        self.send(Frame({"event": name, **facts}))


@dataclass
class _Piece:
    what: str
    total: int | None
    done: int = 0


class Progress:
    """Tells the parent how far the request is; see `cutaway.core.progress.Reporter`."""

    def __init__(self, line: Line, number: int) -> None:
        self._line, self._number = line, number
        self._pieces: list[_Piece] = []
        self._stop = threading.Event()
        self._told = 0.0
        self._furthest = 0.0

    def start(self, what: str, total: int | None) -> None:
        """A piece of work begins inside the one under way."""
        if not self._pieces:
            self._furthest = 0.0
        self._pieces.append(_Piece(what, total))
        self._tell()

    def advance(self, n: int) -> None:
        """`n` more steps of the innermost piece are finished."""
        self._pieces[-1].done += n
        self._tell()

    def done(self) -> None:
        """The innermost piece is over."""
        self._pieces.pop()

    def cancelled(self) -> bool:
        """Whether the parent asked for an end."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Ask the work to stop at its next step."""
        self._stop.set()

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told < EVERY and not self._finished():
            return
        self._told = now
        last = self._pieces[-1]
        facts = {"what": last.what, "done": last.done, "total": last.total, "fraction": self._fraction()}
        self._line.event("progress", id=self._number, **facts)

    def _finished(self) -> bool:
        return len(self._pieces) == 1 and self._pieces[0].done == self._pieces[0].total

    def _fraction(self) -> float:
        """Steps of the outer pieces, and the part of a step that the inner ones have done; an outer one never goes back."""
        inner = 0.0
        for piece in reversed(self._pieces):
            inner = min(1.0, (piece.done + inner) / piece.total) if piece.total else inner
        self._furthest = max(self._furthest, inner)
        return self._furthest


class _Loop:
    """The requests under way, shared by the reading thread and the working one."""

    def __init__(self, line: Line, light: Mapping[str, Handler]) -> None:
        self.line, self.light = line, light
        self.waiting: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.running: dict[int, Progress] = {}
        self.cancelled: set[int] = set()
        self.lock = threading.Lock()
        self.early: list[dict[str, Any]] | None = []  # light requests that came before all was prepared

    def prepared(self) -> None:
        """From now on light requests are answered as they come."""
        with self.lock:
            early, self.early = self.early or [], None
        for message in early:
            self._lightly(message)

    def read(self, stream: BinaryIO) -> None:
        """Take requests until the parent is gone."""
        try:
            while (message := read_line(stream)) is not None:
                self._take(message)
        except Exception:  # noqa: BLE001 - the thread must not end without ending the process
            traceback.print_exc()
        self.waiting.put(None)
        for progress in list(self.running.values()):
            progress.stop()
        if self.running:
            time.sleep(GRACE)
        os._exit(0)

    def _take(self, message: dict[str, Any]) -> None:
        if "cancel" in message:
            with self.lock:
                number = int(message["cancel"])
                self.cancelled.add(number)
                if number in self.running:
                    self.running[number].stop()
        elif message["do"] in self.light:
            with self.lock:
                if self.early is not None:
                    self.early.append(message)
                    return
            self._lightly(message)
        else:
            self.waiting.put(message)

    def _lightly(self, message: dict[str, Any]) -> None:
        self.line.send(_answered(self.light[message["do"]], message, self.line))

    def begin(self, number: int) -> Progress:
        """The reporter of a request that starts now; of one cancelled before, it is stopped already."""
        with self.lock:
            progress = self.running[number] = Progress(self.line, number)
            if number in self.cancelled:
                progress.stop()
            return progress

    def end(self, number: int) -> None:
        """The request is over."""
        with self.lock:
            self.running.pop(number, None)
            self.cancelled.discard(number)


def serve(
    heavy: Mapping[str, Handler],
    light: Mapping[str, Handler] | None = None,
    prepare: Callable[[Line], None] | None = None,
) -> None:
    """Answer requests until standard input ends.

    Args:
        heavy: what a request's `do` may be -> what answers it, one at a time.
        light: the same, for what is answered at once; it must be quick.
        prepare: done once in the beginning, before the worker says that it is ready.
    """
    stdin, stdout = _pipes()
    line = Line(stdout)
    loop = _Loop(line, light or {})
    threading.Thread(target=loop.read, args=(stdin,), daemon=True, name="requests").start()
    if prepare is not None:
        prepare(line)
    loop.prepared()
    line.event("ready", pid=os.getpid())
    while (message := loop.waiting.get()) is not None:
        number = int(message["id"])
        with reporting(loop.begin(number)):
            frame = _answered(heavy.get(message["do"], _unknown), message, line)
        loop.end(number)
        line.send(frame)
    os._exit(0)  # at once: threads of libraries would hold the end up


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for messages alone: prints of libraries go to standard error."""
    stdin, stdout = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return stdin, stdout


def _answered(handler: Handler, message: Mapping[str, Any], line: Line) -> Frame:
    number = message.get("id")
    try:
        frame = handler(message, line)
    except Cancelled:
        return Frame({"id": number, "cancelled": True})
    except CutawayError as error:
        return Frame({"id": number, "error": error_record(error)})
    except Exception as error:  # noqa: BLE001 - one bad request must not end the worker
        traceback.print_exc()
        return Frame({"id": number, "error": _unexpected(error)})
    return Frame({**frame.header, "id": number}, frame.body)


def error_record(error: CutawayError) -> dict[str, Any]:
    """An error as JSON values: its kind, and the three parts of its sentence."""
    return {
        "type": type(error).__name__,
        "what": error.what,
        "expected": error.expected,
        "instead": error.instead,
    }


def _unexpected(error: Exception) -> dict[str, Any]:
    what = f"the work failed unexpectedly ({type(error).__name__}: {str(error)[:500]});"
    expected = "this is a fault of the program, and the server's terminal shows where."
    return {"type": "unexpected", "what": what, "expected": expected, "instead": ""}


def _unknown(message: Mapping[str, Any], line: Line) -> Frame:
    raise CutawayError(f"the worker does not know how to do {message['do']!r}.")
