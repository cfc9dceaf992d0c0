"""What all endpoints use: the workbench behind the request, and how failures are described."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Request

from cutaway.web.records import Failure
from cutaway.web.workbench import Workbench

FAILURES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Failure, "description": "What happened, what is allowed, and what to write instead."}
}
BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}

ResultId = Annotated[str, Path(pattern="^[0-9a-f]{4,64}$", description="Id of a result, or how it begins.")]
WholeId = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="Id of a result.")]
JobId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="Id of a job.")]


def bench_of(request: Request) -> Workbench:
    """The workbench that answers this request."""
    bench: Workbench = request.app.state.bench
    return bench
