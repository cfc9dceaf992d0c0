"""How is the worker started, spoken to and ended? A child process and two threads that feed and hear it.

The child lives in a process group of its own, so that ctrl-C in the terminal reaches the server alone, which
then ends the worker. It ends by itself when its standard input closes: a server that is killed leaves
nothing behind.
Limits: one child; what it says is handed to a function, in the thread that heard it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO, cast

from cutaway.core.errors import CutawayError
from cutaway.runtime.frames import Frame, line_of, read_frame

SIGNALS = {9: "killed, which happens when memory runs out", 11: "a crash in compiled code", 15: "ended from outside"}


class WorkerProcess:
    """A running worker.

    Args:
        command: the command line that starts it.
        heard: is given each frame.
        ended: is given the exit status, once.
        environment: variables to set for it.
    """

    def __init__(
        self,
        command: Sequence[str],
        heard: Callable[[WorkerProcess, Frame], None],
        ended: Callable[[WorkerProcess, int], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._heard, self._ended = heard, ended
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        self.ready = False
        for target in (self._write, self._read):
            threading.Thread(target=target, daemon=True, name=f"worker {target.__name__}").start()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; never blocks."""
        self._lines.put(line_of(message))

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def close(self, seconds: float = 5.0) -> None:
        """Tell it that nothing more is coming, and wait for its end; it is killed when it does not come."""
        self._lines.put(None)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()

    def _write(self) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(OSError, ValueError):
            while (line := self._lines.get()) is not None:
                stdin.write(line)
                stdin.flush()
        with contextlib.suppress(OSError, ValueError):
            stdin.close()

    def _read(self) -> None:
        stdout = cast(BinaryIO, self._process.stdout)
        with contextlib.suppress(OSError, ValueError, CutawayError):
            while (frame := read_frame(stdout)) is not None:
                self._heard(self, frame)
        self.kill()  # it cannot be heard any more, whatever it still does
        status = self._process.wait()
        stdout.close()
        self._lines.put(None)
        self._ended(self, status)


def in_words(status: int) -> str:
    """How a process ended, for a person."""
    if status >= 0:
        return f"exit status {status}"
    number = -status
    name = signal.Signals(number).name if number in {int(s) for s in signal.Signals} else str(number)
    return f"signal {name}: {SIGNALS[number]}" if number in SIGNALS else f"signal {name}"
