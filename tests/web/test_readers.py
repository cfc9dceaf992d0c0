"""A hundred readers at once while a model works: reading an index, a record and a slice costs about what a file costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

Server = Any  # see conftest
READERS, ROUNDS = 100, 5


async def read(port: int, paths: Sequence[str]) -> list[float]:
    """Seconds that each answer took, over one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    taken = []
    try:
        for path in paths:
            started = time.perf_counter()
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), (path, head)
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            taken.append(time.perf_counter() - started)
            await asyncio.sleep(0.05)  # a reader looks at what came
    finally:
        writer.close()
        await writer.wait_closed()
    return taken


async def together(port: int, paths: Sequence[str]) -> list[float]:
    """The seconds of a hundred readers, each of whom begins at another path."""
    turned = [[paths[(turn + step) % len(paths)] for step in range(ROUNDS)] for turn in range(READERS)]
    found = await asyncio.gather(*(read(port, mine) for mine in turned))
    return sorted(second for each in found for second in each)


def p99(seconds: Sequence[float]) -> float:
    return seconds[int(0.99 * len(seconds))]


@pytest.fixture
def busy(server: Server) -> Any:
    """A job that runs all the while."""
    body = {"kind": "method", "model": server.model, "method": "patching", "task": "ioi", "parameters": {}}
    job = server.post("/api/jobs", {**body, "task_parameters": {"n": 20000}}).json["id"]
    server.wait(job, "running")
    yield job
    server.post(f"/api/jobs/{job}/cancel")
    server.wait(job, seconds=40)


@pytest.mark.all  # a ratio of times: a loaded machine says little
def test_reading_goes_on_while_a_job_runs(server: Server, kept: dict[str, Any], busy: str) -> None:
    id = kept["results"][0]
    result = f"/api/results/{id}"
    paths = [
        result,
        f"{result}/array/entropy?layer=1",
        f"{result}/array/token",
        "/api/results",
        "/api/methods",
        f"/api/jobs/{busy}",
    ]
    asyncio.run(together(server.port, paths))
    ratios = []
    for _ in range(3):
        file = p99(asyncio.run(together(server.port, ["/icon.svg"])))
        ratios.append(p99(asyncio.run(together(server.port, paths))) / file)
    print(
        f"p99 of reading / p99 of a static file: {[round(ratio, 2) for ratio in ratios]}; the file {file * 1000:.0f} ms"
    )
    assert server.get(f"/api/jobs/{busy}").json["state"] == "running"
    assert min(ratios) < 4
