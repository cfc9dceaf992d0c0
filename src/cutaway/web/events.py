"""How does a page hear how far a job is? Server-sent events: each a name and the job as JSON, until it is over.

Limits: a page that reads slowly is told the latest state, not every step; a line a few seconds apart keeps
the connection open.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from cutaway.runtime.jobs import FINAL, Jobs
from cutaway.runtime.owner import asked
from cutaway.web.answers import encoded

if TYPE_CHECKING:
    from cutaway.store.index import Job

ALIVE, TICK = 10.0, 0.5  # seconds of silence before a line, and between two looks around


def job_record(job: Job) -> dict[str, Any]:
    """A job as JSON values."""
    report = dict(job.report) if job.report is not None else None
    return {**vars(job), "spec": asked(job), "results": list(job.results), "report": report}


async def stream(jobs: Jobs, id: str, first: Job, leaving: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Events of a job: how it is, then each change, until its last state, or until the server is `leaving`."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    latest: list[tuple[str, Job]] = []

    def note(name: str, job: Job) -> None:
        if latest and latest[-1][0] == name == "progress":
            latest.pop()  # not read yet: the newer one says it all
        latest.append((name, job))
        changed.set()

    def heard(name: str, job: Job) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(note, name, job)

    stop = jobs.watch(id, heard)
    try:
        job = jobs.job(id) if first.state not in FINAL else first  # what happened until we began to listen
        yield _event("state", job)
        quiet = 0.0
        while job.state not in FINAL and not leaving():
            try:
                async with asyncio.timeout(TICK):
                    await changed.wait()
            except TimeoutError:
                quiet += TICK
                if quiet >= ALIVE:
                    quiet = 0.0
                    yield b": still here\n\n"
                continue
            changed.clear()
            while latest:
                name, job = latest.pop(0)
                yield _event(name, job)
                if job.state in FINAL:
                    break
    finally:
        stop()


def _event(name: str, job: Job) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + encoded(job_record(job)) + b"\n\n"
