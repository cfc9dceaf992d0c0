"""Who runs next? Jobs in a queue, quick requests before them, one worker process, and word of how far it is.

One thread owns all that is known about the queue and the worker; others leave it messages, so that nothing
is locked and nothing is waited for. Quick requests go before queued jobs. While a job runs they wait for a
little and are then refused as busy; light ones are answered beside it. A worker that dies fails the job that
it ran, in a sentence, and is started anew. A job that does not stop when it is cancelled is ended with its
worker.
Limits: one worker and one thing at a time. The store keeps a job's states; how far a running job is, is
known here alone.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cutaway.core.errors import CutawayError
from cutaway.runtime.frames import Frame
from cutaway.runtime.limits import Limits
from cutaway.runtime.owner import OWNER, asked, is_gone, me
from cutaway.runtime.requests import Ask, Busy, TooSlow, WorkerLost
from cutaway.runtime.worker_process import WorkerProcess, in_words

if TYPE_CHECKING:
    from cutaway.store.index import Job, Store

FINAL = frozenset({"done", "failed", "cancelled", "interrupted"})
TICK = 0.2
_LOG = logging.getLogger(__name__)
Watcher = Callable[[str, "Job"], None]


@dataclass
class _Running:
    """The job that the worker has."""

    id: str
    number: int
    started: float
    ends: float | None = None  # when the worker is ended, if the job has not stopped by then
    as_state: str = ""  # what the job then is: cancelled, or failed because it took too long
    error: str = ""


class Jobs:
    """The queue and its worker.

    Args:
        store: keeps jobs and results.
        command: the command line of the worker.
        environment: variables to set for it.
        limits: how long things may take.
        happened: is told what the worker says besides answers, such as `opened`, of its end (`ended`), and of each
            new `state` of a job; in a thread of ours.
    """

    def __init__(
        self,
        store: Store,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        happened: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        self._store, self._command, self._environment = store, tuple(command), dict(environment or {})
        self.limits = limits or Limits()
        self._happened = happened or (lambda event: None)
        self._numbers = itertools.count(1)
        self._inbox: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._live: dict[str, Job] = {}
        self._watchers: dict[str, list[Watcher]] = {}
        self._watching = threading.Lock()
        self._waiting: deque[str] = deque()
        self._urgent: deque[Ask] = deque()
        self._beside: dict[int, Ask] = {}
        self._ask: Ask | None = None
        self._job: _Running | None = None
        self._worker: WorkerProcess | None = None
        self._failed_starts = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="jobs")
        self._thread.start()

    # --- for everybody -------------------------------------------------------------------------------------------

    def submit(self, spec: Mapping[str, Any]) -> Job:
        """Put a job at the end of the queue; the store knows it before this returns.

        Raises:
            Busy: too many jobs wait.
        """
        if len(self._waiting) >= self.limits.queue:
            raise Busy("", f"{len(self._waiting)} jobs wait, and no more are taken")
        job = self._store.add_job({**spec, OWNER: me()})
        self._live[job.id] = job
        self._inbox.put(("submit", job.id))
        return job

    def cancel(self, id: str) -> Job:
        """Ask a job to stop: at once where it waits, at its next step where it runs.

        Raises:
            StoreError: there is no such job.
        """
        job = self.job(id)
        if job.state not in FINAL:
            done = threading.Event()
            self._inbox.put(("cancel", job.id, done))
            done.wait(5)
        return self.job(job.id)

    def job(self, id: str) -> Job:
        """A job as it is now.

        Raises:
            StoreError: there is no such job.
        """
        return self._live.get(id) or self._store.job(id)

    def jobs(self, state: str = "", limit: int = 50) -> list[Job]:
        """The newest jobs, those in one state where it is named."""
        return self.as_they_are(self._store.jobs(state=state, limit=limit), state)

    def as_they_are(self, kept: Sequence[Job], state: str = "") -> list[Job]:
        """Jobs as they are now, from how the store has them; those in one state where it is named."""
        found = [self._live.get(job.id, job) for job in kept]
        return [job for job in found if not state or job.state == state]

    def watch(self, id: str, watcher: Watcher) -> Callable[[], None]:
        """Have `watcher` told of each change as (`progress` or `state`, job), in a thread of ours.

        Returns:
            What ends it.
        """
        with self._watching:
            self._watchers.setdefault(id, []).append(watcher)

        def stop() -> None:
            with self._watching:
                left = [other for other in self._watchers.get(id, []) if other is not watcher]
                if left:
                    self._watchers[id] = left
                else:
                    self._watchers.pop(id, None)

        return stop

    def events(self, id: str) -> Iterator[tuple[str, Job]]:
        """The job as it is, and then every change until it is over."""
        changes: queue.SimpleQueue[tuple[str, Job]] = queue.SimpleQueue()
        stop = self.watch(id, lambda name, job: changes.put((name, job)))
        try:
            name, job = "state", self.job(id)
            yield name, job
            while job.state not in FINAL:
                name, job = changes.get()
                yield name, job
        finally:
            stop()

    def post(self, message: Mapping[str, Any], *, light: bool = False, seconds: float | None = None) -> Future[Frame]:
        """Ask the worker; the future holds its frame. Cancelling the future withdraws a request not yet begun."""
        limit = seconds or (self.limits.light if light else self.limits.answer)
        ask = Ask(next(self._numbers), message, limit, light)
        if self._closing:
            ask.fail(WorkerLost("the server is being shut down."))
        elif len(self._urgent) >= self.limits.requests:
            ask.fail(Busy("", f"{len(self._urgent)} requests wait"))
        else:
            self._inbox.put(("post", ask))
        return ask.future

    def ask(self, message: Mapping[str, Any], *, light: bool = False, seconds: float | None = None) -> Frame:
        """Ask the worker and wait for its frame.

        Raises:
            Busy: a job is in the way.
            WorkerError: the worker said no.
            WorkerLost: it died.
            TooSlow: it took too long.
        """
        return self.post(message, light=light, seconds=seconds).result()

    @property
    def worker_pid(self) -> int | None:
        """Number of the worker's process, while there is one."""
        worker = self._worker
        return worker.pid if worker else None

    def close(self, seconds: float = 10.0) -> None:
        """End the worker; the job that it ran is interrupted, those that wait are cancelled."""
        if not self._closing:
            self._closing = True
            self._inbox.put(("close",))
        self._thread.join(seconds)

    # --- in the thread of the queue ------------------------------------------------------------------------------

    def _run(self) -> None:
        self._start()
        self._interrupt_abandoned()
        while True:
            try:
                what, *facts = self._inbox.get(timeout=TICK)
            except queue.Empty:
                what, facts = "tick", []
            if what == "close":
                self._shut()
                return
            try:
                getattr(self, f"_on_{what}")(*facts)
                self._look_at_the_clock()
                self._next()
            except Exception:  # noqa: BLE001 - one message must not end the queue
                _LOG.exception("while handling %r", what)

    def _start(self) -> None:
        try:
            self._worker = WorkerProcess(
                self._command,
                heard=lambda worker, frame: self._inbox.put(("frame", worker, frame)),
                ended=lambda worker, status: self._inbox.put(("ended", worker, status)),
                environment=self._environment,
            )
        except OSError as error:
            self._worker = None
            self._failed_starts += 1
            self._fail_everything(WorkerLost(f"the worker cannot be started: {error}."))

    def _interrupt_abandoned(self) -> None:
        """Jobs that waited for a server of this machine that is gone will not be begun by anybody."""
        for job in self._store.jobs(state="queued", limit=1000):
            if job.id not in self._live and is_gone(job.spec.get(OWNER)):
                error = "The server ended before it was begun."
                self._store.update_job(job.id, state="interrupted", error=error, finished=_now())

    def _next(self) -> None:
        """Give the worker something to do, if it has nothing."""
        if self._job or self._ask or not (self._urgent or self._waiting):
            return
        if self._worker is None:
            self._start()
        if self._worker is None or not self._worker.ready:
            return
        while self._urgent:
            ask = self._urgent.popleft()
            if ask.future.set_running_or_notify_cancel():
                ask.sent, self._ask = time.monotonic(), ask
                self._worker.send({**ask.message, "id": ask.number})
                return
        if self._waiting:
            id = self._waiting.popleft()
            running = _Running(id, next(self._numbers), time.monotonic())
            job = self._change(id, "state", state="running", started=_now())
            self._job = running
            self._worker.send({"do": "job", "id": running.number, "job": id, "spec": asked(job)})

    def _on_tick(self) -> None:
        """Nothing happened."""

    def _on_submit(self, id: str) -> None:
        self._waiting.append(id)

    def _on_post(self, ask: Ask) -> None:
        if not ask.light:
            self._urgent.append(ask)
            return
        if self._worker is None:
            self._start()
        if self._worker is not None and ask.future.set_running_or_notify_cancel():
            ask.sent = time.monotonic()
            self._beside[ask.number] = ask
            self._worker.send({**ask.message, "id": ask.number})

    def _on_cancel(self, id: str, done: threading.Event) -> None:
        if id in self._waiting:
            self._waiting.remove(id)
            self._change(id, "state", state="cancelled", finished=_now())
        elif self._job and self._job.id == id and not self._job.as_state:
            self._stop_job("cancelled")
            self._change(id, "progress", what="stopping")
        done.set()

    def _stop_job(self, as_state: str, error: str = "") -> None:
        assert self._job is not None
        self._job.as_state, self._job.error = as_state, error
        self._job.ends = time.monotonic() + self.limits.grace
        if self._worker:
            self._worker.send({"cancel": self._job.number})

    def _on_frame(self, worker: WorkerProcess, frame: Frame) -> None:
        if worker is not self._worker:
            return
        match frame.header.get("event"):
            case None:
                self._answered(frame)
            case "ready":
                worker.ready = True
            case "progress":
                self._progressed(frame.header)
            case _:
                self._happened(frame.header)

    def _answered(self, frame: Frame) -> None:
        number = frame.header["id"]
        self._failed_starts = 0
        if self._ask and self._ask.number == number:
            ask, self._ask = self._ask, None
            ask.answer(frame)
        elif self._job and self._job.number == number:
            self._finished(frame)
        elif number in self._beside:
            self._beside.pop(number).answer(frame)

    def _progressed(self, header: Mapping[str, Any]) -> None:
        if self._job and self._job.number == header["id"] and not self._job.as_state:
            facts = {key: header[key] for key in ("what", "done", "total", "fraction")}
            self._change(self._job.id, "progress", **facts)

    def _finished(self, frame: Frame) -> None:
        running, self._job = self._job, None
        assert running is not None
        header = frame.header
        if "error" in header:
            error = header["error"]
            sentence = " ".join(part for part in (error["what"], error["expected"], error["instead"]) if part)
            self._end(running.id, "failed", error=sentence)
        elif header.get("cancelled"):
            self._end(running.id, running.as_state or "cancelled", error=running.error)
        else:
            answer = header["answer"]
            results = tuple(answer["results"])
            self._end(running.id, "done", results=results, report=answer.get("report"), fraction=1.0)

    def _on_ended(self, worker: WorkerProcess, status: int) -> None:
        if worker is not self._worker:
            return
        self._worker = None
        self._failed_starts = 0 if worker.ready else self._failed_starts + 1
        self._happened({"event": "ended", "status": status})
        lost = WorkerLost(
            f"the worker process ended while it was at work ({in_words(status)}).",
            "It is started anew, and models are opened again when they are needed.",
            "Ask for less at once if this happens again.",
        )
        if self._job:
            running, self._job = self._job, None
            state = running.as_state or "failed"
            self._end(running.id, state, error=running.error or ("" if state == "cancelled" else str(lost)))
        if self._ask:
            self._ask.fail(lost)
            self._ask = None
        for ask in self._beside.values():
            ask.fail(lost)
        self._beside.clear()
        if self._failed_starts >= 3:
            self._fail_everything(
                WorkerLost(f"the worker cannot be started ({in_words(status)}).", "", "See its output.")
            )
        else:
            self._start()

    def _fail_everything(self, error: CutawayError) -> None:
        """Nothing can be done for those who wait; the next one to ask tries anew."""
        self._failed_starts = 0
        while self._urgent:
            self._urgent.popleft().fail(error)
        while self._waiting:
            self._end(self._waiting.popleft(), "failed", error=str(error))
        for ask in self._beside.values():
            ask.fail(error)
        self._beside.clear()

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        if self._job:
            if not self._job.as_state and now - self._job.started > self.limits.job:
                self._stop_job("failed", f"It took longer than {self.limits.job:.0f} seconds, which is the limit.")
            if self._job.ends is not None and now > self._job.ends and self._worker:
                self._worker.kill()  # what it leaves is looked after when its end is heard of
                self._job.ends = None
        if self._ask and self._ask.sent is not None and now - self._ask.sent > self._ask.seconds:
            self._give_up(self._ask, now)
        for ask in [a for a in self._beside.values() if a.sent and now - a.sent > a.seconds]:
            del self._beside[ask.number]
            ask.fail(TooSlow(f"there was no answer within {ask.seconds:.0f} seconds.", "", "Ask again later."))
        if self._job or self._ask:
            self._refuse_the_impatient(now)

    def _give_up(self, ask: Ask, now: float) -> None:
        """Ask it to stop; when it has not after the time of grace, end the worker."""
        sentence = f"there was no answer within {ask.seconds:.0f} seconds, which is the limit."
        if not ask.future.done():
            ask.fail(TooSlow(sentence, "", "Ask for less at once."))
            if self._worker:
                self._worker.send({"cancel": ask.number})
        elif ask.sent is not None and now - ask.sent > ask.seconds + self.limits.grace and self._worker:
            ask.sent = None
            self._worker.kill()

    def _refuse_the_impatient(self, now: float) -> None:
        running = self._live.get(self._job.id) if self._job else None
        busy = Busy(running.id if running else "", running.what if running else "")
        waited = {ask: now - ask.asked > (self.limits.patience if self._job else ask.seconds) for ask in self._urgent}
        for ask in [ask for ask in self._urgent if waited[ask]]:
            self._urgent.remove(ask)
            ask.fail(busy)

    def _end(self, id: str, state: str, **fields: Any) -> None:
        self._change(id, "state", state=state, finished=_now(), **fields)
        finished = [job.id for job in list(self._live.values()) if job.state in FINAL]
        for old in finished[: max(0, len(finished) - self.limits.kept)]:
            self._live.pop(old, None)

    def _change(self, id: str, name: str, **fields: Any) -> Job:
        """Note a change of a job, keep it if it is one of state, and tell those who watch."""
        job = replace(self._live.get(id) or self._store.job(id), **fields)
        if name == "state":
            try:
                self._store.update_job(id, **fields)
            except CutawayError as error:  # the job goes on; when the store is opened next, it is interrupted there
                _LOG.warning("the state of job %s (%s) could not be kept: %s", id, job.state, error)
        self._live[id] = job
        if name == "state":
            self._happened({"event": "state", "job": id, "state": job.state})
        with self._watching:
            watchers = list(self._watchers.get(id, ()))
        for watcher in watchers:
            watcher(name, job)
        return job

    def _shut(self) -> None:
        gone = WorkerLost("the server was shut down.")
        for ask in (*self._urgent, *self._beside.values(), *([self._ask] if self._ask else [])):
            ask.fail(gone)
        if self._worker:
            worker, self._worker = self._worker, None
            worker.close()
        if self._job:
            self._end(self._job.id, "interrupted", error="The server was shut down.")
        for id in self._waiting:
            self._end(id, "cancelled", error="The server was shut down.")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
