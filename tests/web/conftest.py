"""A real server in a process of its own, on a tiny model and a fresh store, and a client that sends what it is told."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import psutil
import pytest

PROMPT = "The capital of France is"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, str]:
        found: dict[str, str] = self.json["error"]
        return found


@dataclass
class Server:
    """A running `cutaway serve`."""

    url: str
    process: subprocess.Popen[str]
    store: Path
    model: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def send(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout: float = 90
    ) -> Answer:
        """Send exactly this; a body that is not bytes goes as JSON."""
        sent = {**self.headers}
        if body is not None and not isinstance(body, bytes):
            body, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        sent |= dict(headers or {})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in {"Host": f"127.0.0.1:{self.port}", **sent}.items():
                connection.putheader(name, value)
            if body is not None and "Transfer-Encoding" not in sent:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def get(self, path: str, **query: Any) -> Answer:
        return self.send("GET", f"{path}?{urlencode(query)}" if query else path)

    def post(self, path: str, body: Any = None) -> Answer:
        return self.send("POST", path, body)

    def run(self, **spec: Any) -> dict[str, Any]:
        """Run a job to its end."""
        answer = self.post("/api/jobs", {"model": self.model, **spec})
        assert answer.status == 202, answer.body
        return self.wait(answer.json["id"])

    def wait(self, job: str, *states: str, seconds: float = 90) -> dict[str, Any]:
        """The job once it is over, or in one of these states."""
        wanted = states or ("done", "failed", "cancelled", "interrupted")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            record: dict[str, Any] = self.get(f"/api/jobs/{job}").json
            if record["state"] in wanted:
                return record
            time.sleep(0.05)
        raise AssertionError(f"the job is still {record['state']} ({record['what']})")

    def worker(self) -> int:
        """Process of its worker."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            for child in psutil.Process(self.process.pid).children():
                with contextlib.suppress(psutil.Error):
                    if "cutaway.web.worker" in child.cmdline():
                        return child.pid
            time.sleep(0.05)
        raise AssertionError("there is no worker")

    @staticmethod
    def gone(pid: int, seconds: float = 15) -> bool:
        """Whether a process ends within this time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(psutil.Error):
                if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                    time.sleep(0.05)
                    continue
            return True
        return False

    def stop(self) -> int:
        """Ctrl-C, and the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)


def _start(store: Path, *options: str, plugins: tuple[str, ...] = (), **environment: str) -> Server:
    """Start `cutaway serve` and wait for its address."""
    before = [word for plugin in plugins for word in ("--plugin", plugin)]
    command = [sys.executable, "-m", "cutaway", *before, "serve", "--no-browser", "--store", str(store), *options]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUTAWAY_CACHE": str(store.parent / "cache"), **environment}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line.startswith("http://"), f"it said {line!r} and ended with {process.poll()}"
    return Server(line, process, store)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from cutaway import tasks
    from cutaway.testing import texts_of, tiny_folder

    texts = [f"{PROMPT} Paris", "The capital of Italy is Rome", *texts_of(tasks.ioi(n=8))]
    return tiny_folder(tmp_path_factory.mktemp("tiny"), texts=texts)


@pytest.fixture(scope="session")
def start() -> Iterator[Callable[..., Server]]:
    """Starts servers: `start(store, *options, plugins=(), **environment)`; what still runs is stopped in the end."""
    started: list[Server] = []

    def run(store: Path, *options: str, plugins: tuple[str, ...] = (), **environment: str) -> Server:
        started.append(_start(store, *options, plugins=plugins, **environment))
        return started[-1]

    yield run
    for server in started:
        server.stop()
        server.process.stdout.close()  # type: ignore[union-attr]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, start: Callable[..., Server]) -> Server:
    """A server with the tiny model, shared by tests that leave it as it was."""
    running = start(tmp_path_factory.mktemp("served") / "store", "--model", str(model_folder))
    running.model = str(model_folder)
    return running


@pytest.fixture(scope="session")
def kept(server: Server) -> dict[str, Any]:
    """A finished job with a kept result."""
    job = server.run(kind="method", method="logit_lens", prompts={"prompts": [PROMPT]}, parameters={"top": 3})
    assert job["state"] == "done", job["error"]
    return job
