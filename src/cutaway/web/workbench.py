"""What does a running server hold? The store, the queue with its worker, the opened models, and what it keeps at hand.

Everything slow is done elsewhere: models run in the worker, files and the index are read in a few threads.
The event loop only passes things on, so that reading stays quick while a model works.
Limits: the same question asked again within minutes is answered from memory; a model that was closed is
forgotten with its answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from cutaway.core.errors import nearest
from cutaway.runtime.frames import Frame
from cutaway.runtime.jobs import Jobs
from cutaway.store.index import Job, Store
from cutaway.web import catalogue
from cutaway.web.answers import Refusal, encoded
from cutaway.web.arrays import Sent
from cutaway.web.cache import Cache
from cutaway.web.settings import Settings

T = TypeVar("T")
_MiB = 1024 * 1024
_CLOSELY = 0.3  # seconds between two looks at whether the visitor is still there


class Gone(Refusal):
    """The visitor left before the answer came; nobody reads this."""

    def __init__(self) -> None:
        super().__init__(499, "the visitor has left.")


@dataclass(frozen=True)
class Answered:
    """What the worker answered, as it is sent."""

    body: bytes
    media_type: str


class Workbench:
    """What the endpoints share."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
        self.opened: dict[str, Mapping[str, Any]] = {}
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="reading")
        self._loop = asyncio.get_running_loop()
        self.answers: Cache[Answered] = Cache(128 * _MiB, 300, lambda answered: len(answered.body) + 1024)
        self.parts: Cache[Sent] = Cache(256 * _MiB, size=lambda sent: len(sent.body) + 1024)
        self.records: Cache[bytes] = Cache(32 * _MiB, 5, len)
        self.lists: Cache[bytes] = Cache(16 * _MiB, 0.5, len)
        self.listed: Cache[Any] = Cache(64, 3)
        self.kept_jobs: Cache[list[Job]] = Cache(64, 3)
        self.jobs = Jobs(
            store,
            worker_command(settings),
            environment=worker_environment(settings),
            limits=settings.limits,
            happened=self._happened,
        )

    async def in_thread(self, function: Callable[..., T], *args: Any) -> T:
        """Do something that reads a disk."""
        return await self._loop.run_in_executor(self._threads, function, *args)

    async def require_model(self, name: str) -> None:
        """Refuse names that a request may not open.

        Raises:
            Refusal: an unknown name, or a path that the server was not started with.
        """
        names = await self.listed.get("openable", lambda: self.in_thread(catalogue.openable, self.settings.models))
        if name not in names:
            raise Refusal(
                422,
                f"there is no model {name[:80]!r} to open here;",
                nearest(name[:80], names),
                "Folders, files and models of the hub are named when the server is started: cutaway serve --model NAME.",
            )

    async def inspect(self, request: Request, what: str, model: str, arguments: Mapping[str, Any]) -> Response:
        """A quick request about a model, from memory where it was asked before."""
        await self.require_model(model)
        key = (what, model, json.dumps(arguments, sort_keys=True))

        async def ask() -> Answered:
            asked = {"do": "inspect", "request": what, "model": model, "arguments": arguments}
            light = what == "tokenize" and model in self.opened
            frame = await self.ask({**asked, "do": "tokenize"} if light else asked, light=light)
            if "answer" in frame.header:
                return Answered(encoded(frame.header["answer"]), "application/json")
            return Answered(frame.body, "application/octet-stream")

        found = await while_here(request, self.answers.get(key, ask))
        return Response(found.body, media_type=found.media_type)

    async def ask(self, message: Mapping[str, Any], *, light: bool = False) -> Frame:
        """Ask the worker."""
        return await asyncio.wrap_future(self.jobs.post(message, light=light))

    async def schemas(self) -> tuple[dict[str, list[Any]], catalogue.Schemas]:
        """All methods and tasks, and the schemas of their parameters."""

        async def find() -> tuple[dict[str, list[Any]], catalogue.Schemas]:
            found = await self.in_thread(catalogue.entries)
            state = await self.in_thread(catalogue.state_of, found)
            known = await self.in_thread(catalogue.kept_schemas, state)
            if known is None:
                frame = await self.ask({"do": "schemas", "wanted": catalogue.wanted(found)}, light=True)
                known = frame.header["answer"]
                await self.in_thread(catalogue.keep_schemas, state, known)
            return found, known

        found: tuple[dict[str, list[Any]], catalogue.Schemas] = await self.listed.get("schemas", find)
        return found

    async def newest_jobs(self, state: str, limit: int) -> list[Job]:
        """The newest jobs as they are now, without their reports."""

        def read() -> list[Job]:
            return [replace(job, report=None) for job in self.store.jobs(state=state, limit=limit)]

        kept = await self.kept_jobs.get((state, limit), lambda: self.in_thread(read))
        return self.jobs.as_they_are(kept, state)

    def changed(self) -> None:
        """Something in the store is not as it was: lists and records are read anew."""
        self.lists.forget()
        self.kept_jobs.forget()
        self.records.forget()

    def close(self) -> None:
        """End the worker."""
        self.jobs.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _happened(self, event: Mapping[str, Any]) -> None:
        """Word from the worker, in the thread of the queue."""
        facts = dict(event)
        match facts.pop("event"):
            case "opened":
                name = facts.pop("model")
                self.opened = {**self.opened, name: facts}
            case "closed":
                closed = facts["model"]
                self.opened = {name: known for name, known in self.opened.items() if name != closed}
                self._soon(self.answers.forget, lambda key: key[1] == closed)
            case "ended":
                self.opened = {}
            case "state":
                self._soon(self.changed)

    def _soon(self, function: Callable[..., None], *args: Any) -> None:
        """Do something in the event loop, if it still runs."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)


async def while_here(request: Request, work: Any) -> Any:
    """The outcome of some work, given up when the visitor has left.

    Raises:
        Gone: nobody waits for it any more.
    """
    task = asyncio.ensure_future(work)
    try:
        while True:
            done, _ = await asyncio.wait([task], timeout=_CLOSELY)
            if done:
                return task.result()
            if await request.is_disconnected():
                raise Gone
    finally:
        task.cancel()


def worker_command(settings: Settings) -> list[str]:
    """The command line of the worker."""
    plugins = [word for plugin in settings.plugins for word in ("--plugin", str(plugin))]
    return [sys.executable, "-m", "cutaway.web.worker", *plugins]


def worker_environment(settings: Settings) -> dict[str, str]:
    """What the worker is told beside: the place of the store, whose password no list of processes shall show."""
    return {"CUTAWAY_STORE": settings.store} if settings.store else {}
