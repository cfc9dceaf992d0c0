"""How is one kind of request made of many workers at once? Each takes the next one when it has answered the last.

Every worker is a process as in `cutaway.runtime.worker_process`. It is first asked to prepare itself, then for one
message after the other, so that a slow one holds up one worker and not the rest. A worker that dies loses the message
that it had, which is answered by a sentence, and another worker takes its place. Cancelling stops every worker at its
next step.
Limits: one machine; each worker holds all that it needs, a model included, so memory is what limits their number.
"""

from __future__ import annotations

import os
import queue
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cutaway.core.errors import CutawayError
from cutaway.core.progress import stop_if_cancelled, tracking
from cutaway.runtime.frames import Frame
from cutaway.runtime.requests import WorkerError, WorkerLost
from cutaway.runtime.worker_process import WorkerProcess, in_words

TICK = 0.2  # seconds after which it is asked again whether the work is still wanted
_PREPARING = -1
Answer = Mapping[str, Any] | CutawayError


def spread(
    command: Sequence[str],
    prepare: Mapping[str, Any],
    messages: Sequence[Mapping[str, Any]],
    answered: Callable[[int, Answer], None],
    *,
    jobs: int,
    what: str,
) -> None:
    """Have every message answered by one of several workers.

    Args:
        command: the command line of a worker, which ends in `cutaway.runtime.worker.serve`.
        prepare: the message that each worker gets first.
        messages: what is asked; each is answered once.
        answered: is given the index of a message and the header of its answer, or the error that took its place, as
            they come and in this thread.
        jobs: number of workers; no more are started than there are messages.
        what: the work in a word, for those who watch.

    Raises:
        WorkerError: a worker could not prepare itself.
        WorkerLost: one died while it prepared itself.
        Cancelled: the work is no longer wanted; workers are stopped at their next step.
    """
    pool = _Pool(command, prepare, messages, threads=max(1, cores() // max(1, jobs)))
    try:
        with tracking(what, total=len(messages)) as advance:
            for _ in range(min(jobs, len(messages))):
                pool.start()
            for _ in messages:
                answered(*pool.next_answer(what))
                advance(1)
    finally:
        pool.close()


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Pool:
    """The workers and the message that each of them has; all in the thread that asks."""

    def __init__(
        self, command: Sequence[str], prepare: Mapping[str, Any], messages: Sequence[Mapping[str, Any]], threads: int
    ) -> None:
        self._command, self._prepare, self._messages = command, prepare, messages
        self._environment = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(threads)}
        self._waiting = deque(range(len(messages)))
        self._at: dict[WorkerProcess, int | None] = {}  # worker -> index of what it does, None where nothing is left
        self._heard: queue.SimpleQueue[tuple[WorkerProcess, Frame | int]] = queue.SimpleQueue()

    def start(self) -> None:
        """Start one more worker."""
        try:
            worker = WorkerProcess(
                self._command,
                heard=lambda worker, frame: self._heard.put((worker, frame)),
                ended=lambda worker, status: self._heard.put((worker, status)),
                environment=self._environment,
            )
        except OSError as error:
            raise WorkerLost(f"a worker cannot be started: {error}.") from error
        self._at[worker] = _PREPARING
        worker.send({**self._prepare, "id": _PREPARING})

    def next_answer(self, what: str) -> tuple[int, Answer]:
        """Wait for the next message that is answered."""
        while True:
            stop_if_cancelled(what)
            try:
                worker, said = self._heard.get(timeout=TICK)
            except queue.Empty:
                continue
            found = self._lost(worker, said) if isinstance(said, int) else self._took(worker, said)
            if found is not None:
                return found

    def close(self) -> None:
        """Stop what is under way and end every worker."""
        for worker, index in self._at.items():
            if index is not None:
                worker.send({"cancel": index})
        if self._at:
            with ThreadPoolExecutor(len(self._at)) as closing:
                list(closing.map(WorkerProcess.close, self._at))

    def _took(self, worker: WorkerProcess, frame: Frame) -> tuple[int, Answer] | None:
        if "event" in frame.header:
            return None
        index = int(frame.header["id"])
        answer = _answer(frame.header)
        if index == _PREPARING and isinstance(answer, CutawayError):
            raise answer
        self._give(worker)
        return None if index == _PREPARING else (index, answer)

    def _give(self, worker: WorkerProcess) -> None:
        self._at[worker] = index = self._waiting.popleft() if self._waiting else None
        if index is not None:
            worker.send({**self._messages[index], "id": index})

    def _lost(self, worker: WorkerProcess, status: int) -> tuple[int, Answer] | None:
        index = self._at.pop(worker)
        if index is None:
            return None
        lost = WorkerLost(
            f"the worker process ended while it was at work ({in_words(status)}).",
            "The others went on without it.",
            "Ask for fewer at once if this happens again.",
        )
        if index == _PREPARING:
            raise lost
        if self._waiting:
            self.start()
        return index, lost


def _answer(header: Mapping[str, Any]) -> Answer:
    if "error" in header:
        error = header["error"]
        return WorkerError(error["type"], error["what"], error["expected"], error["instead"])
    found: Mapping[str, Any] = header["answer"]
    return found
